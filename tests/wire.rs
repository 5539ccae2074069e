//! The contract `test.Wire:1.0`, and a server in this process that serves it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rpc_core::{Context, rpc_service};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{in_time, serving::Serving};

/// Methods that tests need.
#[rpc_service(name = "test.Wire", version = "1.0")]
pub trait Wire {
    /// Gives back what it gets.
    async fn echo(&self, text: String) -> String;
    /// Ends only when its future is dropped.
    async fn wait(&self);
    /// Ends when [`Listening::release`] says so.
    async fn until_released(&self) -> String;
    /// As [`until_released`](Self::until_released), and runs once, however often it is sent.
    #[rpc(once)]
    async fn once_released(&self) -> String;
    /// A result of this many bytes.
    async fn zeros(&self, count: usize) -> Bytes;
    /// A note that nobody is told about.
    #[rpc(one_way)]
    async fn note(&self, text: String);
    /// How often a note was taken.
    async fn notes(&self) -> usize;
    /// How many entries the caller's metadata has.
    async fn metadata(&self) -> usize;
    /// How many milliseconds the caller goes on waiting.
    async fn remaining(&self) -> u64;
    /// Panics.
    async fn panic(&self);

    /// The number of elements.
    async fn numbers(&self, list: Vec<u64>) -> usize;
    /// The number of elements.
    async fn nothings(&self, list: Vec<()>) -> usize;
    /// The number of entries.
    async fn map(&self, map: HashMap<u64, u64>) -> usize;
    /// The number of bytes.
    async fn bytes(&self, data: Bytes) -> usize;
    /// Whether anything is nested.
    async fn nest(&self, nest: Nest) -> bool;
}

/// What contains itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nest(Vec<Nest>);

/// Keeps the contract [`Wire`].
#[derive(Debug)]
pub struct Wired {
    /// How many handlers wait for ever.
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

/// Counts a handler while it runs.
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
        if released { "released".to_owned() } else { "forgotten".to_owned() }
    }

    async fn once_released(&self) -> String {
        self.until_released().await
    }

    async fn zeros(&self, count: usize) -> Bytes {
        vec![0; count].into()
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
        panic!("as the test asked")
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

/// A server of [`Wire`] in this process. Dropped, it ends at once.
#[derive(Debug)]
pub struct Listening {
    serving: Serving,
    wired: Arc<Wired>,
}

impl Listening {
    /// Serves on a free port of this machine.
    pub async fn start(config: ServerConfig) -> Self {
        let wired = Arc::new(Wired::default());
        let server = Server::builder().service(WireServer::from_arc(Arc::clone(&wired))).config(config);
        Self { serving: Serving::start(server).await, wired }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Waits until this many handlers wait.
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting = self.wired.waiting.subscribe();
        drop(in_time(waiting.wait_for(|waiting| *waiting == count)).await.expect("the wired is there"));
    }

    /// Lets the handlers of [`Wire::until_released`] end.
    pub fn release(&self) {
        self.wired.released.send_replace(true);
    }

    /// Asks the server to drain.
    pub fn drain(&mut self) {
        self.serving.stop();
    }

    /// Waits until the server has ended.
    pub async fn ended(mut self) {
        self.serving.ended().await.expect("the server ends in order");
    }
}
