//! Calls of methods with streams.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt as _;
use rpc_client::JsonCall;
use rpc_core::{CallError, Status, Streaming, descriptor::Form};
use serde_json::{Value, json};

use super::{Call, Outcome, document, input, interruptible};
use crate::{
    command_error::{CommandError, Exit},
    output,
};

impl Call {
    /// Calls a method with streams: sends the lines of the input, and prints the items of the answer as lines.
    pub(super) async fn call_with_streams(
        &self,
        mut call: JsonCall,
        route: &str,
        form: Form,
        address: Option<SocketAddr>,
    ) -> Result<Exit, CommandError> {
        let sends = matches!(form, Form::CallerStream | Form::Streams);
        // The provider is told that the stream failed, and this process why.
        let failure = Failure::default();
        if sends {
            let items = input::items(self.lines().await?).inspect(failure.recorder());
            call = call.items(Streaming::from_stream(items));
        }
        call = call.timeout(match form {
            Form::CallerStream => self.limit_of_streams(),
            _ => self.target.timeout(),
        });
        if form == Form::CallerStream {
            let Some((outcome, explanation)) = interruptible(call.explain()).await else {
                return Ok(Exit::Interrupted);
            };
            failure.check()?;
            self.print_explanation(&explanation)?;
            return self.print_result(outcome, &explanation, route, address).await;
        }
        let Some((outcome, explanation)) = interruptible(call.stream()).await else { return Ok(Exit::Interrupted) };
        self.print_explanation(&explanation)?;
        let items = match outcome {
            Ok(items) => items,
            Err(error) => {
                failure.check()?;
                return Err(self.failure(error, route, address).await);
            }
        };
        if self.json && self.explain {
            output::line(&json!({ "explanation": document(&explanation) }))?;
        }
        match interruptible(self.print_items(items)).await {
            None => Ok(Exit::Interrupted),
            Some(Ok(ended)) => {
                failure.check()?;
                match ended {
                    Ok(()) => Ok(Exit::Success),
                    Err(error) => Err(self.failure(error, route, address).await),
                }
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Prints items until the end of the stream, and returns how it ended.
    async fn print_items(&self, mut items: Streaming<Value, Value>) -> Result<Outcome<()>, CommandError> {
        let mut count = 0_u64;
        while let Some(item) = items.next().await {
            match item {
                Ok(item) if self.json => output::line(&json!({ "item": item }))?,
                Ok(item) => output::line(&item)?,
                Err(error) => return Ok(Err(error)),
            };
            count += 1;
        }
        if self.json {
            output::line(&json!({ "items": count }))?;
        }
        Ok(Ok::<_, CallError<Value>>(()))
    }
}

/// The status with which the stream of this process failed.
#[derive(Debug, Clone, Default)]
struct Failure(Arc<Mutex<Option<Status>>>);

impl Failure {
    fn recorder(&self) -> impl FnMut(&Result<Value, Status>) + Send + 'static {
        let Self(recorded) = self.clone();
        move |item| {
            if let Err(status) = item {
                *recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
            }
        }
    }

    /// Returns the failure as an error of the input.
    fn check(&self) -> Result<(), CommandError> {
        let status = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        status.map_or(Ok(()), |status| {
            let fix = "write each item as one line of JSON";
            Err(CommandError::input(status.message()).with_fix(fix))
        })
    }
}
