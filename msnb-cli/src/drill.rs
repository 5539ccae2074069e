//! `msnb drill`: whether a service survives a disturbance under load.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    process::Stdio,
    time::{Duration, Instant},
};

use rpc_cli::shutdown_signal;
use rpc_core::{Addresses, Instance};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    command_error::{CommandError, Exit},
    duration,
    load::{Call, Load, Report, Streams},
    output,
    press::{parse_arguments, parse_concurrency},
    printable::printable,
    route::Route,
    target::Target,
};

/// Tests whether a service survives a disturbance under load.
#[derive(Debug, clap::Args)]
pub(crate) struct Drill {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    Rolling(Rolling),
}

/// Starts providers, restarts one after the other while calls run, and exits with 1 if a call or a provider fails.
///
/// Each provider is a process of the command, which must listen on a free port, register in the registry of the variable
/// MSNB_REGISTRY, and drain when it receives SIGTERM. With --upgrade, the successors are processes of another program,
/// such as a later build, and a second round of restarts returns to the first program.
#[derive(Debug, clap::Args)]
struct Rolling {
    /// The method to call, such as demo.Greeter:1.0/hello.
    #[arg(long, value_name = "SERVICE/METHOD")]
    call: Route,
    /// The arguments of the calls as a JSON object.
    #[arg(short, long, value_name = "JSON", default_value = "{}", value_parser = parse_arguments)]
    data: Value,
    /// The number of providers.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(2..=100))]
    providers: u16,
    /// The calls that start in a second.
    #[arg(long, value_name = "R", default_value = "200")]
    rate: NonZeroUsize,
    /// The largest number of calls in flight.
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_concurrency)]
    concurrency: NonZeroUsize,
    /// The time in which a provider must be listed after its start, and must end after SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    patience: Duration,
    /// Restarts the providers with this program in place of that of CMD, and then back.
    #[arg(long, value_name = "PROGRAM")]
    upgrade: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document at the end.
    #[arg(long)]
    json: bool,
    /// The command of a provider.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Drill {
    pub(crate) fn is_json(&self) -> bool {
        let Kind::Rolling(rolling) = &self.kind;
        rolling.json
    }

    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let Kind::Rolling(rolling) = self.kind;
        tokio::select! {
            ended = rolling.run() => ended,
            // The processes end when the future is dropped.
            () = shutdown_signal() => Ok(Exit::Interrupted),
        }
    }
}

impl Rolling {
    async fn run(self) -> Result<Exit, CommandError> {
        let Route { service, method: Some(method) } = &self.call else {
            let fix = "write --call SERVICE/METHOD, such as demo.Greeter:1.0/hello";
            return Err(CommandError::input("a method is required").with_fix(fix));
        };
        if self.target.address.is_some() {
            let fix = "use --registry, in which the providers register";
            return Err(CommandError::input("a drill needs a registry").with_fix(fix));
        }
        let registry = self.target.connect().await?;
        let mut listed = Listed { watch: registry.watch(service), known: BTreeSet::new() };
        listed.known = listed.first(self.target.timeout()).await;
        let (program, arguments) = self.command.split_first().expect("the command line requires a command");
        let mut providers = Vec::new();
        for number in 1..=self.providers {
            let (process, took) = self.start(program, arguments, &mut listed).await?;
            providers.push(process);
            self.note(&format!("provider {number} of {} is listed after {}", self.providers, seconds(took)));
        }
        let client = self.target.client().await?;
        let call = Call::new(client.clone(), service, method, self.data.clone(), Streams::default())
            .timeout(self.target.timeout());
        call.once().await.map_err(|error| {
            let fix = format!("`msnb call {service}/{method}` explains the failure");
            CommandError::from(error).with_fix(fix)
        })?;
        let load = Load::begin(&call, self.concurrency, Some(self.rate), LONGEST);
        let mut failed_exits = 0;
        for successor in self.rounds(program) {
            for (position, provider) in providers.iter_mut().enumerate() {
                let number = position + 1;
                let begun = Instant::now();
                let status = end(provider, self.patience).await?;
                failed_exits += u16::from(status != 0);
                let ended = begun.elapsed();
                let (process, took) = self.start(successor, arguments, &mut listed).await?;
                *provider = process;
                let by = if self.upgrade.is_some() { format!(" by `{successor}`") } else { String::new() };
                self.note(&format!(
                    "provider {number} has ended with status {status} after {}, and its successor{by} is listed after {}",
                    seconds(ended),
                    seconds(took)
                ));
            }
        }
        // The last successor is called, too.
        tokio::time::sleep(SETTLE).await;
        let report = load.end().await;
        for provider in &mut providers {
            failed_exits += u16::from(end(provider, self.patience).await? != 0);
        }
        client.close().await;
        self.finish(&report, failed_exits)
    }

    /// Returns the program of the successors in each round of restarts.
    fn rounds<'a>(&'a self, program: &'a str) -> Vec<&'a str> {
        match &self.upgrade {
            Some(upgrade) => vec![upgrade, program],
            None => vec![program],
        }
    }

    /// Returns the number of restarts.
    fn restarts(&self) -> u16 {
        if self.upgrade.is_some() { 2 * self.providers } else { self.providers }
    }

