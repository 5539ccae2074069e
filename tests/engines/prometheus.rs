//! [`Prometheus`]: a real Prometheus, which scrapes programs and evaluates queries and rules.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use serde_json::Value;
use tokio::net::TcpStream;

use super::{kill, skip, spawn, until_serving};
use crate::{http::RawHttp, relay::free_address};

/// A Prometheus on a free port of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct Prometheus {
    address: SocketAddr,
    process: Option<Child>,
    _storage: tempfile::TempDir,
}

impl Prometheus {
    /// Returns the path of `promtool` or `prometheus`; prints a line and returns `None` if it is missing.
    pub fn program(name: &str) -> Option<PathBuf> {
        let extracted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/prometheus/usr/bin").join(name);
        let found =
            [extracted, name.into()].into_iter().find(|path| Command::new(path).arg("--version").output().is_ok());
        if found.is_none() {
            skip(name, ".ci/run has not installed it", "prometheus");
        }
        found
    }

    /// Starts a server with a file of configuration, and waits until it serves; prints a line and returns `None` if it is
    /// missing.
    pub async fn start(configuration: &Path) -> Option<Self> {
        let program = Self::program("prometheus")?;
        let storage = tempfile::tempdir().expect("the directory can be created");
        let address = free_address();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", storage.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Some(spawn(&mut command, &storage.path().join("log")));
        let prometheus = Self { address, process, _storage: storage };
        until_serving(async || prometheus.is_ready().await).await;
        Some(prometheus)
    }

    /// Returns the results of a query.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let body = format!("query={}", encoded(query));
        let mut connection = RawHttp::connect(self.address).await;
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let response = connection.request("POST", "/api/v1/query", kind, &body).await;
        let answer: Value = serde_json::from_slice(&response.body).expect("the answer is JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("the result is a list").clone()
    }

    /// Returns the rules of all groups with their states.
    pub async fn rules(&self) -> Vec<Value> {
        let response = RawHttp::connect(self.address).await.get("/api/v1/rules").await;
        let answer: Value = serde_json::from_slice(&response.body).expect("the answer is JSON");
        let groups = answer["data"]["groups"].as_array().expect("the answer has groups");
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    async fn is_ready(&self) -> bool {
        // The port may not be open yet.
        let Ok(stream) = TcpStream::connect(self.address).await else { return false };
        let mut connection = RawHttp::over(stream);
        let request = "GET /-/ready HTTP/1.1\r\nHost: a\r\n\r\n";
        connection.try_send(request).await.is_ok()
            && connection.receive().await.is_some_and(|response| response.status == 200)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Encodes a value of a form.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}
