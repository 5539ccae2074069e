//! `msnb-bench load`: load on a service of which only the name and the arguments are known.

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
use rpc_core::{CallOptions, Caller, Codec, MethodInfo, Request, ServiceId};
use serde_json::Value;
use tokio::{signal::ctrl_c, task::JoinSet, time::Instant};

use self::report::Report;
use crate::{Failure, job::positive_seconds, pace::Pace};

/// What to call, and how hard.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Where the service is found: `local:`, `nacos://host:8848`, `fixed:host:port`.
    #[arg(value_name = "REGISTRY-URL")]
    registry: String,
    /// What to call: `demo.Greeter:1.0/hello`.
    #[arg(value_name = "SERVICE/METHOD", value_parser = parse_route)]
    method: Arc<MethodInfo>,
    /// The arguments by name, `{"name":"Bo"}`.
    #[arg(long, value_name = "OBJECT", default_value = "{}", value_parser = parse_arguments)]
    json: Value,
    /// How many calls may be in flight at once.
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZeroUsize,
    /// How long to go on.
    #[arg(long, value_name = "S", default_value = "10", value_parser = positive_seconds)]
    seconds: Duration,
    /// Calls a second to begin, whether or not earlier ones have ended, as long as fewer than N are in flight; latencies then
    /// count from when a call was to begin. Without it, each call begins when the one before it ends.
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroUsize>,
    /// How long a call may take.
    #[arg(long, value_name = "S", default_value = "5", value_parser = positive_seconds)]
    timeout: Duration,
    /// Where to draw latency over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Load {
    /// Calls, and says how that went.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let registry = rpc_registry::connect(&self.registry).await?;
        // One that was started before its service waits for it, as long as a call may take.
        let config = ClientConfig::default().with_wait_for_ready(true).with_codec(Codec::Json);
        let client = Client::builder().registry(registry).config(config).build()?;
        // Calls name their method for ever; this process has one.
        let method: &'static MethodInfo = Box::leak(Box::new((*self.method).clone()));
        // One call alone: without a provider, or with wrong arguments, there is no sense in more.
        let caller = Call { client: client.clone(), method, arguments: self.json.clone(), timeout: self.timeout };
        println!(
            "{} answers {}",
            method.route(),
            caller.once().await.map_err(|error| format!("the first call: {error}"))?.text()
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

    /// Calls until the time is over, or Ctrl-C.
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
        let mut stopped = std::pin::pin!(ctrl_c());
        let mut ticks = tokio::time::interval(TICK);
        loop {
            // All are safe to drop: what is not taken now is taken next.
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
                _ = &mut stopped => break,
            }
        }
        progress.finish_and_clear();
        callers.shutdown().await;
        let mut report = lock(&report).clone();
        report.took = start.elapsed();
        Ok(report)
    }
}

/// One call after the other. The report is shared: a load is measured in tens of thousands of calls a second, and whoever stops
/// early wants to see what there is.
async fn call_until(end: Instant, start: Instant, call: Call, pace: Pace, report: Arc<Mutex<Report>>) {
    let mut now = Instant::now();
    while now < end {
        let Some(begun) = pace.next(now).await else { break };
        let outcome = call.once().await;
        now = Instant::now();
        let failed = outcome.is_err();
        lock(&report).count(now - start, now.duration_since(begun), outcome);
        if failed {
            // What fails at once would keep the others from their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// A call that can be made again and again.
#[derive(Clone)]
struct Call {
    client: Client,
    method: &'static MethodInfo,
    arguments: Value,
    timeout: Duration,
}

/// What came back.
struct Answer {
    reply: rpc_core::Reply,
}

impl Call {
    async fn once(&self) -> Result<Answer, rpc_core::Error> {
        let mut options = CallOptions::default();
        options.timeout = Some(self.timeout);
        let request = Request { method: self.method, arguments: self.arguments.clone(), options };
        self.client.call(request).await.map(|reply| Answer { reply })
    }
}

impl Answer {
    fn text(&self) -> String {
        let value = String::from_utf8_lossy(&self.reply.payload.bytes);
        if self.reply.is_application_error { format!("with the error {value}") } else { value.into_owned() }
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_route(text: &str) -> Result<Arc<MethodInfo>, String> {
    let (service, method) = text.split_once('/').ok_or("expected `name:version/method`")?;
    let service: ServiceId = service.parse().map_err(|error: rpc_core::Error| error.to_string())?;
    if method.is_empty() {
        return Err("expected a method after the slash".to_owned());
    }
    Ok(Arc::new(MethodInfo::new(service, method)))
}

fn parse_arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("expected an object keyed by the parameters' names".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn progress(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_millis() as u64);
    // The template is a constant; the default style is as good.
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
    fn a_route_names_service_version_and_method() {
        assert_eq!(parse_route("demo.Greeter:1.0/hello").unwrap().route(), "demo.Greeter:1.0/hello");
        for bad in ["", "demo.Greeter:1.0", "demo.Greeter/hello", "demo.Greeter:1.0/"] {
            assert!(parse_route(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_are_an_object() {
        assert!(parse_arguments(r#"{"name":"Bo"}"#).is_ok());
        for bad in ["", "1", "[]", "{"] {
            assert!(parse_arguments(bad).is_err(), "{bad}");
        }
    }
}
