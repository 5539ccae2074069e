//! [`serve`]: the task of a connection.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_core::{contained, deadline_after};
use rpc_server::EndpointConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    activity::{Activity, Due},
    exchange::{Exchange, State},
    watched::Watched,
};

/// Returns whether a connection that begins with these bytes uses HTTP; `None` if that needs more bytes.
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

/// Serves a connection until it ends.
pub(super) async fn serve(state: Arc<State>, connection: EndpointConnection) {
    let Some(io) = connection.take_io() else { return };
    let is_http2 = match connection.protocol() {
        Some(protocol) => protocol == ALPN_HTTP2,
        None => connection.start().starts_with(PREFACE),
    };
    let activity = Activity::new();
    if !connection.start().is_empty() {
        activity.read();
    }
    let config = state.config.clone();
    let io = TokioIo::new(Watched::new(io, activity.clone(), config.write_stall));
    let exchange = Exchange { state, connection: connection.clone(), activity: activity.clone() };
    let service = service_fn(move |request| {
        let answering = exchange.clone().answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    if is_http2 {
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams)
            .max_pending_accept_reset_streams(config.max_resets)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .max_header_list_size(u32::try_from(config.max_head).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let serving = pin!(builder.serve_connection(io, service));
        // The time of a head is that without a request: other frames arrive without one.
        run(serving, http2::Connection::graceful_shutdown, &connection, &activity, (None, config.idle_time)).await;
        drop(tasks);
    } else {
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
        let times = (Some(config.head_time), config.idle_time);
        run(serving, http1::Connection::graceful_shutdown, &connection, &activity, times).await;
    }
}

/// Polls a connection within its times, and ends it when the server drains.
async fn run<C: Future<Output = hyper::Result<()>>>(
    mut serving: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    connection: &EndpointConnection,
    activity: &Activity,
    (head_time, idle_time): (Option<Duration>, Duration),
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
            () = until(ends_at) => match activity.due(None, idle_time) {
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

/// The tasks of the requests of a connection, which end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, request: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(request);
    }
}

/// The protocols in ALPN, the preferred one first.
pub(super) const PROTOCOLS: [&[u8]; 2] = [ALPN_HTTP2, b"http/1.1"];
const ALPN_HTTP2: &[u8] = b"h2";
/// The first bytes of a connection of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first bytes of connections of HTTP.
const STARTS: [&[u8]; 10] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ", PREFACE];
/// The number of streams of HTTP/2 that the endpoint resets for errors of the caller before it closes the connection.
const LOCAL_RESETS: usize = 128;
/// The number of bytes of responses of one stream of HTTP/2 that wait to be sent.
const SEND_BUFFER: usize = 256 << 10;
/// The number of bytes of a body of HTTP/2 that a caller sends before the endpoint has read them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The number of bytes of all bodies of a connection of HTTP/2 that a caller sends before the endpoint has read them.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The time for which an idle connection waits for its caller to close it.
const CLOSE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_of_http_are_known() {
        for start in ["GET / HTTP/1.1", "POST ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            assert_eq!(matches(start.as_bytes()), Some(true), "{start}");
        }
        for start in ["", "G", "GET", "P", "PR", "PRI * HTTP/2.0"] {
            assert_eq!(matches(start.as_bytes()), None, "{start}");
        }
        for start in ["msnb", "get / ", "GETX", "PRI x", "\x16\x03\x01"] {
            assert_eq!(matches(start.as_bytes()), Some(false), "{start}");
        }
    }
}
