//! `msnb call`: a call of a method by its name, with JSON.
//!
//! | topic | module |
//! |---|---|
//! | the arguments, and the items of a stream as lines of JSON | `input` |
//! | calls of methods with streams | `streams` |
//! | how to fix a failed call | `advice` |

mod advice;
pub(crate) mod input;
mod streams;

use std::{net::SocketAddr, time::Duration};

use rpc_cli::shutdown_signal;
use rpc_client::{Client, JsonCall};
use rpc_core::{CallError, Code, Delivery, Error, Explanation, descriptor::Form};
use serde_json::{Value, json};

use crate::{
    command_error::{CommandError, Exit},
    output,
    printable::printable,
    route::Route,
    target::Target,
};

/// Calls a method with JSON arguments, and prints its result as JSON, or the items of its stream as lines of JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// The method, such as demo.Greeter:1.0/hello.
    #[arg(value_name = "SERVICE/METHOD")]
    route: Route,
    /// The arguments as a JSON object, or - for those on stdin; default: {}.
    ///
    /// For a method that reads a stream, - is the stream.
    #[arg(value_name = "JSON")]
    arguments: Option<String>,
    /// The arguments as a JSON object, @FILE for those in a file, or @- for those on stdin.
    #[arg(short, long, value_name = "JSON|@FILE", conflicts_with = "arguments")]
    data: Option<String>,
    /// The items of the stream that the method reads, as lines of JSON: a file, or - for stdin, which is the default.
    #[arg(short, long, value_name = "FILE|-")]
    items: Option<String>,
    /// A metadata entry of the call. May be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_metadata)]
    metadata: Vec<(String, String)>,
    /// Prefers the providers with this tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Also prints the candidates and the attempts of the call, to stderr or as the member `explanation`.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document with the member `result` or `error`, or such a document on one line for each item.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_metadata(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// How a call ended.
type Outcome<T> = Result<T, CallError<Value>>;

