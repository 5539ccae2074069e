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
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    activity::Activity, answer::Answer, frame_watch::FrameWatch, handler::Http2Connection, handlers::Handlers,
    tasks::Tasks,
};
use crate::endpoint::{connection::EndpointConnection, watched::Watched};

/// Serves a connection until it ends.
pub(super) async fn serve(handlers: Arc<Handlers>, connection: EndpointConnection) {
    let Some(io) = connection.take_io() else { return };
    let limits = handlers.limits.clone();
    let (activity, tasks) = (Activity::new(), EndedTasks(Tasks::default()));
    let io = TokioIo::new(Watched::new(io, limits.write_stall, FrameWatch::new(&limits)));
    let shared = Http2Connection::new(connection.clone(), tasks.0.clone());
    let requests: Vec<_> = handlers.all.iter().map(|handler| handler.connect(shared.clone())).collect();
    let busy = activity.clone();
    let service = service_fn(move |request| {
        let in_progress = busy.begin();
        let answering = requests[handlers.position(&request)].answer(request);
        let activity = busy.clone();
        async move { Ok::<_, Infallible>(answering.await.map(|body| Answer::new(body, &activity, in_progress))) }
    });
    let mut builder = http2::Builder::new(tasks.0.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(limits.max_resets)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval((limits.ping_interval != Duration::MAX).then_some(limits.ping_interval))
        .keep_alive_timeout(limits.ping_time.min(LONGEST));
    let serving = pin!(builder.serve_connection(io, service));
    run(serving, &connection, &activity, (limits.idle_time, limits.write_stall)).await;
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
                || debug!(peer = ?connection.peer().address, "the caller does not read (write_stall of its endpoint)"),
            );
            return;
        }
        // The connection is kept over the turns; the others are safe to drop.
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    contained(|| debug!(peer = ?connection.peer().address, %error, "connection of HTTP/2 failed"));
                }
                return;
            }
            () = connection.draining(), if !is_ending => {
                is_ending = true;
                serving.as_mut().shut_down();
            }
            // Requests that crossed the close are answered.
            () = sleep_until(ends_at.unwrap_or(now)), if ends_at.is_some() => match activity.idle_since() {
                Some(_) => return,
                None => ends_at = Some(deadline_after(Instant::now(), CLOSE_TIME)),
            },
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
