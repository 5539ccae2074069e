//! Two users chat: across nodes, after the loss of a node, with unread counts, receipts and presence.

use serde_json::json;
use tests::browser::Browser;

use super::{
    BODIES, Cluster, DESKTOP, NODE, PHONE, STATE, UNREAD, close, open_chat_with, open_first, readable::assert_readable,
    send_message, sign_in, sign_out, until_messages,
};

/// The sequence numbers of the displayed messages.
const SEQUENCE_NUMBERS: &str =
    "[...document.querySelectorAll('#messages .message')].map(message => Number(message.dataset.seq))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_continue_chat_after_node_is_killed() {
    let Some(mut ann) = Browser::start().await else { return };
    let Some(mut bo) = Browser::start().await else { return };
    let mut cluster = Cluster::start(3).await;
    ann.show_on(DESKTOP).await;
    bo.show_on(PHONE).await;

    ann.open(&cluster.nodes.base(0)).await;
    assert_readable(&mut ann, "sign-in", DESKTOP).await;
    sign_in(&mut ann, "ann").await;
    assert_readable(&mut ann, "empty", DESKTOP).await;
    bo.open(&cluster.nodes.base(1)).await;
    assert_readable(&mut bo, "phone-sign-in", PHONE).await;
    sign_in(&mut bo, "bo").await;
    let node = ann.evaluate(NODE).await;
    // The gate may select the same node again. Node 1 has the store, so it is not killed.
    while [&node, &json!("1")].contains(&&bo.evaluate(NODE).await) {
        sign_out(&mut bo).await;
        sign_in(&mut bo, "bo").await;
    }

    // Ann creates the conversation with the keyboard only.
    ann.evaluate("document.querySelector('#new').focus()").await;
    ann.press("Enter").await;
    ann.until("document.querySelector('#begin').open && document.activeElement.id === 'members'").await;
    assert_readable(&mut ann, "begin", DESKTOP).await;
    ann.write("bo").await;
    ann.press("Enter").await;
    ann.until("document.activeElement.id === 'compose'").await;
    let mut bodies = vec!["Hello bo, are you there?".to_owned()];
    send_message(&mut ann, &bodies[0]).await;
    until_messages(&mut ann, &bodies).await;
    bo.until(&format!("{UNREAD} === '1'")).await;
    assert_readable(&mut bo, "phone-list", PHONE).await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &bodies).await;
    for (number, text) in
        ["Yes, on another node.", "I see which one below.", "And it works? 😀"].into_iter().enumerate()
    {
        bodies.push(text.to_owned());
        send_message(if number % 2 == 0 { &mut bo } else { &mut ann }, text).await;
        until_messages(&mut ann, &bodies).await;
        until_messages(&mut bo, &bodies).await;
    }

    // Kills the node of one user; the other user sends messages immediately.
    let killed = bo.evaluate(NODE).await;
    let number: usize = killed.as_str().and_then(|name| name.parse().ok()).expect("a node's name is its number");
    cluster.nodes.kill(number - 1).await;
    for body in ["Your node was just killed.", "You will read this all the same."] {
        send_message(&mut ann, body).await;
        bodies.push(body.to_owned());
    }
    until_messages(&mut bo, &bodies).await;
    bo.until(&format!("{NODE} && {NODE} !== {killed}")).await;
    super::until_note(&mut bo, " lost, connected to node ").await;
    bodies.push("So I did, and nothing came twice.".to_owned());
    send_message(&mut bo, &bodies[bodies.len() - 1]).await;
    for browser in [&mut ann, &mut bo] {
        until_messages(browser, &bodies).await;
        browser.until("!document.querySelector('#messages .pending')").await;
        let expected: Vec<_> = (1..=bodies.len()).collect();
        assert_eq!(browser.evaluate(SEQUENCE_NUMBERS).await, json!(expected));
    }
    assert_readable(&mut ann, "chat", DESKTOP).await;
    assert_readable(&mut bo, "phone-chat", PHONE).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_restores_conversations_after_reload() {
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "first").await;
    ann.until(&format!("{STATE} === 'stored'")).await;
    ann.open(&cluster.nodes.base(0)).await;
    open_first(&mut ann).await;
    until_messages(&mut ann, &["first"]).await;
    close([ann]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_counts_unread_messages() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    open_chat_with(&mut ann, "bo").await;
    for body in ["one", "two", "three"] {
        send_message(&mut ann, body).await;
    }
    bo.until(&format!("{UNREAD} === '3' && document.title.startsWith('(3) ')")).await;
    // The node counts them, too.
    bo.open(&cluster.nodes.base(1)).await;
    bo.until(&format!("{UNREAD} === '3'")).await;
    open_first(&mut bo).await;
    bo.until(&format!("{UNREAD} === undefined && document.querySelector('#messages .divider')")).await;
    // The report of the reader reached the cluster before the sender received it.
    ann.until(&format!("{STATE} === 'read'")).await;
    bo.open(&cluster.nodes.base(1)).await;
    bo.until("document.querySelector('#conversations').innerText.includes('three')").await;
    bo.until(&format!("{UNREAD} === undefined")).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_shows_delivery_and_read_receipts() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "hello").await;
    ann.until(&format!("{STATE} === 'stored'")).await;
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    ann.until(&format!("{STATE} === 'delivered'")).await;
    open_first(&mut bo).await;
    ann.until(&format!("{STATE} === 'read'")).await;
    // After a reload, the page requests the receipts of earlier messages.
    ann.open(&cluster.nodes.base(0)).await;
    open_first(&mut ann).await;
    ann.until(&format!("{STATE} === 'read'")).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_reports_no_read_without_focus() {
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(0, "bo").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "one").await;
    bo.until(&format!("{UNREAD} === '1'")).await;
    open_first(&mut bo).await;
    ann.until(&format!("{STATE} === 'read'")).await;
    bo.evaluate("document.hasFocus = () => false").await;
    send_message(&mut ann, "two").await;
    until_messages(&mut bo, &["one", "two"]).await;
    bo.until(&format!("{UNREAD} === '1'")).await;
    ann.until(&format!("{STATE} === 'delivered'")).await;
    bo.evaluate("delete document.hasFocus; dispatchEvent(new Event('focus'))").await;
    ann.until(&format!("{STATE} === 'read'")).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_shows_presence_of_other_user() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "hello").await;
    let note = "document.querySelector('#peer-note').textContent";
    ann.until(&format!("{note} === 'offline'")).await;
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    ann.until(&format!("{note} === 'online' && document.querySelector('#conversations .face.online')")).await;
    sign_out(&mut bo).await;
    ann.until(&format!("{note} === 'offline' && !document.querySelector('#conversations .face.online')")).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_loads_earlier_messages_on_scroll() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    open_chat_with(&mut ann, "bo").await;
    let bodies: Vec<_> = (1..=130).map(|number| format!("message {number}")).collect();
    // The node accepts 20 messages per second, so the page repeats rejected ones.
    let send = "compose.value = body; composer.requestSubmit()";
    ann.evaluate(&format!("for (const body of {}) {{ {send} }}", json!(bodies))).await;
    ann.until("document.querySelectorAll('#messages .message').length === 130").await;
    ann.until("!document.querySelector('#messages .pending')").await;
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    open_first(&mut bo).await;
    until_messages(&mut bo, &bodies[80..]).await;
    let top = "document.querySelector('#messages').scrollTop";
    bo.evaluate(&format!("{top} = 0")).await;
    bo.until(&format!("{BODIES}.length === 100")).await;
    bo.until(&format!("{top} > 0")).await;
    while bo.evaluate(&format!("{BODIES}.length")).await != json!(130) {
        bo.evaluate(&format!("{top} = 0")).await;
    }
    until_messages(&mut bo, &bodies).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_shows_presence_in_new_conversation() {
    let cluster = Cluster::start(2).await;
    let Some(bo) = cluster.sign_in(1, "bo").await else { return };
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "hello").await;
    ann.until("document.querySelector('#peer-note').textContent === 'online'").await;
    close([ann, bo]).await;
}
