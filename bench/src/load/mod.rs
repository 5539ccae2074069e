//! `msnb-bench load`: load on any service, given the route and the arguments in JSON.

mod call;
mod chart;
mod report;

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rpc_client::{Client, ClientConfig};
use rpc_core::{Codec, MethodInfo, ServiceId};
use serde_json::Value;
use tokio::{signal::ctrl_c, task::JoinSet, time::Instant};

use self::{call::Call, report::Report};
use crate::{failure::Failure, job::positive_seconds, pace::Pace};

/// The options of `msnb-bench load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// The registry of the service: `local:`, `nacos://host:8848` or `fixed:host:port`.
    #[arg(value_name = "REGISTRY-URL")]
    registry: String,
    /// The method, such as `demo.Greeter:1.0/hello`.
    #[arg(value_name = "SERVICE/METHOD", value_parser = parse_route)]
    method: Arc<MethodInfo>,
    /// The arguments by name, such as `{"name":"Bo"}`.
    #[arg(long, value_name = "OBJECT", default_value = "{}", value_parser = parse_arguments)]
    json: Value,
    /// The maximum number of calls in flight.
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZeroUsize,
    /// The duration in seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = positive_seconds)]
    seconds: Duration,
    /// The rate of an open loop, in calls per second. Calls start on schedule while fewer than N are in flight, and
    /// latencies count from the scheduled start. Without this option, each call starts when the previous one ends.
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroUsize>,
    /// The timeout of a call in seconds.
    #[arg(long, value_name = "S", default_value = "5", value_parser = positive_seconds)]
    timeout: Duration,
    /// The SVG file for a chart of latency over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Load {
    /// Runs the load and prints a report.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let registry = rpc_registry::connect(&self.registry).await?;
        // A call waits for a provider until its timeout, so the load may be started before its service.
        let config = ClientConfig::default().with_wait_for_ready(true).with_codec(Codec::Json);
        let client = Client::builder().registry(registry).config(config).build()?;
        // `Request` needs a `'static` method. Leaking is fine: this process has one method.
        let method: &'static MethodInfo = Box::leak(Box::new((*self.method).clone()));
        // Make one call first: if it fails, for instance without a provider, do not start the load.
        let caller = Call { client: client.clone(), method, arguments: self.json.clone(), timeout: self.timeout };
        println!(
            "{} answers {}",
            method.route(),
            caller.once().await.map_err(|error| format!("the first call failed: {error}"))?.text()
        );
        let report = self.load(caller).await?;
        print!("{}", report.table());
        if let Some(path) = &self.svg {
            let drawn = chart::draw(method.route(), &report.timeline);
            std::fs::write(path, drawn).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        client.close().await;
        if report.ok == 0 { Err("no call succeeded".into()) } else { Ok(()) }
    }

    /// Calls until the end of the duration or Ctrl-C.
    async fn load(&self, caller: Call) -> Result<Report, Failure> {
        let start = Instant::now();
        let end = start + self.seconds;
        let report = Arc::new(Mutex::new(Report::new(self.seconds)));
        let pace = Pace::start(self.rate, end);
        let mut callers = JoinSet::new();
        for _ in 0..self.concurrency.get() {
            callers.spawn(call_until(end, start, caller.clone(), pace.clone(), Arc::clone(&report)));
        }
        let progress = progress(self.seconds);
        let mut interrupted = std::pin::pin!(ctrl_c());
        let mut ticks = tokio::time::interval(TICK);
        loop {
            // All branches are cancel-safe: a result that is not received stays in the set.
            tokio::select! {
                joined = callers.join_next() => match joined {
                    Some(ended) => ended?,
                    None => break,
                },
                _ = ticks.tick() => {
                    let calls = lock(&report).calls();
                    progress.set_position(start.elapsed().as_millis() as u64);
                    progress.set_message(format!("{calls} calls, {:.0}/s", calls as f64 / start.elapsed().as_secs_f64()));
                }
                _ = &mut interrupted => break,
            }
        }
        progress.finish_and_clear();
        callers.shutdown().await;
        let mut report = lock(&report).clone();
        report.elapsed = start.elapsed();
        Ok(report)
    }
}

/// Makes one call after the other until `end`.
///
/// All tasks share the report, so that it is complete after Ctrl-C too. One lock is fast enough for some ten thousand
/// calls per second.
async fn call_until(end: Instant, start: Instant, call: Call, pace: Pace, report: Arc<Mutex<Report>>) {
    let mut now = Instant::now();
    while now < end {
        let Some(scheduled) = pace.next(now).await else { break };
        let outcome = call.once().await;
        now = Instant::now();
        let failed = outcome.is_err();
        lock(&report).count(now - start, now.duration_since(scheduled), outcome);
        if failed {
            // A call that fails at once may never suspend, and would starve other tasks.
            tokio::task::yield_now().await;
        }
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_route(text: &str) -> Result<Arc<MethodInfo>, String> {
    let (service, method) = text.split_once('/').ok_or("expected `name:version/method`")?;
    let service: ServiceId = service.parse().map_err(|error: rpc_core::Error| error.to_string())?;
    if method.is_empty() {
        return Err("expected a method name after the slash".to_owned());
    }
    Ok(Arc::new(MethodInfo::new(service, method)))
}

fn parse_arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("expected an object with the arguments by name".to_owned()),
        Err(error) => Err(format!("invalid JSON: {error}")),
    }
}

fn progress(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_millis() as u64);
    // The template is a constant; if it were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}

const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_requires_service_version_and_method() {
        assert_eq!(parse_route("demo.Greeter:1.0/hello").unwrap().route(), "demo.Greeter:1.0/hello");
        for bad in ["", "demo.Greeter:1.0", "demo.Greeter/hello", "demo.Greeter:1.0/"] {
            assert!(parse_route(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_must_be_an_object() {
        assert!(parse_arguments(r#"{"name":"Bo"}"#).is_ok());
        for bad in ["", "1", "[]", "{"] {
            assert!(parse_arguments(bad).is_err(), "{bad}");
        }
    }
}
