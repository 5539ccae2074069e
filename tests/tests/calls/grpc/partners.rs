//! The client of gRPC for Python, with code that its tools generate from the exported files, calls a server.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use contracts::{
    Feed, FeedClient, FeedServer, Good, Goods, GoodsClient, GoodsError, GoodsServer, GreetError, Greeter,
    GreeterClient, GreeterServer, Price, Receipt, Remark,
};
use rpc_core::{DynCaller, Status, Streaming, descriptor::Contract};
use rpc_grpc::Grpc;
use rpc_server::Server;
use tests::{in_time, serving::Serving};
use tokio::process::Command;

struct Shop;

impl Greeter for Shop {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() { Err(GreetError::EmptyName) } else { Ok(format!("Hello {name}")) }
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

/// Returns a Python with grpcio and its tools; `None` if there is none.
async fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for python in [root.join("target/tools/python-grpc/bin/python"), "python3".into()] {
        let imports = "import grpc, grpc_tools, grpc_reflection, grpc_health, google.rpc.status_pb2";
        let mut command = Command::new(&python);
        command.args(["-c", imports]).stdout(Stdio::null()).stderr(Stdio::null());
        if in_time(command.status()).await.is_ok_and(|status| status.success()) {
            return Some(python);
        }
    }
    None
}

async fn succeed(mut command: Command) -> String {
    let output = in_time(command.kill_on_drop(true).output()).await.unwrap();
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

#[tokio::test]
async fn python_client_calls_services() {
    let Some(python) = python().await else { return println!("SKIPPED: needs grpcio and its tools for Python") };
    let builder = Server::builder()
        .service(GreeterServer::new(Shop))
        .service(GoodsServer::new(Shop))
        .service(FeedServer::new(Shop))
        .endpoint(Grpc::new());
    let serving = Serving::start(builder).await;
    let directory = tempfile::tempdir().unwrap();
    let contracts: [(&str, &Contract); 3] = [
        ("demo.proto", GreeterClient::<DynCaller>::contract()),
        ("shop.proto", GoodsClient::<DynCaller>::contract()),
        ("feed.proto", FeedClient::<DynCaller>::contract()),
    ];
    for (file, contract) in contracts {
        std::fs::write(directory.path().join(file), rpc_schema::proto(contract).to_string()).unwrap();
    }
    let mut generate = Command::new(&python);
    generate.current_dir(directory.path()).args([
        "-m",
        "grpc_tools.protoc",
        "-I.",
        "--python_out=.",
        "--grpc_python_out=.",
    ]);
    succeed({
        generate.args(contracts.map(|(file, _)| file));
        generate
    })
    .await;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("grpc/client.py");
    let mut call = Command::new(&python);
    call.env("PYTHONPATH", directory.path()).env("PYTHONIOENCODING", "utf-8");
    call.arg("-B").arg(client).arg(serving.address().to_string());
    let expected = [
        "hello: Hello Zoë",
        "status: OK",
        "empty name: FAILED_PRECONDITION \"EmptyName\" delivery answered",
        "good 1: teapot 2499",
        "good 404: FAILED_PRECONDITION {\"NotFound\":{\"id\":404}} details 404",
        "prices: [(1, 100), (2, 100), (3, 100)]",
        "no prices: NOT_FOUND no good coffee",
        "uploaded: 1000000",
        "remarks: ['Bo one', 'Bo two']",
        "cancelled: CANCELLED",
        "compressed: True",
        "services: demo.greeter.v1_0.Greeter, grpc.health.v1.Health, grpc.reflection.v1.ServerReflection, \
         grpc.reflection.v1alpha.ServerReflection, shop.feed.v1_0.Feed, shop.goods.v1_0.Goods",
        "described demo.greeter.v1_0.Greeter: Hello",
        "described grpc.health.v1.Health: Check, Watch",
        "described grpc.reflection.v1.ServerReflection: ServerReflectionInfo",
        "described grpc.reflection.v1alpha.ServerReflection: ServerReflectionInfo",
        "described shop.feed.v1_0.Feed: Prices, Upload, Talk",
        "described shop.goods.v1_0.Goods: FindGoods",
        "equal: True",
        "health: SERVING",
    ];
    assert_eq!(succeed(call).await.lines().collect::<Vec<_>>(), expected);
}
