//! Databases that are killed and restarted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_im::store::{Append, ConversationRef, MessageKind, MessageStore, NewMessage, PageRequest, Range, StoreError};
use tests::{
    Task,
    engines::{mariadb::MariaDbServer, postgres::PostgresServer},
    in_time,
};

use super::{connect, stores};

#[tokio::test(flavor = "multi_thread")]
async fn killed_postgres_keeps_acknowledged_messages() {
    let Some(mut server) = PostgresServer::start().await else { return };
    let stores = stores(&connect(&server.url()).await);
    let load = Load::start(&stores);
    for _ in 0..3 {
        load.until_more_messages().await;
        server.kill();
        load.until_unavailable(&stores).await;
        server.restart().await;
    }
    load.check(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_mariadb_keeps_acknowledged_messages() {
    let Some(mut server) = MariaDbServer::start().await else { return };
    let stores = stores(&connect(&server.url()).await);
    let load = Load::start(&stores);
    for _ in 0..3 {
        load.until_more_messages().await;
        server.kill();
        load.until_unavailable(&stores).await;
        server.restart().await;
    }
    load.check(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_postgres_is_unavailable() {
    let Some(server) = PostgresServer::start().await else { return };
    let stores = stores(&connect(&server.url()).await);
    send(&*stores[0], "1").await.expect("the database answers");
    server.pause();
    // The first node has a connection, and the second one has to connect.
    let waiting = tokio::join!(send(&*stores[0], "2"), send(&*stores[1], "3"));
    server.resume();
    for outcome in [waiting.0, waiting.1] {
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    for id in ["2", "3"] {
        send(&*stores[0], id).await.expect("the database answers again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_mariadb_is_unavailable() {
    let Some(server) = MariaDbServer::start().await else { return };
    let stores = stores(&connect(&server.url()).await);
    send(&*stores[0], "1").await.expect("the database answers");
    server.pause();
    let waiting = tokio::join!(send(&*stores[0], "2"), send(&*stores[1], "3"));
    server.resume();
    for outcome in [waiting.0, waiting.1] {
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    for id in ["2", "3"] {
        send(&*stores[0], id).await.expect("the database answers again");
    }
}

/// Tasks that send messages to one conversation, and repeat each until it is acknowledged.
struct Load {
    senders: Vec<Task<Vec<(u64, String)>>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    fn start(stores: &[Arc<dyn MessageStore>]) -> Self {
        let acknowledged = Arc::<AtomicUsize>::default();
        let senders = (0..SENDERS).map(|sender| {
            let (store, count) = (Arc::clone(&stores[sender % stores.len()]), Arc::clone(&acknowledged));
            Task::begin(async move {
                let mut sent = Vec::new();
                // Each message is sent, so the senders are active until the last restart.
                for number in 0..MESSAGES {
                    let id = format!("{sender}-{number}");
                    let seq = loop {
                        match send(&*store, &id).await {
                            Ok(seq) => break seq,
                            // An attempt that fails without waiting must not starve other tasks.
                            Err(_) => tokio::task::yield_now().await,
                        }
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    sent.push((seq, id));
                }
                sent
            })
        });
        Self { senders: senders.collect(), acknowledged }
    }

    /// Waits until the senders have made progress.
    async fn until_more_messages(&self) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        in_time(async {
            while self.acknowledged.load(Ordering::Relaxed) < before + 50 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Checks that each node reports the missing database.
    async fn until_unavailable(&self, stores: &[Arc<dyn MessageStore>]) {
        for store in stores {
            let outcome = send(&**store, "while the database is down").await;
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
    }

    /// Waits for the senders, and checks the messages in the store.
    async fn check(self, stores: &[Arc<dyn MessageStore>]) {
        let mut sent = BTreeMap::new();
        for sender in self.senders {
            let messages = sender.end().await;
            assert!(messages.is_sorted(), "the messages of a sender keep their order");
            sent.extend(messages);
        }
        assert_eq!(sent.len(), SENDERS * MESSAGES, "each message has a sequence number of its own");
        let page = PageRequest { range: Range::After(0), max_messages: usize::MAX, max_bytes: usize::MAX };
        let read = stores[0].read(conversation().conversation, ANN.to_owned(), page).await.expect("ann is a member");
        let messages = read.messages.into_iter().map(|message| (message.seq, message.id));
        assert!(messages.eq(sent), "the store has the acknowledged messages, and no others");
        assert_eq!((read.first, read.last), (1, (SENDERS * MESSAGES) as u64), "the numbers have no holes");
    }
}

async fn send(store: &dyn MessageStore, id: &str) -> Result<u64, StoreError> {
    let (from, device, id, body) = (ANN.to_owned(), "phone".to_owned(), id.to_owned(), "hello".to_owned());
    let message = NewMessage { from, device, id, kind: MessageKind::Text, target: 0, body };
    let appended = store.append(Append { to: conversation(), messages: vec![message] }).await?;
    Ok(appended.messages[0].expect("ann is a member").seq)
}

fn conversation() -> ConversationRef {
    ConversationRef::of_pair(ANN, "bo")
}

const ANN: &str = "ann";
const SENDERS: usize = 6;
const MESSAGES: usize = 100;
