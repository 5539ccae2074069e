//! The codes of msnb and the statuses of HTTP.

use hyper::StatusCode;
use rpc_core::Code;
#[cfg(feature = "server")]
use rpc_core::Delivery;

/// Returns the status of an error.
///
/// A caller may repeat a request after 429 and 503, so these state that the handler did not execute.
#[cfg(feature = "server")]
pub(crate) fn of_error(code: Code, delivery: Delivery) -> StatusCode {
    let not_executed = delivery == Delivery::NotExecuted;
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unimplemented if not_executed => StatusCode::NOT_FOUND,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted if not_executed => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable if not_executed => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unavailable => StatusCode::BAD_GATEWAY,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Application => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the code of a status of another framework.
#[cfg(feature = "client")]
pub(crate) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 405 | 406 | 411 | 413..=417 | 431 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        412 | 422 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        500..=599 => Code::Internal,
        _ => Code::Unknown,
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    #[test]
    fn statuses_after_which_callers_repeat_state_no_execution() {
        for number in 0..=u8::MAX {
            for delivery in [Delivery::Unknown, Delivery::Answered] {
                let status = of_error(Code::from_u8(number), delivery).as_u16();
                assert!(![429, 503].contains(&status), "{number} {delivery:?}");
            }
        }
        assert_eq!(of_error(Code::Unavailable, Delivery::NotExecuted), 503);
        assert_eq!(of_error(Code::ResourceExhausted, Delivery::NotExecuted), 429);
    }
}
