//! [`Call`]: a repeatable call of one method with fixed arguments.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{
    CallError, CallOptions, Caller, CallerItems, Codec, Error, MethodInfo, Reply, Request, ServiceId, Streaming,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// A call that can be repeated.
#[derive(Clone)]
pub(crate) struct Call {
    client: Client,
    method: &'static MethodInfo,
    arguments: Value,
    options: CallOptions,
    streams: Streams,
}

/// The streams of a call. The default has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    /// The items that each call sends; `None` if the method reads no stream.
    pub(crate) sent: Option<Arc<[Value]>>,
    /// How often each call sends the items.
    pub(crate) repeat: usize,
    /// Whether the method returns a stream.
    pub(crate) received: bool,
    /// The number of items after which a call ends its stream.
    pub(crate) take: Option<u64>,
}

/// The numbers of items of all calls.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// A call that has ended without an error of the framework.
pub(super) struct Ended {
    pub(super) peer: Option<SocketAddr>,
    /// The service's own error.
    pub(super) error: Option<String>,
    /// Whether the stream was open at the end of the load.
    pub(super) is_open: bool,
}

impl Call {
    /// Creates a call. The method remains in memory until the end of the program.
    pub(crate) fn new(client: Client, service: &ServiceId, method: &str, arguments: Value, streams: Streams) -> Self {
        let mut method = MethodInfo::new(service.clone(), method);
        if streams.sent.is_some() {
            method = method.sends_items();
        }
        if streams.received {
            method = method.returns_items();
        }
        let mut options = CallOptions::default();
        options.codec = Some(Codec::Json);
        Self { client, method: Box::leak(Box::new(method)), arguments, options, streams }
    }

    /// Limits the duration of each call; for a method that returns a stream, until the provider has accepted the call.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Returns the options of each call.
    pub(crate) fn options_mut(&mut self) -> &mut CallOptions {
        &mut self.options
    }

    /// Makes one call. Ends a stream of the callee when the call was accepted.
    pub(crate) async fn once(&self) -> Result<(), Error> {
        self.send(&Arc::default()).await.map(drop)
    }

    /// Makes one call, and reads the stream of the callee until its end or `end`.
    pub(super) async fn run(&self, end: Instant, items: &Arc<Items>) -> Result<Ended, Error> {
        let reply = self.send(items).await?;
        let mut ended = Ended { peer: reply.peer, error: None, is_open: false };
        if reply.is_application_error {
            ended.error = Some(text(&reply));
            return Ok(ended);
        }
        if !self.streams.received {
            return Ok(ended);
        }
        let mut stream: Streaming<Value, Value> = Streaming::of_reply(reply, self.method)?;
        let mut left = self.streams.take;
        while left != Some(0) {
            match timeout_at(end, stream.next()).await {
                Ok(Some(Ok(_))) => _ = items.received.fetch_add(1, Relaxed),
                Ok(Some(Err(CallError::Service(error)))) => {
                    ended.error = Some(error.to_string());
                    break;
                }
                Ok(Some(Err(CallError::Rpc(error)))) => return Err(error),
                Ok(None) => break,
                Err(_) => {
                    ended.is_open = true;
                    break;
                }
            }
            left = left.map(|left| left - 1);
        }
        Ok(ended)
    }

    async fn send(&self, items: &Arc<Items>) -> Result<Reply, Error> {
        let mut options = self.options.clone();
        if let Some(sent) = &self.streams.sent {
            let (sent, items) = (Arc::clone(sent), Arc::clone(items));
            let all = (0..self.streams.repeat).flat_map(move |_| {
                (0..sent.len()).map({
                    let sent = Arc::clone(&sent);
                    move |number| sent[number].clone()
                })
            });
            let counted = all.inspect(move |_| _ = items.sent.fetch_add(1, Relaxed));
            options.items = Some(CallerItems::new(Streaming::<Value>::from_iterator(counted)));
        }
        self.client.call(Request { method: self.method, arguments: self.arguments.clone(), options }).await
    }
}

/// Returns the payload of an answer as text.
fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.payload.bytes).into_owned()
}
