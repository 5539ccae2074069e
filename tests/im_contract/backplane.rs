//! The contract of [`Backplane`]: tests that each engine passes. A test does nothing if the machine lacks the engine.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_core::{Code, Error};
use rpc_im::backplane::{Backplane, BackplaneError, MAX_MESSAGE, NatsBackplane, RabbitMqBackplane, Received};

use crate::{
    engines::{nats::NatsServer, rabbitmq::RabbitMqServer},
    in_time,
    relay::free_address,
    until_error, until_ok,
};

/// A server of an engine.
#[expect(async_fn_in_trait, reason = "the tests run on one thread")]
pub trait Engine: Sized {
    /// The implementation.
    type Backplane: Backplane;

    /// Starts a server, if this machine has the engine.
    async fn start() -> Option<Self>;

    /// Returns the URL with the password.
    fn url(&self) -> String;

    /// Returns the address on which the server listens.
    fn address(&self) -> SocketAddr;

    /// Returns a URL with this password.
    fn url_of(address: SocketAddr, password: &str) -> String;

    /// Connects a node to a URL.
    async fn connect_to(url: &str) -> Result<Self::Backplane, Error>;

    /// Kills the server.
    fn kill(&mut self);

    /// Starts the server again.
    async fn restart(&mut self);

    /// Connects a node to the server.
    async fn connect(&self) -> Self::Backplane {
        in_time(Self::connect_to(&self.url())).await.unwrap()
    }
}

impl Engine for NatsServer {
    type Backplane = NatsBackplane;

    async fn start() -> Option<Self> {
        Self::start().await
    }

    fn url(&self) -> String {
        self.url()
    }

    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn url_of(address: SocketAddr, password: &str) -> String {
        format!("nats://im:{password}@{address}")
    }

    async fn connect_to(url: &str) -> Result<NatsBackplane, Error> {
        NatsBackplane::connect(url).await
    }

    fn kill(&mut self) {
        self.kill();
    }

    async fn restart(&mut self) {
        self.restart().await;
    }
}

impl Engine for RabbitMqServer {
    type Backplane = RabbitMqBackplane;

    async fn start() -> Option<Self> {
        Self::start().await
    }

    fn url(&self) -> String {
        self.url()
    }

    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn url_of(address: SocketAddr, password: &str) -> String {
        format!("amqp://guest:{password}@{address}/%2f")
    }

    async fn connect_to(url: &str) -> Result<RabbitMqBackplane, Error> {
        RabbitMqBackplane::connect(url).await
    }

    fn kill(&mut self) {
        self.kill();
    }

    async fn restart(&mut self) {
        self.restart().await;
    }
}

async fn publish(backplane: &impl Backplane, message: impl Into<Bytes>) {
    backplane.publish(message.into()).await.unwrap();
}

/// Publishes until the backplane accepts the message.
async fn publish_when_connected(backplane: &impl Backplane, message: &'static str) {
    until_ok(async || backplane.publish(message.into()).await).await;
}

/// Waits for the next message, and fails for a gap.
async fn message(backplane: &impl Backplane) -> Bytes {
    match in_time(backplane.next()).await {
        Received::Message(message) => message,
        Received::Gap => panic!("unexpected gap"),
    }
}

/// Waits for a gap or a message, and skips everything before it.
async fn until(backplane: &impl Backplane, expected: Received) {
    in_time(async { while backplane.next().await != expected {} }).await;
}

/// All nodes except the sender receive a message.
pub async fn message_reaches_all_other_nodes<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, two, three) = (engine.connect().await, engine.connect().await, engine.connect().await);
    publish(&one, "1").await;
    assert_eq!(message(&two).await, "1");
    assert_eq!(message(&three).await, "1");
    publish(&two, "2").await;
    assert_eq!(message(&one).await, "2", "a node does not receive its own messages");
    assert_eq!(message(&three).await, "2");
    publish(&three, "").await;
    assert_eq!(message(&two).await, "");
}

/// The messages of a node arrive in order.
pub async fn messages_of_a_node_arrive_in_order<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, other) = (engine.connect().await, engine.connect().await);
    for number in 0..2000_u32 {
        // The queue is bounded.
        until_ok(async || one.publish(Bytes::copy_from_slice(&number.to_be_bytes())).await).await;
    }
    for number in 0..2000_u32 {
        assert_eq!(message(&other).await, number.to_be_bytes()[..]);
    }
}

/// A message of the maximum size arrives; a larger one is rejected.
pub async fn message_above_the_limit_is_rejected<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, other) = (engine.connect().await, engine.connect().await);
    let (size, limit) = (MAX_MESSAGE + 1, MAX_MESSAGE);
    let rejected = one.publish(vec![0; size].into()).await;
    assert_eq!(rejected, Err(BackplaneError::TooLarge { size, limit }));
    publish(&one, vec![7; MAX_MESSAGE]).await;
    assert!(message(&other).await == vec![7; MAX_MESSAGE]);
}

/// Dropping the future of `next` loses no message.
pub async fn dropped_wait_loses_no_message<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, other) = (engine.connect().await, engine.connect().await);
    for number in ["1", "2", "3"] {
        publish(&one, number).await;
        let mut waiting = other.next();
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context))).await;
        drop(waiting);
        match polled {
            std::task::Poll::Ready(received) => assert_eq!(received, Received::Message(number.into())),
            std::task::Poll::Pending => assert_eq!(message(&other).await, number),
        }
    }
}

/// All nodes report a gap after a restart of the engine, and receive later messages.
pub async fn restarted_engine_reports_a_gap<E: Engine>() {
    let Some(mut engine) = E::start().await else { return };
    let (one, other) = (engine.connect().await, engine.connect().await);
    publish(&one, "before").await;
    assert_eq!(message(&other).await, "before");
    engine.kill();
    let is_unavailable = |error: &BackplaneError| matches!(error, BackplaneError::Unavailable(_));
    until_error(async || one.publish("lost".into()).await, is_unavailable).await;
    engine.restart().await;
    for backplane in [&one, &other] {
        until(backplane, Received::Gap).await;
    }
    publish_when_connected(&one, "after").await;
    until(&other, Received::Message("after".into())).await;
    publish_when_connected(&other, "answer").await;
    until(&one, Received::Message("answer".into())).await;
}

/// The error of a failed connect names the server, and does not contain the password.
pub async fn wrong_password_is_not_in_the_error<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let url = E::url_of(engine.address(), "hunter2");
    let error = in_time(E::connect_to(&url)).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    let text = format!("{error:?}{error}");
    assert!(text.contains(&engine.address().to_string()) && !text.contains("hunter2"), "{text}");
    let unreachable = in_time(E::connect_to(&E::url_of(free_address(), "hunter2"))).await.err().unwrap();
    assert_eq!(unreachable.code(), Code::Unavailable);
    let malformed = in_time(E::connect_to("nonsense://im:hunter2@[")).await.err().unwrap();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    assert!(!format!("{unreachable:?}{malformed:?}").contains("hunter2"));
}
