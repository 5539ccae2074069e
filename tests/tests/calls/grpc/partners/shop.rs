//! A server in this process, whose streams end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use contracts::{
    Feed, FeedServer, Good, Goods, GoodsError, GoodsServer, GreetError, Greeter, GreeterServer, Price, Receipt, Remark,
};
use rpc_core::{Context, Status, Streaming};
use rpc_grpc::Grpc;
use rpc_server::Server;
use tests::serving::Serving;

/// Starts a server of the contracts of the examples.
pub(super) async fn shop() -> Serving {
    shop_at(Ipv4Addr::LOCALHOST.into()).await
}

/// Starts a server on a free port of a loopback address.
pub(super) async fn shop_at(ip: IpAddr) -> Serving {
    let builder = Server::builder()
        .service(GreeterServer::new(Shop))
        .service(GoodsServer::new(Shop))
        .service(FeedServer::new(Shop))
        .endpoint(Grpc::new());
    Serving::start_on(builder, SocketAddr::new(ip, 0)).await
}

struct Shop;

impl Greeter for Shop {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() {
            return Err(GreetError::EmptyName);
        }
        let context = Context::current().unwrap();
        let tenant = context.metadata().get("tenant").map(|tenant| format!(" of {tenant}"));
        Ok(format!("Hello {name}{}", tenant.unwrap_or_default()))
    }
}

impl Goods for Shop {
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError> {
        match id {
            1 => Ok(Good { id, name: "teapot".to_owned(), price: 2499 }),
            _ => Err(GoodsError::NotFound { id }),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the tasks end with the streams to which they send")]
impl Feed for Shop {
    async fn prices(&self, good: String, after: Option<u64>) -> Result<Streaming<Price>, Status> {
        let price = |number| Price { number, cents: 100 };
        match (&good[..], after) {
            ("tea", Some(after)) => Ok((after + 1..=3).map(price).collect()),
            ("endless", None) => Ok(Streaming::from_iterator((0..).map(price))),
            _ => Err(Status::not_found(format!("no good {good}"))),
        }
    }

    async fn upload(&self, _: String, mut parts: Streaming<Bytes>) -> Result<Receipt, Status> {
        let mut bytes = 0;
        while let Some(part) = parts.next().await {
            bytes += part?.len() as u64;
        }
        Ok(Receipt { bytes, hash: u64::MAX })
    }

    async fn talk(&self, _: String, author: String, mut remarks: Streaming<String>) -> Streaming<Remark> {
        let (sender, stream) = Streaming::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(text)) = remarks.next().await {
                if sender.send(Remark { author: author.clone(), text }).await.is_err() {
                    return;
                }
            }
        });
        stream
    }
}
