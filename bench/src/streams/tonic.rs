//! Streams of tonic.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{self, Poll},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

use self::generated::{
    items_client::ItemsClient,
    items_server::{Items, ItemsServer},
};
use super::job::Opener;
use crate::{failure::Failure, peers::tonic::incoming, server::announce};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Items.rs"));
}

/// The request.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ItemsRequest {
    #[prost(uint64, optional, tag = "1")]
    payload: Option<u64>,
}

/// An item.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Item {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Source;

#[tonic::async_trait]
impl Items for Source {
    type ItemsStream = Pin<Box<dyn Stream<Item = Result<Item, Status>> + Send>>;

    async fn items(&self, request: Request<ItemsRequest>) -> Result<Response<Self::ItemsStream>, Status> {
        Ok(Response::new(match request.into_inner().payload {
            Some(payload) => {
                let mut id = 0;
                stream::repeat_with(move || {
                    id += 1;
                    Ok(Item { id, payload: vec![7; payload as usize] })
                })
                .boxed()
            }
            None => stream::pending().boxed(),
        }))
    }
}

pub(super) async fn serve(address: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    announce(&listener.local_addr()?.to_string())?;
    Server::builder().add_service(ItemsServer::new(Source)).serve_with_incoming(incoming(listener)).await?;
    Ok(())
}

pub(super) async fn connect(address: SocketAddr) -> Result<ItemsClient<Channel>, Failure> {
    Ok(ItemsClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?))
}

impl Opener for ItemsClient<Channel> {
    type Items = Lengths;

    async fn open(&self, payload: Option<usize>) -> Result<Lengths, Failure> {
        let payload = payload.map(|payload| payload as u64);
        Ok(Lengths(self.clone().items(ItemsRequest { payload }).await?.into_inner()))
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
