//! [`RabbitMqBackplane`]: broadcast through RabbitMQ.
//!
//! All nodes publish to the fanout exchange `im.broadcast`. Each has an exclusive queue, which the server removes with
//! the connection. A server that blocks publishers, for example because its disk is full, counts as not connected.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};
use rpc_core::{BoxFuture, Code, Error, contained};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{Backplane, BackplaneError, MAX_MESSAGE, Received, frame::Frame, inbox::Inbox};

/// Broadcast through RabbitMQ. Dropping it closes the connection.
pub struct RabbitMqBackplane {
    address: String,
    sender: u64,
    outbox: Mutex<Outbox>,
    inbox: Arc<Inbox>,
    connected: watch::Receiver<bool>,
    /// The driver, which ends with the last reference to this.
    _driver: JoinSet<()>,
}

/// Numbers messages in the order in which they are queued.
struct Outbox {
    number: u64,
    queue: mpsc::Sender<Bytes>,
}

/// Transfers messages between the queues and the server, and connects again.
struct Driver {
    uri: AMQPUri,
    address: String,
    outbox: mpsc::Receiver<Bytes>,
    inbox: Arc<Inbox>,
    connected: watch::Sender<bool>,
}

/// A connection with the queue of this node.
struct Link {
    channel: Channel,
    consumer: Consumer,
    /// Closes when dropped.
    _connection: Connection,
}

impl RabbitMqBackplane {
    /// Connects to a server: `amqp://user:password@host:port/vhost`. TLS is not supported.
    ///
    /// No error contains the password.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] if the URL is invalid, [`Code::Unimplemented`] for `amqps:`, and
    /// [`Code::Unavailable`] if the server does not answer or rejects the credentials.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        // The error of the parser may contain the URL, which may have a password.
        let mut uri: AMQPUri = url.parse().map_err(|_| {
            let message = "invalid RabbitMQ URL, expected amqp://user:password@host:port/vhost";
            Error::not_executed(Code::InvalidArgument, message)
        })?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(Error::not_executed(Code::Unimplemented, "the RabbitMQ backplane does not support TLS"));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let address = format!("{}:{}", uri.authority.host, uri.authority.port);
        let link = Link::open(&uri)
            .await
            .map_err(|reason| Error::not_executed(Code::Unavailable, format!("rabbitmq at {address}: {reason}")))?;
        let sender = rand::random();
        let inbox = Arc::new(Inbox::new(sender));
        let (queue, outbox) = mpsc::channel(MAX_OUTBOX);
        let (connected_sender, connected) = watch::channel(true);
        let driver =
            Driver { uri, address: address.clone(), outbox, inbox: Arc::clone(&inbox), connected: connected_sender };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(link));
        Ok(Self { address, sender, outbox: Mutex::new(Outbox { number: 0, queue }), inbox, connected, _driver: tasks })
    }

    fn enqueue(&self, message: Bytes) -> Result<(), BackplaneError> {
        if message.len() > MAX_MESSAGE {
            return Err(BackplaneError::TooLarge { size: message.len(), limit: MAX_MESSAGE });
        }
        if !*self.connected.borrow() {
            return Err(BackplaneError::Unavailable(format!("rabbitmq at {}: not connected", self.address)));
        }
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = Frame { sender: self.sender, number: outbox.number + 1, message };
        outbox.queue.try_send(frame.encode()).map_err(|_| BackplaneError::Overloaded)?;
        outbox.number += 1;
        Ok(())
    }
}

impl Backplane for RabbitMqBackplane {
    fn publish(&self, message: Bytes) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move { self.enqueue(message) })
    }

    fn next(&self) -> BoxFuture<'_, Received> {
        Box::pin(self.inbox.next())
    }
}

impl Driver {
    /// Serves one connection after the other, until dropped.
    async fn run(mut self, mut link: Link) {
        let mut pause = MIN_PAUSE;
        loop {
            let opened = Instant::now();
            let reason = self.serve(&mut link).await;
            self.connected.send_replace(false);
            contained(|| warn!(rabbitmq = %self.address, reason, "lost the connection to rabbitmq"));
            if opened.elapsed() >= STABLE_TIME {
                pause = MIN_PAUSE;
            }
            link = loop {
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                match Link::open(&self.uri).await {
                    Ok(link) => break link,
                    Err(reason) => {
                        contained(|| warn!(rabbitmq = %self.address, reason, "cannot connect to rabbitmq"));
                    }
                }
            };
            // The new queue is bound: the messages that this node does not receive are before the gap.
            self.inbox.push_gap();
            self.connected.send_replace(true);
            contained(|| info!(rabbitmq = %self.address, "connected to rabbitmq"));
        }
    }

    /// Serves a connection until it fails; returns the reason.
    async fn serve(&mut self, link: &mut Link) -> String {
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                delivery = link.consumer.next() => match delivery {
                    Some(Ok(delivery)) => drop(self.inbox.handle_frame(&Bytes::from(delivery.data))),
                    Some(Err(error)) => return error.to_string(),
                    None => return "the server cancelled the consumer".to_owned(),
                },
                Some(frame) = self.outbox.recv() => {
                    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                    let publish = link.channel.basic_publish(EXCHANGE.into(), "".into(), options, &frame, properties);
                    match timeout(ANSWER_TIME, publish).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return error.to_string(),
                        Err(_) => return "the server does not accept messages".to_owned(),
                    }
                }
            }
        }
    }
}

impl Link {
    /// Connects, and creates the exchange and the queue of this node.
    async fn open(uri: &AMQPUri) -> Result<Self, String> {
        let opened = timeout(CONNECT_TIME, Self::try_open(uri)).await;
        opened.map_err(|_| "no answer within 5 s".to_owned())?.map_err(|error| error.to_string())
    }

    async fn try_open(uri: &AMQPUri) -> Result<Self, lapin::Error> {
        let connection = Connection::connect_uri(uri.clone(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let exchange = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, exchange, FieldTable::default()).await?;
        let queue = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut limits = FieldTable::default();
        limits.insert("x-max-length".into(), AMQPValue::LongInt(MAX_QUEUED));
        limits.insert("x-max-length-bytes".into(), AMQPValue::LongInt(MAX_QUEUED_BYTES));
        let queue = channel.queue_declare("".into(), queue, limits).await?.name().clone();
        let none = FieldTable::default();
        channel.queue_bind(queue.clone(), EXCHANGE.into(), "".into(), QueueBindOptions::default(), none).await?;
        let consume = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
        let consumer = channel.basic_consume(queue, "".into(), consume, FieldTable::default()).await?;
        Ok(Self { channel, consumer, _connection: connection })
    }
}

const EXCHANGE: &str = "im.broadcast";
/// The maximum number of messages that wait to be sent.
const MAX_OUTBOX: usize = 1024;
/// The maximum number of messages in the server's queue of a node; the server drops older ones.
const MAX_QUEUED: i32 = 10_000;
/// The maximum size of the messages in the server's queue of a node.
const MAX_QUEUED_BYTES: i32 = 64 << 20;
/// The interval of heartbeats, unless the URL sets another. A connection ends after two intervals without an answer.
const HEARTBEAT_SECONDS: u16 = 5;
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(1);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The time after which a connection counts as stable, so that the next pause is short again.
const STABLE_TIME: Duration = Duration::from_secs(10);
