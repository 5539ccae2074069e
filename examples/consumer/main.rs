//! Calls `demo.Greeter:1.0` and says how that went.

mod report;

use std::{
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use contracts::{GoodsClient, GreeterClient};
use examples::{ClientSecurity, Failure, RegistryArgs, log_to_stderr, stopped_by_signal};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_client::{Client, ClientConfig};
use tokio::task::JoinSet;

use crate::report::Report;

/// Calls demo.Greeter:1.0 and says how that went. Exits with 1 when no call succeeded.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    /// How many calls to make.
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// How long to go on calling, instead of a number of calls.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// How many calls to make at once.
    #[arg(long, value_name = "C", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    concurrency: u64,
    /// Print the result as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    security: ClientSecurity,
}

/// When to stop.
struct Quota {
    calls: AtomicU64,
    until: Option<Instant>,
}

impl Quota {
    /// Takes one call, if there is one left.
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
    let registry = rpc_registry::connect(&args.registry.url).await?;
    // A consumer that is started before its provider waits for it, as long as a call may take.
    let client = Client::builder().registry(registry).config(ClientConfig::default().with_wait_for_ready(true));
    let client = args.security.clone().apply(client)?.build()?;
    let greeter = GreeterClient::new(client.clone());

    // One call alone: without a provider there is no sense in a thousand.
    let mut report = Report::default();
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if !report.call(&greeter).await {
        report.print(args.json);
        return Ok(ExitCode::FAILURE);
    }
    if !args.json {
        let good = GoodsClient::new(client.clone()).find_goods(1).await?;
        println!("shop.Goods:1.0 has a {} for {}.{:02}", good.name, good.price / 100, good.price % 100);
    }
    let quota = Arc::new(Quota { calls: AtomicU64::new(args.calls - 1), until });
    let progress = progress(&args);
    let mut callers = JoinSet::new();
    for _ in 0..args.concurrency {
        let (greeter, quota, progress) = (greeter.clone(), Arc::clone(&quota), progress.clone());
        callers.spawn(async move {
            let mut report = Report::default();
            while quota.take() {
                report.call(&greeter).await;
                progress.inc(1);
            }
            report
        });
    }
    let mut stopped = std::pin::pin!(stopped_by_signal());
    loop {
        // Both are safe to drop: a report that is not taken now is taken next.
        tokio::select! {
            joined = callers.join_next() => match joined {
                Some(one) => report.merge(one?),
                None => break,
            },
            () = &mut stopped => {
                eprintln!("stopped; the calls of {} callers are not counted", callers.len());
                break;
            }
        }
    }
    progress.finish_and_clear();
    report.print(args.json);
    client.close().await;
    Ok(if report.ok > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bar when there is somebody to see it.
fn progress(args: &Args) -> ProgressBar {
    if !std::io::stderr().is_terminal() || args.json {
        return ProgressBar::hidden();
    }
    let (bar, template) = match args.seconds {
        Some(_) => (ProgressBar::new_spinner(), "{spinner} {pos} calls, {per_sec}, {elapsed}"),
        None => (ProgressBar::new(args.calls - 1), "{wide_bar} {pos}/{len} calls, {per_sec}"),
    };
    // The templates are constants; the default style is as good.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
