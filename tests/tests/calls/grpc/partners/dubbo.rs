//! A consumer of Dubbo 3 in Java calls providers at `tri://` addresses. The registry is a case of `registry::dubbo`.

use std::net::Ipv6Addr;

use tests::{
    foreign::{DUBBO_CONSUMER, has_ipv6_loopback},
    in_time,
};

use super::{Examples, shop::shop_at};

#[tokio::test]
async fn dubbo_consumer_calls_example_providers() {
    if !has_ipv6_loopback() {
        return;
    }
    // Dubbo replaces an IPv4 loopback address by another address of the machine.
    let examples = Examples::start_at(Ipv6Addr::LOCALHOST.into()).await;
    let Some(mut consumer) = DUBBO_CONSUMER.command(examples.directory.path()).await else { return };
    for provider in [&examples.provider, &examples.feed] {
        consumer.arg(format!("tri://{}", provider.address()));
    }
    let expected = [
        &format!("hello: Hello Zoë, from {}", examples.provider.address()),
        "empty name: FAILED_PRECONDITION \"EmptyName\"",
        "good 1: teapot 2499",
        "prices: 3 in order true",
        "uploaded: 1000000",
        "remark: Bo one",
        "remark: Bo two",
    ];
    assert_eq!(examples.lines(consumer).await, expected);
}

#[tokio::test]
async fn attachments_of_dubbo_are_metadata() {
    if !has_ipv6_loopback() {
        return;
    }
    let (serving, home) = (shop_at(Ipv6Addr::LOCALHOST.into()).await, tempfile::tempdir().unwrap());
    let Some(mut consumer) = DUBBO_CONSUMER.command(home.path()).await else { return };
    consumer.arg(format!("tri://{}", serving.address()));
    let output = in_time(consumer.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().next(), Some("hello: Hello Zoë of a"), "{text}{errors}");
}
