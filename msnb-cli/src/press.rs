//! `msnb press`: a load test of a method.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use rpc_cli::shutdown_signal;
use rpc_client::Client;
use rpc_core::{Code, Error, ServiceId, descriptor::Form};
use serde_json::{Value, json};

use crate::{
    call::{expects_streams, input::read_items, streams_rejected},
    command_error::{CommandError, Exit},
    duration,
    load::{self, Load, Report, Streams},
    output,
    printable::printable,
    route::Route,
    target::{Target, unreachable_fix},
};

/// Calls a method repeatedly, prints the latencies, and exits with 1 if a call fails.
#[derive(Debug, clap::Args)]
pub(crate) struct Press {
    /// The method, such as demo.Greeter:1.0/hello.
    #[arg(value_name = "SERVICE/METHOD")]
    route: Route,
    /// The arguments as a JSON object.
    #[arg(value_name = "JSON", default_value = "{}", value_parser = parse_arguments)]
    arguments: Value,
    /// The calls that start in a second, whether earlier ones have ended or not; latencies count from the scheduled start.
    ///
    /// Without this option, each call starts when the previous one has ended.
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroUsize>,
    /// The largest number of calls in flight.
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_concurrency)]
    concurrency: NonZeroUsize,
    /// The time in which calls start, such as 10s or 5m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    seconds: Duration,
    /// The items that each call sends, as lines of JSON: a file, or - for stdin. For a method that reads a stream.
    #[arg(short, long, value_name = "FILE|-")]
    items: Option<String>,
    /// How often each call sends the items.
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// The number of items of the callee after which a call ends; without this option, a call reads until the end of its
    /// stream or of the time.
    #[arg(long, value_name = "N")]
    take: Option<NonZeroUsize>,
    /// The file for a chart of latency over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Prefers the providers with this tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the arguments of a call.
pub(crate) fn parse_arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("expected a JSON object with the names of the parameters".to_owned()),
        Err(error) => Err(format!("expected JSON: {error}")),
    }
}

/// Parses a number of calls in flight.
pub(crate) fn parse_concurrency(text: &str) -> Result<NonZeroUsize, String> {
    let number: NonZeroUsize = text.parse().map_err(|_| "expected a number".to_owned())?;
    if number.get() > MAX_CONCURRENCY {
        return Err(format!("expected at most {MAX_CONCURRENCY}"));
    }
    Ok(number)
}

