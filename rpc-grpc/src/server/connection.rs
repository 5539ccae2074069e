//! [`serve`]: the task of a connection.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_core::{contained, deadline_after};
use rpc_server::EndpointConnection;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    activity::Activity, exchange::Exchange, frames::PREFACE, memory::Memory, state::State, tasks::Tasks,
    watched::Watched,
};

/// Returns whether a connection that begins with these bytes uses HTTP/2; `None` if that needs more bytes.
pub(super) fn matches(start: &[u8]) -> Option<bool> {
    if start.starts_with(PREFACE) {
        return Some(true);
    }
    if PREFACE.starts_with(start) { None } else { Some(false) }
}

/// Serves a connection until it ends.
pub(super) async fn serve(state: Arc<State>, connection: EndpointConnection) {
    let Some(io) = connection.take_io() else { return };
    let config = state.config.clone();
    let (activity, tasks) = (Activity::new(), EndedTasks(Tasks::default()));
    let io = TokioIo::new(Watched::new(io, config.clone()));
    let exchange = Exchange {
        memory: Memory::new(config.request_memory),
        state,
        connection: connection.clone(),
        activity: activity.clone(),
        tasks: tasks.0.clone(),
    };
    let service = service_fn(move |request| {
        let answering = exchange.clone().answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut builder = http2::Builder::new(tasks.0.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_pending_accept_reset_streams(config.max_resets)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_header_list_size(u32::try_from(config.max_head).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval((config.ping_interval != Duration::MAX).then_some(config.ping_interval))
        .keep_alive_timeout(config.ping_time.min(LONGEST));
    let serving = pin!(builder.serve_connection(io, service));
    run(serving, &connection, &activity, (config.idle_time, config.write_stall)).await;
}

/// Polls a connection within its times, and ends it when the server drains.
async fn run<C>(
    mut serving: Pin<&mut C>,
    connection: &EndpointConnection,
    activity: &Activity,
    (idle_time, write_stall): (Duration, Duration),
) where
    C: Future<Output = hyper::Result<()>> + Shutdown,
{
    let mut is_ending = false;
    let mut ends_at = None;
    loop {
        let now = Instant::now();
        let idle_at = deadline_after(activity.idle_since().unwrap_or(now), idle_time);
        if idle_at <= now && !is_ending {
            is_ending = true;
            serving.as_mut().shut_down();
            ends_at = Some(deadline_after(now, CLOSE_TIME));
        }
        // Read again in time, because no one reports a response.
        let stalled_at = deadline_after(activity.stalled_since().unwrap_or(now), write_stall);
        if stalled_at <= now {
            contained(
                || debug!(peer = ?connection.peer().address, "the caller does not read (GrpcConfig::write_stall)"),
            );
            return;
        }
        // The connection is kept over the turns; the others are safe to drop.
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    contained(|| debug!(peer = ?connection.peer().address, %error, "connection of gRPC failed"));
                }
                return;
            }
            () = connection.draining(), if !is_ending => {
                is_ending = true;
                serving.as_mut().shut_down();
            }
            () = sleep_until(ends_at.unwrap_or(now)), if ends_at.is_some() => return,
            () = sleep_until(idle_at), if !is_ending => {}
            () = sleep_until(stalled_at) => {}
        }
    }
}

/// A connection that can end after its calls.
trait Shutdown {
    fn shut_down(self: Pin<&mut Self>);
}

impl<I, S, E> Shutdown for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The tasks of a connection, which end when this is dropped: a task may hold the connection that owns them.
struct EndedTasks(Tasks);

impl Drop for EndedTasks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The number of streams that the endpoint resets for errors of the caller before it closes the connection.
const LOCAL_RESETS: usize = 128;
/// The number of bytes of responses of one stream that wait to be sent.
const SEND_BUFFER: usize = 256 << 10;
/// The number of bytes of a stream that a caller sends before the endpoint has read them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The number of bytes of all streams of a connection that a caller sends before the endpoint has read them.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The time for which an idle connection waits for its caller to close it.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// The longest time of a PING that the implementation of HTTP/2 can add to the current time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_of_http2_are_known() {
        assert_eq!(matches(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx"), Some(true));
        for start in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(matches(start.as_bytes()), None, "{start}");
        }
        for start in ["msnb", "GET / HTTP/1.1", "POST ", "PRI x", "\x16\x03\x01"] {
            assert_eq!(matches(start.as_bytes()), Some(false), "{start}");
        }
    }
}
