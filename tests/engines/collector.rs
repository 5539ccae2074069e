//! [`Collector`]: a real OpenTelemetry Collector, which prints the spans that it receives by OTLP.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
};

use tokio::net::TcpStream;

use super::{kill, spawn, until_serving};
use crate::relay::free_address;

/// A collector on a free port of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct Collector {
    address: SocketAddr,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

/// A span that the collector has received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// The service that has sent it.
    pub service: String,
    /// The id of the trace, in hexadecimal digits.
    pub trace: String,
    /// The id of the parent span; empty if the span has none.
    pub parent: String,
    /// The id of the span.
    pub id: String,
    /// The name.
    pub name: String,
    /// `Client`, `Server` or another kind.
    pub kind: String,
}

impl Collector {
    /// Starts a collector, and waits until it receives; prints a line and returns `None` if it is not built.
    pub async fn start() -> Option<Self> {
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/collector/otelcol");
        if !binary.exists() {
            eprintln!("SKIPPED with the OpenTelemetry Collector: .ci/run has not built it, which requires Go");
            return None;
        }
        let directory = tempfile::tempdir().expect("the directory can be created");
        let address = free_address();
        let configuration = directory.path().join("collector.yaml");
        fs::write(&configuration, configured(address)).expect("the configuration can be written");
        let mut command = Command::new(binary);
        command.arg(format!("--config={}", configuration.display()));
        let process = Some(spawn(&mut command, &directory.path().join("log")));
        let collector = Self { address, directory, process };
        until_serving(async || TcpStream::connect(address).await.is_ok()).await;
        Some(collector)
    }

    /// Returns the address that receives OTLP by gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the spans that the collector has printed so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let log = fs::read_to_string(self.directory.path().join("log")).expect("the log can be read");
        // The line that the collector is writing is incomplete.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let (mut spans, mut service) = (Vec::<ReceivedSpan>::new(), String::new());
        for line in complete.lines() {
            if let Some(name) = line.trim().strip_prefix("-> service.name: Str(") {
                name.trim_end_matches(')').clone_into(&mut service);
            } else if line.starts_with("Span #") {
                spans.push(ReceivedSpan { service: service.clone(), ..ReceivedSpan::default() });
            } else if let (Some(span), Some((key, value))) = (spans.last_mut(), line.split_once(':')) {
                let field = match key.trim() {
                    "Trace ID" => &mut span.trace,
                    "Parent ID" => &mut span.parent,
                    "ID" => &mut span.id,
                    "Name" => &mut span.name,
                    "Kind" => &mut span.kind,
                    _ => continue,
                };
                value.trim().clone_into(field);
            }
        }
        // The last span may lack its later lines.
        spans.retain(|span| !span.kind.is_empty());
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Returns a configuration that listens on `address` only.
fn configured(address: SocketAddr) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
         exporters: {{debug: {{verbosity: detailed}}}}\n\
         service:\n  \
           telemetry: {{metrics: {{level: none}}}}\n  \
           pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}\n"
    )
}