    fn finish(&self, report: &Report, failed_exits: u16) -> Result<Exit, CommandError> {
        let passed = report.failed() == 0 && failed_exits == 0;
        if self.json {
            let mut document = report.document();
            document["restarts"] = json!(self.restarts());
            document["failed_exits"] = json!(failed_exits);
            document["passed"] = json!(passed);
            output::json(&document)?;
        } else {
            let verdict = if passed { "passed" } else { "FAILED" };
            let (failed, calls) = (report.failed(), report.calls());
            let table = printable(&report.table());
            output::text(&format!(
                "{table}{verdict}: {failed} of {calls} calls failed during {} restarts, {failed_exits} providers ended with an error\n",
                self.restarts()
            ))?;
        }
        Ok(if passed { Exit::Success } else { Exit::Negative })
    }

    fn note(&self, text: &str) {
        if !self.json {
            output::note(&format!("{text}\n"));
        }
    }

    /// Starts a provider, and waits until the registry lists it. Returns the time that it took.
    async fn start(
        &self,
        program: &str,
        arguments: &[String],
        listed: &mut Listed,
    ) -> Result<(Child, Duration), CommandError> {
        let begun = Instant::now();
        let spawned = Command::new(program)
            .args(arguments)
            .env("MSNB_REGISTRY", &self.target.registry.url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.map_err(|error| {
            CommandError::input(format!("cannot start `{program}`: {error}"))
                .with_fix("write the path of a program that serves the method behind `--`")
        })?;
        let failure = |message: String| {
            let fix = "the command must listen on a free port, such as 127.0.0.1:0, and register in MSNB_REGISTRY";
            Err(CommandError::new(Exit::Unreachable, message).with_fix(fix))
        };
        // All branches are cancel-safe.
        tokio::select! {
            () = listed.one_more() => Ok((process, begun.elapsed())),
            status = process.wait() => match status {
                Ok(status) => failure(format!("`{program}` has ended before it was listed: {status}")),
                Err(error) => failure(format!("cannot wait for `{program}`: {error}")),
            },
            () = tokio::time::sleep(self.patience) => {
                failure(format!("the registry does not list `{program}` within {}", seconds(self.patience)))
            }
        }
    }
}

/// The providers of a service in the registry.
struct Listed {
    watch: Addresses,
    /// All instances that were listed.
    known: BTreeSet<String>,
}

impl Listed {
    /// Returns the instances that the registry lists first; none if it does not answer in time.
    async fn first(&mut self, patience: Duration) -> BTreeSet<String> {
        let list = tokio::time::timeout(patience, self.watch.wait_for(Option::is_some)).await;
        let list = list.ok().and_then(Result::ok).and_then(|list| list.clone()).unwrap_or_default();
        list.iter().map(identity).collect()
    }

    /// Waits until the registry lists another instance.
    async fn one_more(&mut self) {
        let known = &self.known;
        let is_new = |list: &Option<std::sync::Arc<[Instance]>>| {
            list.iter().flat_map(|list| list.iter()).any(|instance| !known.contains(&identity(instance)))
        };
        let new: Vec<_> = match self.watch.wait_for(is_new).await {
            Ok(list) => list.iter().flat_map(|list| list.iter()).map(identity).collect(),
            // The registry has ended, and the caller's time limit applies.
            Err(_) => std::future::pending().await,
        };
        self.known.extend(new);
    }
}

/// Returns a text that differs for each process, also if one has the address of an earlier one.
fn identity(instance: &Instance) -> String {
    let started = instance.metadata().get(Instance::STARTED).map_or("", String::as_str);
    format!("{} {started}", instance.address())
}

/// Sends SIGTERM to a provider, and returns its exit status.
async fn end(provider: &mut Child, patience: Duration) -> Result<i32, CommandError> {
    terminate(provider)?;
    match tokio::time::timeout(patience, provider.wait()).await {
        // A signal that ends the process counts as a failure.
        Ok(Ok(status)) => Ok(status.code().unwrap_or(-1)),
        Ok(Err(error)) => Err(CommandError::input(format!("cannot wait for a provider: {error}"))),
        Err(_) => {
            let message = format!("a provider has not ended within {} after SIGTERM", seconds(patience));
            Err(CommandError::new(Exit::Negative, message).with_fix("allow more time with --patience"))
        }
    }
}

#[cfg(unix)]
fn terminate(provider: &mut Child) -> Result<(), CommandError> {
    use rustix::process::{Pid, Signal, kill_process};
    let Some(process) = provider.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
        return Err(CommandError::new(Exit::Negative, "a provider has ended by itself"));
    };
    kill_process(process, Signal::TERM)
        .map_err(|error| CommandError::new(Exit::Negative, format!("cannot signal a provider: {error}")))
}

#[cfg(not(unix))]
fn terminate(_: &mut Child) -> Result<(), CommandError> {
    Err(CommandError::input("a drill needs SIGTERM, which only Unix has"))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The longest drill.
const LONGEST: Duration = Duration::from_secs(3600);
/// The time in which calls reach the last successor.
const SETTLE: Duration = Duration::from_secs(1);