impl Press {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let Route { service, method: Some(method) } = &self.route else {
            let service = &self.route.service;
            let fix = format!("write {service}/METHOD; `msnb describe {service}` prints the methods");
            return Err(CommandError::input("a method is required").with_fix(fix));
        };
        let address = self.target.stated_address().await?;
        let client = self.target.client().await?;
        let streams = match &self.items {
            Some(_) => self.streams(service, method).await?,
            None => Streams::default(),
        };
        let mut call = self.call(&client, service, method, address, streams);
        // A call that cannot succeed is not repeated.
        let mut first = call.once().await;
        if first.as_ref().is_err_and(expects_streams) {
            call = self.call(&client, service, method, address, self.streams(service, method).await?);
            first = call.once().await;
        }
        if let Err(error) = first {
            return Err(self.failure(error, address));
        }
        let (report, was_interrupted) = self.press(&call).await;
        client.close().await;
        if let Some(file) = &self.svg {
            write_chart(file, &format!("{service}/{method}"), &report).await?;
        }
        if self.json {
            let mut document = report.document();
            document["method"] = json!(format!("{service}/{method}"));
            output::json(&document)?;
        } else {
            output::text(&printable(&report.table()))?;
        }
        Ok(match was_interrupted {
            true => Exit::Interrupted,
            false if report.failed() > 0 => Exit::Negative,
            false => Exit::Success,
        })
    }

    fn call(
        &self,
        client: &Client,
        service: &ServiceId,
        method: &str,
        address: Option<SocketAddr>,
        streams: Streams,
    ) -> load::Call {
        let call = load::Call::new(client.clone(), service, method, self.arguments.clone(), streams);
        let mut call = call.timeout(self.target.timeout());
        call.options_mut().address = address;
        if let Some(tag) = &self.tag {
            call.options_mut().set_tag(tag);
        }
        call
    }

    /// Returns the streams of the method, as its contract has them.
    async fn streams(&self, service: &ServiceId, method: &str) -> Result<Streams, CommandError> {
        let route = format!("{service}/{method}");
        let contract = self.target.contract(service).await.map_err(|_| streams_rejected(&route))?;
        let form = contract.method(method).map(|described| described.form).unwrap_or_default();
        let sends = matches!(form, Form::CallerStream | Form::Streams);
        let sent = match &self.items {
            Some(_) if !sends => {
                let fix = format!("omit --items: {route} reads no stream");
                return Err(CommandError::input("the method reads no items").with_fix(fix));
            }
            None if sends => {
                let fix = "write --items FILE with lines of JSON, which each call sends";
                return Err(CommandError::input(format!("{route} reads a stream")).with_fix(fix));
            }
            Some(file) => Some(read_items(file).await?.into()),
            None => None,
        };
        let received = matches!(form, Form::CalleeStream | Form::Streams);
        Ok(Streams { sent, repeat: self.repeat.get(), received, take: self.take.map(|take| take.get() as u64) })
    }

    fn failure(&self, error: Error, address: Option<SocketAddr>) -> CommandError {
        let fix = match address {
            Some(address) if error.code() == Code::Unavailable => unreachable_fix(address),
            _ => format!("`msnb call {}` with the same options explains the failure", self.route),
        };
        CommandError::from(error).with_fix(fix)
    }

    /// Calls until the end of the time or Ctrl-C. Returns whether it was Ctrl-C.
    async fn press(&self, call: &load::Call) -> (Report, bool) {
        let mut load = Load::begin(call, self.concurrency, self.rate, self.seconds);
        let shows_progress = !self.json && io::stderr().is_terminal();
        let mut shutdown = std::pin::pin!(shutdown_signal());
        let mut ticks = tokio::time::interval(TICK);
        let was_interrupted = loop {
            // All branches are cancel-safe.
            tokio::select! {
                () = load.ended() => break false,
                () = &mut shutdown => break true,
                _ = ticks.tick() => if shows_progress {
                    output::note(&progress(&load, self.seconds));
                },
            }
        };
        if shows_progress {
            output::note(CLEAR_LINE);
        }
        (load.end().await, was_interrupted)
    }
}

/// Returns a line that replaces the previous one.
fn progress(load: &Load, length: Duration) -> String {
    let (calls, failed) = load.counts();
    let elapsed = load.elapsed();
    let rate = calls as f64 / elapsed.as_secs_f64().max(0.001);
    let left = length.saturating_sub(elapsed).as_secs_f64().ceil();
    let done = ((elapsed.as_secs_f64() / length.as_secs_f64()).min(1.0) * 20.0) as usize;
    let bar = format!("{}{}", "=".repeat(done), " ".repeat(20 - done));
    let (sent, received) = load.items();
    let items = if sent + received > 0 { format!(", {} items", sent + received) } else { String::new() };
    format!("{CLEAR_LINE}[{bar}] {calls} calls, {rate:.0}/s, {failed} failed{items}, {left} s left")
}

async fn write_chart(file: &Path, title: &str, report: &Report) -> Result<(), CommandError> {
    let drawn = loadgen::draw(title, &report.timeline);
    tokio::fs::write(file, drawn).await.map_err(|error| {
        CommandError::input(format!("cannot write {}: {error}", file.display()))
            .with_fix("write --svg with the path of a file in an existing directory")
    })
}

const TICK: Duration = Duration::from_millis(100);
/// Moves to the start of the line, and clears it.
const CLEAR_LINE: &str = "\r\u{1b}[K";
/// The largest number of calls in flight.
const MAX_CONCURRENCY: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert!(parse_arguments(r#"{"name": "Bo"}"#).is_ok());
        for invalid in ["", "1", "[]", "{"] {
            assert!(parse_arguments(invalid).is_err(), "{invalid}");
        }
        assert!(parse_concurrency("10000").is_ok());
        for invalid in ["", "0", "10001", "-1"] {
            assert!(parse_concurrency(invalid).is_err(), "{invalid}");
        }
    }
}
