//! Streams of msnb.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream::repeat_with};
use rpc_client::Client;
use rpc_core::{Status, Streaming, rpc_service};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::job::Opener;
use crate::{client, failure::Failure, server};

/// Sends and receives items.
#[rpc_service(name = "bench.Items", version = "1.0")]
pub(crate) trait Items {
    /// Returns items with a payload of this length, without end; `None` for no item.
    async fn items(&self, payload: Option<usize>) -> Streaming<Item>;

    /// Reads parts at a rate in bytes per second, and returns their length.
    #[rpc(timeout = "60m")]
    async fn upload(&self, rate: u64, parts: Streaming<Bytes>) -> Result<u64, Status>;
}

/// An item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) payload: Vec<u8>,
}

struct Source;

impl Items for Source {
    async fn items(&self, payload: Option<usize>) -> Streaming<Item> {
        match payload {
            Some(payload) => {
                let mut id = 0;
                Streaming::from_stream(repeat_with(move || {
                    id += 1;
                    Ok(Item { id, payload: vec![7; payload] })
                }))
            }
            None => Streaming::from_stream(futures_util::stream::pending()),
        }
    }

    async fn upload(&self, rate: u64, parts: Streaming<Bytes>) -> Result<u64, Status> {
        receive(rate, parts).await
    }
}

/// Reads a stream at a rate in bytes per second, and returns its length.
async fn receive(rate: u64, mut parts: Streaming<Bytes>) -> Result<u64, Status> {
    let (started, mut length) = (Instant::now(), 0);
    while let Some(part) = parts.next().await {
        length += part?.len() as u64;
        let due = started + Duration::from_secs_f64(length as f64 / rate as f64);
        // A timer has a resolution of one millisecond.
        if due > Instant::now() + TIMER_RESOLUTION {
            tokio::time::sleep_until(due).await;
        }
    }
    Ok(length)
}

pub(super) async fn serve(address: SocketAddr) -> Result<(), Failure> {
    server::serve_with(ItemsServer::new(Source), address, rpc_server::ServerConfig::default()).await
}

pub(super) async fn connect(address: SocketAddr) -> Result<ItemsClient<Client>, Failure> {
    let [client] = <[_; 1]>::try_from(client::clients(address, 1).await?).map_err(|_| "one client was created")?;
    client.warm_up::<ItemsClient<_>>().await?;
    Ok(ItemsClient::new(client))
}

impl Opener for ItemsClient<Client> {
    type Items = Lengths;

    async fn open(&self, payload: Option<usize>) -> Result<Lengths, Failure> {
        Ok(Lengths(self.items(payload).await?))
    }
}

/// The lengths of items.
pub(crate) struct Lengths(Streaming<Item>);

impl Stream for Lengths {
    type Item = Result<usize, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|item| item.map(|item| Ok(item?.payload.len())))
    }
}

const TIMER_RESOLUTION: Duration = Duration::from_millis(1);
