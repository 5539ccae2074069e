//! The engines of the IM cluster. Tests skip an engine that the machine does not have.
//!
//! | topic | module |
//! |---|---|
//! | the contract suites with the engines in nodes | `embedded` |
//! | the contract suites with databases; crashes; plans of statements | `contract`, `crash`, `plans` |
//! | the directory in Redis | `redis` |
//! | lists of nodes; message queues | `membership`, `backplanes` |
//! | combinations of engines | `matrix` |
//! | export and import | `transfer` |

mod backplanes;
mod contract;
mod crash;
mod embedded;
mod matrix;
mod membership;
mod plans;
mod redis;
mod transfer;

use std::sync::Arc;

use futures_util::future::try_join_all;
use rpc_im::{
    directory::{Directory, SqlDirectory},
    sql::Database,
    store::{MessageStore, SqlStore},
};

/// Connects several nodes, which start at the same time, to one database.
async fn connect(url: &str) -> Vec<Database> {
    try_join_all((0..3).map(|_| Database::connect(url))).await.expect("the nodes create the tables once")
}

fn stores(nodes: &[Database]) -> Vec<Arc<dyn MessageStore>> {
    nodes.iter().map(|node| Arc::new(SqlStore::new(node.clone())) as Arc<dyn MessageStore>).collect()
}

fn directories(nodes: &[Database]) -> Vec<Arc<dyn Directory>> {
    nodes.iter().map(|node| Arc::new(SqlDirectory::new(node.clone())) as Arc<dyn Directory>).collect()
}
