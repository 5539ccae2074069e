//! The client of gRPC for Python, with code that its tools generate from the exported files, calls a server.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use contracts::{FeedClient, GoodsClient, GreeterClient};
use rpc_core::{DynCaller, descriptor::Contract};
use tests::in_time;
use tokio::process::Command;

use super::shop::shop;

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
    let serving = shop().await;
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
        "hello: Hello Zoë of a",
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
