//! [`run`]: forwards one connection to a Nacos server.

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rand::seq::SliceRandom as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{sleep, timeout},
};

use crate::{address::HostPort, supervision::log};

/// Forwards one connection until either side ends it.
pub(super) async fn run(mut client: TcpStream, servers: Arc<[HostPort]>) {
    let Some(mut server) = dial(&client, &servers).await else { return };
    let first_bytes_timeout = if servers.len() > 1 { FIRST_BYTES_TIMEOUT } else { SINGLE_SERVER_FIRST_BYTES_TIMEOUT };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // A gRPC connection is unusable once one direction has ended.
    let outcome = tokio::select! {
        outcome = forward(from_client, to_server, None) => outcome,
        outcome = forward(from_server, to_client, Some(first_bytes_timeout)) => outcome,
    };
    if let Err(error) = outcome {
        log(|| tracing::debug!(%error, "a connection to Nacos failed"));
    }
}

/// Connects to one of the servers and retries without a time limit.
///
/// Returns `None` once the client has closed its connection.
async fn dial(client: &TcpStream, servers: &[HostPort]) -> Option<TcpStream> {
    let mut order: Vec<_> = servers.iter().collect();
    order.shuffle(&mut rand::rng());
    loop {
        for server in &order {
            match timeout(CONNECT_TIMEOUT, connect(server)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => log(|| tracing::debug!(%server, %error, "cannot connect to a Nacos server")),
                Err(_) => log(|| tracing::debug!(%server, "the connection attempt to a Nacos server timed out")),
            }
        }
        sleep(DIAL_RETRY_DELAY).await;
        // The client has sent its first frames, so the socket is readable, and its readiness shows whether it is
        // closed.
        let readiness = client.ready(Interest::READABLE).now_or_never();
        if readiness.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed())) {
            return None;
        }
    }
}

async fn connect(server: &HostPort) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server.to_string()).await?;
    stream.set_nodelay(true)?;
    // A gRPC server sends its settings at once. A server that waits for the client's settings passes this check too.
    match timeout(EARLY_CLOSE_PERIOD, stream.peek(&mut [0; 1])).await {
        Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(stream),
    }
}

async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    first_bytes_timeout: Option<Duration>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut limit = first_bytes_timeout;
    loop {
        enable_quick_ack(from.as_ref())?;
        let read = from.read(&mut buffer);
        let length = match limit.take() {
            Some(limit) => timeout(limit, read).await??,
            None => read.await?,
        };
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Disables the delay of the next acknowledgement.
///
/// The kernel resets this option by itself, so it is set before each read.
#[cfg(target_os = "linux")]
fn enable_quick_ack(stream: &TcpStream) -> io::Result<()> {
    stream.set_quickack(true)
}

#[cfg(not(target_os = "linux"))]
fn enable_quick_ack(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// The time a server has to accept a connection.
pub(in crate::nacos) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The delay after no server has accepted a connection.
pub(super) const DIAL_RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a new connection is observed for an early close.
///
/// Proxies accept connections for a stopped server and then close them.
const EARLY_CLOSE_PERIOD: Duration = Duration::from_millis(500);
/// The time one of several servers has to send its first bytes.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// The time a single server has to send its first bytes.
///
/// It is longer because there is no other server to try.
const SINGLE_SERVER_FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// The length of the buffer for each direction of a connection, in bytes.
const BUFFER_LEN: usize = 8 * 1024;
