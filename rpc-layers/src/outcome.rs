//! The outcome of a call as a code.

use rpc_core::{Code, Context, Error, Reply};

/// Returns the outcome of a served call. A call without an answer was cancelled.
pub(crate) fn served(context: &Context) -> Code {
    context.outcome().unwrap_or(Code::Cancelled)
}

/// Returns the outcome of a call to a server.
pub(crate) fn called(outcome: &Result<Reply, Error>) -> Code {
    match outcome {
        Ok(reply) if reply.is_application_error => Code::Application,
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}
