//! Clients of other implementations: generated code in Python, Go and Java, grpcurl, and a consumer of Dubbo.

mod clients;
mod dubbo;
mod grpcurl;
mod python;
mod shop;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
};

use tests::process::Provider;
use tokio::process::Command;

/// The processes of the examples that answer callers of gRPC.
struct Examples {
    provider: Provider,
    feed: Provider,
    directory: tempfile::TempDir,
}

impl Examples {
    async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts the processes on free ports of a loopback address.
    async fn start_at(ip: IpAddr) -> Self {
        let address = SocketAddr::new(ip, 0);
        let directory = tempfile::tempdir().unwrap();
        let registry = format!("local:{}", directory.path().display());
        let provider = Provider::start_at(address, &registry, &["--grpc"]).await;
        let files = directory.path().join("files");
        let feed = Provider::start_feed(address, &registry, &["--grpc", "--files", files.to_str().unwrap()]).await;
        Self { provider, feed, directory }
    }

    /// Returns the lines that a client of both prints.
    async fn lines(&self, mut client: Command) -> Vec<String> {
        client.stdin(Stdio::null()).kill_on_drop(true);
        let output = tests::in_time(client.output()).await.unwrap();
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}\n{errors}");
        text.lines().map(str::to_owned).collect()
    }
}
