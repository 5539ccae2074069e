//! The contract `test.Wire:1.0`, and a server that serves it in the test's process.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rpc_core::{Context, Status, Streaming, rpc_service};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{in_time, serving::Serving};

/// Methods for tests of the wire protocol.
#[rpc_service(name = "test.Wire", version = "1.0")]
pub trait Wire {
    /// Returns `text`.
    async fn echo(&self, text: String) -> String;
    /// Never completes; its future must be dropped.
    async fn wait(&self);
    /// Completes after [`Listening::release`].
    async fn until_released(&self) -> String;
    /// Like [`until_released`](Self::until_released), but executes at most once across all attempts.
    #[rpc(once)]
    async fn once_released(&self) -> String;
    /// Returns `count` zero bytes.
    async fn zeros(&self, count: usize) -> Bytes;
    /// Returns `count` zero bytes, not at the first poll.
    async fn later_zeros(&self, count: usize) -> Bytes;
    /// Counts a note; the caller receives no answer.
    #[rpc(one_way)]
    async fn note(&self, text: String);
    /// Returns the number of notes so far.
    async fn notes(&self) -> usize;
    /// Returns the number of entries in the caller's metadata.
    async fn metadata(&self) -> usize;
    /// Returns the number of milliseconds until the caller's deadline.
    async fn remaining(&self) -> u64;
    /// Panics.
    async fn panic(&self);
    /// Returns the numbers up to `to`, each as a text of 1000 bytes if `long`.
    async fn count(&self, to: u32, long: bool) -> Streaming<String>;
    /// Returns the number of texts, after all of them.
    async fn collect(&self, texts: Streaming<String>) -> Result<u32, Status>;
    /// Reads no text and never completes; its future must be dropped.
    async fn ignore(&self, texts: Streaming<String>);
    /// Returns the texts.
    async fn copy(&self, texts: Streaming<String>) -> Streaming<String>;

    /// Returns the number of elements.
    async fn numbers(&self, list: Vec<u64>) -> usize;
    /// Returns the number of elements.
    async fn nothings(&self, list: Vec<()>) -> usize;
    /// Returns the number of entries.
    async fn map(&self, map: HashMap<u64, u64>) -> usize;
    /// Returns the number of bytes.
    async fn bytes(&self, data: Bytes) -> usize;
    /// Returns whether `nest` contains another [`Nest`].
    async fn nest(&self, nest: Nest) -> bool;
}

/// A recursive type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nest(Vec<Nest>);

/// The implementation of [`Wire`].
#[derive(Debug)]
pub struct Wired {
    /// Number of handlers that wait.
    waiting: watch::Sender<usize>,
    notes: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Default for Wired {
    fn default() -> Self {
        Self { waiting: watch::Sender::new(0), notes: watch::Sender::new(0), released: watch::Sender::new(false) }
    }
}

impl Wired {
    fn waiter(&self) -> Waiter<'_> {
        self.waiting.send_modify(|count| *count += 1);
        Waiter(&self.waiting)
    }
}

/// Counts a handler as waiting until it is dropped.
struct Waiter<'a>(&'a watch::Sender<usize>);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Wire for Wired {
    async fn echo(&self, text: String) -> String {
        text
    }

    async fn wait(&self) {
        let _waiter = self.waiter();
        std::future::pending().await
    }

    async fn until_released(&self) -> String {
        let _waiter = self.waiter();
        let released = self.released.subscribe().wait_for(|released| *released).await.is_ok();
        if released { "released".to_owned() } else { "dropped".to_owned() }
    }

    async fn once_released(&self) -> String {
        self.until_released().await
    }

    async fn zeros(&self, count: usize) -> Bytes {
        vec![0; count].into()
    }

    async fn later_zeros(&self, count: usize) -> Bytes {
        tokio::task::yield_now().await;
        self.zeros(count).await
    }

    async fn count(&self, to: u32, long: bool) -> Streaming<String> {
        let width = if long { 1000 } else { 1 };
        (1..=to).map(|number| format!("{number:0width$}")).collect()
    }

    async fn collect(&self, mut texts: Streaming<String>) -> Result<u32, Status> {
        let mut count = 0;
        while let Some(text) = texts.next().await {
            text?;
            count += 1;
        }
        Ok(count)
    }

    async fn ignore(&self, texts: Streaming<String>) {
        let _waiter = self.waiter();
        std::future::pending::<()>().await;
        drop(texts);
    }

    async fn copy(&self, texts: Streaming<String>) -> Streaming<String> {
        texts
    }

    async fn note(&self, _text: String) {
        self.notes.send_modify(|count| *count += 1);
    }

    async fn notes(&self) -> usize {
        *self.notes.borrow()
    }

    async fn metadata(&self) -> usize {
        Context::current().map_or(0, |context| context.metadata().iter().count())
    }

    async fn remaining(&self) -> u64 {
        Context::current().and_then(|context| context.remaining()).map_or(0, |left| left.as_millis() as u64)
    }

    async fn panic(&self) {
        panic!("the test requested a panic")
    }

    async fn numbers(&self, list: Vec<u64>) -> usize {
        list.len()
    }

    async fn nothings(&self, list: Vec<()>) -> usize {
        list.len()
    }

    async fn map(&self, map: HashMap<u64, u64>) -> usize {
        map.len()
    }

    async fn bytes(&self, data: Bytes) -> usize {
        data.len()
    }

    async fn nest(&self, nest: Nest) -> bool {
        !nest.0.is_empty()
    }
}

/// A server of [`Wire`] in this process. Dropping it stops the server immediately.
#[derive(Debug)]
pub struct Listening {
    serving: Serving,
    wired: Arc<Wired>,
}

impl Listening {
    /// Starts a server on a free port of this machine.
    pub async fn start(config: ServerConfig) -> Self {
        let wired = Arc::new(Wired::default());
        let server = Server::builder().service(WireServer::from_arc(Arc::clone(&wired))).config(config);
        Self { serving: Serving::start(server).await, wired }
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Waits until exactly `count` handlers wait.
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting = self.wired.waiting.subscribe();
        drop(in_time(waiting.wait_for(|waiting| *waiting == count)).await.expect("the service is alive"));
    }

    /// Waits until exactly `count` calls with streams are open.
    pub async fn until_streams(&self, count: usize) {
        self.serving.until_counted(|counts| counts.streams == count).await;
    }

    /// Completes the handlers of [`Wire::until_released`].
    pub fn release(&self) {
        self.wired.released.send_replace(true);
    }

    /// Starts the server's drain.
    pub fn drain(&mut self) {
        self.serving.stop();
    }

    /// Waits until the server has ended.
    pub async fn ended(mut self) {
        self.serving.ended().await.expect("the server ends without an error");
    }
}
