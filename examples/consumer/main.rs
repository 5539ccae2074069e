//! A consumer of `demo.Greeter:1.0` that reports the results of its calls.

mod report;

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use contracts::{GoodsClient, GreeterClient};
use indicatif::{ProgressBar, ProgressStyle};
use msnb::{
    Client, ClientConfig,
    app::{ClientSecurity, Failure, RegistryArgs, log_to_stderr, shutdown_signal},
    layer::Layered,
    layers::{Metrics, MonitorPort},
};
use tokio::task::JoinSet;

use crate::report::Report;

/// Calls demo.Greeter:1.0 and prints a report. Exits with status 1 if no call succeeds.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    /// The number of calls.
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// The duration of the calls in seconds, instead of their number; at most a year.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    seconds: Option<u64>,
    /// The number of concurrent calls.
    #[arg(long, value_name = "C", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    concurrency: u64,
    /// Prints the report as one line of JSON.
    #[arg(long)]
    json: bool,
    /// The zone of the consumer, whose providers it prefers.
    #[arg(long, value_name = "ZONE", env = "MSNB_ZONE")]
    zone: Option<String>,
    /// The tag of the providers that the calls prefer.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// The file with the rules of the calls, in TOML or JSON; its changes apply while the consumer runs.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    security: ClientSecurity,
    /// Serves /metrics, for Prometheus, at this address.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
}

/// The longest duration of the calls in seconds.
const MAX_SECONDS: u64 = 31_536_000;

/// The remaining number of calls, or the end time.
struct Quota {
    calls: AtomicU64,
    until: Option<Instant>,
}

impl Quota {
    /// Takes one call from the quota; `false` if it is used up.
    fn take(&self) -> bool {
        match self.until {
            Some(until) => Instant::now() < until,
            None => self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let args = Args::parse();
    log_to_stderr("warn");
    let registry = args.registry.connect().await?;
    // A call waits for a provider until its timeout, so the consumer may be started before its provider.
    let config = ClientConfig::default().with_wait_for_ready(true).with_zone(args.zone.clone());
    let mut client = Client::builder().registry(registry).config(config);
    if let Some(rules) = &args.rules {
        client = client.rules_file(rules);
    }
    let client = args.security.clone().apply(client)?.build()?;
    let metrics = Metrics::new();
    metrics.watch_client(client.clone());
    let _monitor = match args.metrics {
        Some(address) => {
            let port = MonitorPort::bind(address, metrics.clone()).await;
            let port = port.map_err(|error| format!("cannot serve metrics on {address}: {error}"))?;
            // Stdout contains only the report.
            eprintln!("metrics on http://{}/metrics", port.local_address());
            Some(port)
        }
        None => None,
    };
    let greeter = GreeterClient::new(Layered::new(client.clone()).layer(metrics));

    // Make one call first: if it fails, for instance without a provider, do not make the others.
    let mut report = Report::with_tag(args.tag.clone());
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // From here on, because a process without a handler ends at once, or ignores the signal in a container.
    let mut shutdown = std::pin::pin!(shutdown_signal());
    // The dropped call sends CANCEL.
    let called = tokio::select! {
        called = report.call(&greeter) => called,
        () = &mut shutdown => return Ok(ExitCode::FAILURE),
    };
    if !called {
        report.print(args.json);
        return Ok(ExitCode::FAILURE);
    }
    if !args.json {
        let good = GoodsClient::new(client.clone()).find_goods(1).await?;
        println!("shop.Goods:1.0 offers a {} for {}.{:02}", good.name, good.price / 100, good.price % 100);
    }
    let quota = Arc::new(Quota { calls: AtomicU64::new(args.calls - 1), until });
    let progress = progress(&args);
    let mut callers = JoinSet::new();
    for _ in 0..args.concurrency {
        let (greeter, quota, progress) = (greeter.clone(), Arc::clone(&quota), progress.clone());
        let mut report = Report::with_tag(args.tag.clone());
        callers.spawn(async move {
            while quota.take() {
                report.call(&greeter).await;
                progress.inc(1);
            }
            report
        });
    }
    loop {
        // Both branches are cancel-safe: a report that is not received stays in the set.
        tokio::select! {
            joined = callers.join_next() => match joined {
                Some(caller) => report.merge(caller?),
                None => break,
            },
            () = &mut shutdown => {
                eprintln!("interrupted; the report omits the calls of {} callers", callers.len());
                break;
            }
        }
    }
    progress.finish_and_clear();
    report.print(args.json);
    client.close().await;
    Ok(if report.ok > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns a progress bar, hidden if stderr is not a terminal or the report is JSON.
fn progress(args: &Args) -> ProgressBar {
    if !std::io::stderr().is_terminal() || args.json {
        return ProgressBar::hidden();
    }
    let (bar, template) = match args.seconds {
        Some(_) => (ProgressBar::new_spinner(), "{spinner} {pos} calls, {per_sec}, {elapsed}"),
        None => (ProgressBar::new(args.calls - 1), "{wide_bar} {pos}/{len} calls, {per_sec}"),
    };
    // The templates are constants; if one were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