impl Call {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let Route { service, method: Some(method) } = &self.route else {
            let service = &self.route.service;
            let fix =
                format!("write {service}/METHOD; `msnb describe {service}{}` prints the methods", self.options(None));
            return Err(CommandError::input("a method is required").with_fix(fix));
        };
        let route = format!("{service}/{method}");
        let address = self.target.stated_address().await?;
        // Stdin contains either the arguments or the items, which only the contract tells.
        let mut form = match self.arguments.as_deref() == Some("-") || self.items.is_some() {
            true => self.form(method).await,
            false => None,
        };
        // Stdin has the items, so that the arguments cannot be there.
        let sends = matches!(form, Some(Form::CallerStream | Form::Streams));
        let arguments = match sends && self.arguments.as_deref() == Some("-") {
            true => json!({}),
            false => self.arguments(&route).await?,
        };
        let client = self.target.client().await?;
        let mut result = Ok(Exit::Success);
        for _ in 0..2 {
            result = match form {
                Some(Form::CallerStream | Form::CalleeStream | Form::Streams) => {
                    let call = self.prepare(&client, &route, arguments.clone(), address);
                    self.call_with_streams(call, &route, form.unwrap_or_default(), address).await
                }
                _ => match self
                    .call_once(self.prepare(&client, &route, arguments.clone(), address), &route, address)
                    .await
                {
                    // The server rejects a call without the streams of its method.
                    Err(Failed::Streams) if form.is_none() => {
                        form = self.form(method).await;
                        continue;
                    }
                    Err(Failed::Streams) => Err(streams_rejected(&route)),
                    Err(Failed::Other(error)) => Err(error),
                    Ok(exit) => Ok(exit),
                },
            };
            break;
        }
        client.close().await;
        result
    }

    /// Returns the form of a method from the contract; `None` if no server describes it.
    async fn form(&self, method: &str) -> Option<Form> {
        let contract = self.target.contract(&self.route.service).await.ok()?;
        Some(contract.method(method)?.form)
    }

    /// Calls a method without streams.
    async fn call_once(&self, call: JsonCall, route: &str, address: Option<SocketAddr>) -> Result<Exit, Failed> {
        let call = call.timeout(self.target.timeout());
        let Some((outcome, explanation)) = interruptible(call.explain()).await else { return Ok(Exit::Interrupted) };
        if let Err(CallError::Rpc(error)) = &outcome
            && expects_streams(error)
        {
            return Err(Failed::Streams);
        }
        self.print_explanation(&explanation)?;
        Ok(self.print_result(outcome, &explanation, route, address).await?)
    }

    fn prepare(&self, client: &Client, route: &str, arguments: Value, address: Option<SocketAddr>) -> JsonCall {
        let mut call = client.call_json(route, arguments);
        if let Some(address) = address {
            call = call.address(address);
        }
        if let Some(tag) = &self.tag {
            call = call.tag(tag);
        }
        self.metadata.iter().fold(call, |call, (key, value)| call.metadata(key, value))
    }

    /// Prints the result of a call that answers once.
    async fn print_result(
        &self,
        outcome: Outcome<Value>,
        explanation: &Explanation,
        route: &str,
        address: Option<SocketAddr>,
    ) -> Result<Exit, CommandError> {
        match outcome {
            Ok(result) if self.json && self.explain => {
                output::json(&json!({ "result": result, "explanation": document(explanation) }))
            }
            Ok(result) if self.json => output::json(&json!({ "result": result })),
            Ok(result) => output::json(&result),
            Err(error) => {
                let error = self.failure(error, route, address).await;
                Err(if self.explain { error.with_detail("explanation", document(explanation)) } else { error })
            }
        }
    }

    /// Prints how the client handled the call, unless it is a member of the JSON output.
    fn print_explanation(&self, explanation: &Explanation) -> Result<(), CommandError> {
        if self.explain && !self.json {
            output::note(&printable(&explanation.to_string()));
        }
        Ok(())
    }

    /// Returns the limit of the whole call, if the user has set one: an accepted stream has none by default.
    fn limit_of_streams(&self) -> Duration {
        self.target.timeout.unwrap_or(NO_LIMIT)
    }
}

/// Returns the output of a call, or `None` after Ctrl-C. Dropping the call cancels it.
async fn interruptible<T>(call: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        outcome = call => Some(outcome),
        () = shutdown_signal() => None,
    }
}

/// Why a call without streams failed.
enum Failed {
    /// The method has streams.
    Streams,
    Other(CommandError),
}

impl From<CommandError> for Failed {
    fn from(error: CommandError) -> Self {
        Self::Other(error)
    }
}

/// Returns whether a server has rejected a call because its method has other streams.
pub(crate) fn expects_streams(error: &Error) -> bool {
    error.code() == Code::Unimplemented
        && error.delivery() == Delivery::NotExecuted
        && error.message().contains("stream")
}

pub(crate) fn streams_rejected(route: &str) -> CommandError {
    let fix = "the contract of the server does not tell which: reflection is disabled, or denied to this caller";
    CommandError::from(Error::not_executed(Code::Unimplemented, format!("{route} has streams"))).with_fix(fix)
}

/// Returns an explanation as JSON.
fn document(explanation: &Explanation) -> Value {
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let candidates: Vec<_> =
        explanation.candidates.iter().map(|one| json!({ "address": one.address, "state": one.state })).collect();
    let attempts = explanation.attempts.iter().map(|attempt| {
        json!({
            "address": attempt.address, "sent_ms": ms(attempt.sent), "ended_ms": attempt.ended.map(ms), "error": attempt.error,
        })
    });
    json!({
        "registry": explanation.registry, "rule": explanation.rule, "stale": explanation.stale,
        "took_ms": ms(explanation.took), "candidates": candidates, "attempts": attempts.collect::<Vec<_>>(),
    })
}

/// The longest timeout in the wire format, 49 days.
const NO_LIMIT: Duration = Duration::from_millis(u32::MAX as u64);
