//! How a call ended, in one word.

use rpc_core::{Code, Context, Error, Reply};

/// How a call ended that came here; nobody was left to be answered where it has no answer.
pub(crate) fn served(context: &Context) -> Code {
    context.outcome().unwrap_or(Code::Cancelled)
}

/// How a call ended that was made here.
pub(crate) fn called(outcome: &Result<Reply, Error>) -> Code {
    match outcome {
        Ok(reply) if reply.is_application_error => Code::Application,
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}
