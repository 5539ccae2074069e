//! [`detect`]: finds the protocol of a new connection by its first bytes.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use rpc_core::{frame::MAGIC, transport::Io};
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout_at},
};

use crate::endpoint::EndpointHandler;

/// The protocol of a connection.
pub(super) enum Detected {
    Msnb,
    Endpoint(Arc<dyn EndpointHandler>),
    /// No bytes have arrived in time.
    Silent,
}

/// Reads into `start` until the protocol is known, at most until `deadline`.
///
/// A connection that belongs to no endpoint counts as one of msnb, which then ends it with a violation.
pub(super) async fn detect(
    io: &mut Box<dyn Io>,
    start: &mut BytesMut,
    endpoints: &[Arc<dyn EndpointHandler>],
    deadline: Instant,
) -> io::Result<Detected> {
    loop {
        start.reserve(FIRST_BYTES);
        match timeout_at(deadline, io.read_buf(start)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if start.is_empty() => return Ok(Detected::Silent),
            // The driver limits the time of an incomplete header.
            Err(_) => return Ok(Detected::Msnb),
        }
        if start.iter().zip(MAGIC).all(|(one, other)| *one == other) {
            // A shorter start is read further by the driver: no endpoint may begin with the first letter of the magic.
            return Ok(Detected::Msnb);
        }
        let mut is_undecided = false;
        for endpoint in endpoints {
            match endpoint.matches(start) {
                Some(true) => return Ok(Detected::Endpoint(Arc::clone(endpoint))),
                Some(false) => {}
                None => is_undecided = true,
            }
        }
        if !is_undecided || start.len() >= FIRST_BYTES {
            return Ok(Detected::Msnb);
        }
    }
}

/// The number of bytes from which the protocol of a connection is known.
const FIRST_BYTES: usize = 64;
/// The divisor of `ServerConfig::handshake_time` for which a server that requires a token waits for the first bytes.
///
/// A caller of msnb may wait for the challenge before it sends anything.
const CHALLENGE_PART: u32 = 4;

/// Returns how long a server that requires a token waits for the first bytes, before it sends its challenge.
pub(super) fn challenge_delay(handshake_time: Duration) -> Duration {
    handshake_time / CHALLENGE_PART
}

#[cfg(test)]
mod tests {
    use rpc_core::BoxFuture;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::endpoint::EndpointConnection;

    /// An endpoint whose connections begin with `GET`.
    struct Get;

    impl EndpointHandler for Get {
        fn protocols(&self) -> &[&'static [u8]] {
            &[]
        }

        fn matches(&self, start: &[u8]) -> Option<bool> {
            let length = start.len().min(3);
            (start[..length] != b"GET"[..length]).then_some(false).or((length == 3).then_some(true))
        }

        fn serve(&self, _: EndpointConnection) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn first_bytes_determine_the_protocol() {
        let endpoints: [Arc<dyn EndpointHandler>; 1] = [Arc::new(Get)];
        for (sent, expected) in [
            (&["m"][..], "msnb"),
            (&["msnb"], "msnb"),
            (&["G", "E", "T"], "endpoint"),
            (&["GET /"], "endpoint"),
            (&["G", "EX"], "msnb"),
            (&["\x16\x03"], "msnb"),
            (&["G"], "msnb"),
            (&[], "silent"),
        ] {
            let (mut peer, io) = tokio::io::duplex(1);
            let (mut io, mut start): (Box<dyn Io>, _) = (Box::new(io), BytesMut::new());
            let written = async {
                for part in sent {
                    peer.write_all(part.as_bytes()).await.unwrap();
                }
                std::future::pending::<()>().await;
            };
            let deadline = Instant::now()
                + Duration::from_millis(if sent.len() == 1 && sent[0] == "G" || sent.is_empty() { 20 } else { 60_000 });
            let detected = tokio::select! {
                detected = detect(&mut io, &mut start, &endpoints, deadline) => detected.unwrap(),
                () = written => unreachable!(),
            };
            let found = match detected {
                Detected::Msnb => "msnb",
                Detected::Endpoint(_) => "endpoint",
                Detected::Silent => "silent",
            };
            assert_eq!(found, expected, "{sent:?}");
            assert!(sent.concat().as_bytes().starts_with(&start));
        }
    }
}
