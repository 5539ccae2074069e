//! [`NatsBackplane`]: broadcast through NATS.
//!
//! All nodes publish to the subject `im.broadcast`, and subscribe to it. After each reconnect a node publishes a marker
//! and reports a gap when it receives its marker: then the server has processed the subscription.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use percent_encoding::percent_decode_str;
use rpc_core::{BoxFuture, Code, Error, contained};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinSet, unconstrained},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Backplane, BackplaneError, MAX_MESSAGE, Received,
    frame::{Frame, HEADER},
    inbox::{Handled, Inbox},
};

/// Broadcast through NATS. Dropping it closes the connection.
pub struct NatsBackplane {
    address: String,
    client: Client,
    sender: u64,
    /// The number of the last message.
    number: Mutex<u64>,
    inbox: Arc<Inbox>,
    /// The driver, which ends with the last reference to this.
    _driver: JoinSet<()>,
}

/// Receives messages, and sends a marker after each reconnect.
struct Driver {
    address: String,
    client: Client,
    subscriber: Subscriber,
    sender: u64,
    inbox: Arc<Inbox>,
    /// The number of connections so far.
    connections: watch::Receiver<u64>,
    /// Completed by the first marker.
    ready: Option<oneshot::Sender<()>>,
}

impl NatsBackplane {
    /// Connects to a cluster: `nats://[user:password@]host:port[,host:port …]`, or `tls:` for TLS.
    ///
    /// A user without a password is a token. The credentials apply to all servers.
    ///
    /// No error contains the password.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] if the URL is invalid, and [`Code::Unavailable`] if no server answers or the server
    /// rejects the credentials.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let (servers, options) = parse(url).ok_or_else(|| {
            let message = "invalid NATS URL, expected nats://[user:password@]host:port";
            Error::not_executed(Code::InvalidArgument, message)
        })?;
        let addresses: Vec<_> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        let address = addresses.join(",");
        let unavailable =
            |reason: String| Error::not_executed(Code::Unavailable, format!("nats at {address}: {reason}"));
        let sender = rand::random();
        let inbox = Arc::new(Inbox::new(sender));
        let (connected, connections) = watch::channel(0);
        let events = Arc::clone(&inbox);
        let options = options
            .connection_timeout(CONNECT_TIME)
            .ping_interval(PING_INTERVAL)
            .client_capacity(MAX_OUTBOX)
            .subscription_capacity(MAX_SUBSCRIPTION)
            .event_callback(move |event| {
                match event {
                    Event::Connected => connected.send_modify(|connections| *connections += 1),
                    Event::SlowConsumer(_) => events.push_gap(),
                    _ => {}
                }
                std::future::ready(())
            });
        let client = match timeout(CONNECT_TIME, options.connect(servers)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => return Err(unavailable(NO_ANSWER.to_owned())),
        };
        let subscriber = client.subscribe(SUBJECT).await.map_err(|error| unavailable(error.to_string()))?;
        let (ready, is_ready) = oneshot::channel();
        let driver = Driver {
            address: address.clone(),
            client: client.clone(),
            subscriber,
            sender,
            inbox: Arc::clone(&inbox),
            connections,
            ready: Some(ready),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        match timeout(CONNECT_TIME, is_ready).await {
            Ok(Ok(())) => Ok(Self { address, client, sender, number: Mutex::new(0), inbox, _driver: tasks }),
            Ok(Err(_)) | Err(_) => Err(unavailable(NO_ANSWER.to_owned())),
        }
    }

    fn enqueue(&self, message: Bytes) -> Result<(), BackplaneError> {
        let limit = MAX_MESSAGE.min(self.client.max_payload().saturating_sub(HEADER));
        if message.len() > limit {
            return Err(BackplaneError::TooLarge { size: message.len(), limit });
        }
        let unavailable = |reason: &str| BackplaneError::Unavailable(format!("nats at {}: {reason}", self.address));
        if self.client.connection_state() != State::Connected {
            return Err(unavailable("not connected"));
        }
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = Frame { sender: self.sender, number: *number + 1, message };
        // Only a full queue makes this wait.
        let published = unconstrained(self.client.publish(SUBJECT, frame.encode())).now_or_never();
        published.ok_or(BackplaneError::Overloaded)?.map_err(|error| unavailable(&error.to_string()))?;
        *number += 1;
        Ok(())
    }
}

impl Backplane for NatsBackplane {
    fn publish(&self, message: Bytes) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async move { self.enqueue(message) })
    }

    fn next(&self) -> BoxFuture<'_, Received> {
        Box::pin(self.inbox.next())
    }
}

impl Driver {
    /// Receives messages until the client is closed.
    async fn run(mut self) {
        self.send_marker().await;
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                message = self.subscriber.next() => match message {
                    Some(message) => {
                        if self.inbox.handle_frame(&message.payload) == Handled::OwnMarker {
                            self.handle_marker();
                        }
                    }
                    None => return,
                },
                Ok(()) = self.connections.changed() => {
                    // The first connection is the one that the first marker was sent on.
                    if *self.connections.borrow_and_update() > 1 {
                        self.send_marker().await;
                    }
                }
            }
        }
    }

    /// Completes the connect, or reports a gap after a reconnect.
    fn handle_marker(&mut self) {
        match self.ready.take() {
            Some(ready) => drop(ready.send(())),
            None => {
                self.inbox.push_gap();
                contained(|| info!(nats = %self.address, "connected to nats again"));
            }
        }
    }

    async fn send_marker(&self) {
        let marker = Frame::marker(self.sender).encode();
        let reason = match timeout(ANSWER_TIME, self.client.publish(SUBJECT, marker)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the queue is full".to_owned(),
        };
        // Without a marker, the gap may come before the subscription is active.
        self.inbox.push_gap();
        contained(|| warn!(nats = %self.address, reason, "cannot send a marker"));
    }
}

/// Returns the servers without credentials, and options with the credentials of the first server that has them.
///
/// The errors of the parser may contain the URL.
fn parse(url: &str) -> Option<(Vec<ServerAddr>, ConnectOptions)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
    let mut options = ConnectOptions::new();
    let mut has_credentials = false;
    let mut servers = Vec::new();
    for part in url.split(',') {
        let server: ServerAddr = part.parse().ok()?;
        if let Some(user) = server.username().filter(|_| !has_credentials) {
            has_credentials = true;
            let user = decode(user)?;
            options = match server.password() {
                Some(password) => options.user_and_password(user, decode(password)?),
                None => options.token(user),
            };
        }
        let mut url = server.into_inner();
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        servers.push(ServerAddr::from_url(url).ok()?);
    }
    Some((servers, options))
}

const SUBJECT: &str = "im.broadcast";
/// The maximum number of messages that wait to be sent.
const MAX_OUTBOX: usize = 1024;
/// The maximum number of messages between the connection and the driver.
const MAX_SUBSCRIPTION: usize = 8192;
const CONNECT_TIME: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "no answer within 5 s";
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// The interval of pings. The client connects again after two intervals without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_takes_credentials_off_the_servers() {
        let (servers, options) = parse("nats://a%40b:c%2Fd@one:1,two:2").unwrap();
        let urls: Vec<_> = servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, ["nats://one:1", "nats://two:2"]);
        assert!(!format!("{options:?}").contains("c/d"));
        for url in ["", "http://a:1", "nats://a:1,,", "nats://["] {
            assert!(parse(url).is_none(), "{url}");
        }
    }
}
