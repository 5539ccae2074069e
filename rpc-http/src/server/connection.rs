//! [`serve`]: the task of a connection of HTTP/1.1.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_core::{contained, deadline_after};
use rpc_server::{EndpointConnection, Watched};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    activity::{Activity, Due},
    exchange::{Exchange, State},
};

/// Returns whether a connection that begins with these bytes uses HTTP/1.1; `None` if that needs more bytes.
pub(super) fn matches(start: &[u8]) -> Option<bool> {
    let mut may_match = false;
    for known in STARTS {
        if start.starts_with(known) {
            return Some(true);
        }
        may_match |= known.starts_with(start);
    }
    if may_match { None } else { Some(false) }
}

/// Serves a connection of HTTP/1.1 until it ends.
pub(super) async fn serve(state: Arc<State>, connection: EndpointConnection) {
    let Some(io) = connection.take_io() else { return };
    let activity = Activity::new();
    if !connection.start().is_empty() {
        activity.read();
    }
    let config = state.config.clone();
    let io = TokioIo::new(Watched::new(io, config.write_stall, activity.clone()));
    let exchange = Exchange { state, connection: connection.clone() };
    let requests = activity.clone();
    let service = service_fn(move |request| {
        let busy = requests.begin();
        let answering = exchange.clone().answer(request);
        async move { Ok::<_, Infallible>(answering.await.map(|body| body.keep(busy))) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Measured by `Activity`, which distinguishes it from the idle time.
        .header_read_timeout(None)
        .max_headers(config.max_headers)
        .max_buf_size(config.max_head)
        .half_close(false)
        .keep_alive(true);
    let serving = pin!(builder.serve_connection(io, service));
    let times = (config.head_time, config.idle_time);
    run(serving, http1::Connection::graceful_shutdown, &connection, &activity, times).await;
}

/// Polls a connection within its times, and ends it when the server drains.
async fn run<C: Future<Output = hyper::Result<()>>>(
    mut serving: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    connection: &EndpointConnection,
    activity: &Activity,
    (head_time, idle_time): (Duration, Duration),
) {
    let mut is_ending = false;
    let mut ends_at = None;
    loop {
        let due = activity.due(head_time, idle_time);
        let due_at = match due {
            Due::Head(at) | Due::Idle(at) => Some(at),
            Due::Never => None,
        };
        let until = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // The connection is kept over the turns; the others are safe to drop.
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    contained(|| debug!(peer = ?connection.peer().address, %error, "connection of HTTP failed"));
                }
                return;
            }
            () = connection.draining(), if !is_ending => {
                is_ending = true;
                shut_down(serving.as_mut());
            }
            () = activity.changed() => {}
            // Requests that crossed the close are answered.
            () = until(ends_at) => match activity.due(Duration::MAX, idle_time) {
                Due::Never => ends_at = Some(deadline_after(Instant::now(), CLOSE_TIME)),
                _ => return,
            },
            () = until(due_at), if !is_ending => {
                if matches!(due, Due::Head(_)) {
                    return;
                }
                is_ending = true;
                shut_down(serving.as_mut());
                ends_at = Some(deadline_after(Instant::now(), CLOSE_TIME));
            }
        }
    }
}

/// The protocol in ALPN.
pub(super) const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];
/// The first bytes of connections of HTTP/1.1.
const STARTS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE "];
/// The time for which an idle connection waits for its caller to close it.
const CLOSE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_of_http_are_known() {
        for start in ["GET / HTTP/1.1", "POST "] {
            assert_eq!(matches(start.as_bytes()), Some(true), "{start}");
        }
        for start in ["", "G", "GET", "P"] {
            assert_eq!(matches(start.as_bytes()), None, "{start}");
        }
        for start in ["msnb", "get / ", "GETX", "PRI * HTTP/2.0", "\x16\x03\x01"] {
            assert_eq!(matches(start.as_bytes()), Some(false), "{start}");
        }
    }
}
