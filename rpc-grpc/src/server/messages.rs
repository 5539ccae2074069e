//! [`Messages`]: the messages that a caller sends in a call.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use rpc_core::{Code, Error, deadline_after};
use tokio::time::{Instant, timeout_at};

use super::{
    compression::{decompress, too_long},
    config::GrpcConfig,
    memory::{Memory, Share},
};

/// The messages that a caller sends in a call.
pub(super) struct Messages {
    body: Incoming,
    /// Bytes that arrived and belong to no message yet.
    chunk: Bytes,
    /// The begin of a message that arrives in several parts.
    partial: BytesMut,
    share: Share,
    is_gzip: bool,
    max_message: usize,
    message_time: Duration,
    deadline: Option<Instant>,
    /// When the first byte of the message arrived.
    begun: Option<Instant>,
}

/// A message, and the memory that it occupies.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) share: Share,
}

impl Messages {
    pub(super) fn new(
        body: Incoming,
        is_gzip: bool,
        config: &GrpcConfig,
        memory: &Memory,
        deadline: Option<Instant>,
    ) -> Self {
        let GrpcConfig { max_message, message_time, .. } = *config;
        let (chunk, partial, share) = (Bytes::new(), BytesMut::new(), memory.share());
        Self { body, chunk, partial, share, is_gzip, max_message, message_time, deadline, begun: None }
    }

    /// Reads the only message of a call.
    pub(super) async fn only(&mut self) -> Result<Received, Error> {
        self.begun = Some(Instant::now());
        let missing = || Error::not_executed(Code::InvalidArgument, "the call has no message, expected one");
        let message = self.next().await?.ok_or_else(missing)?;
        self.begun = Some(Instant::now());
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Error::not_executed(Code::InvalidArgument, "the call has several messages, expected one")),
        }
    }

    /// Reads the next message; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the caller has reset the stream; `DeadlineExceeded` if the message arrives too slowly; otherwise the
    /// fault of the message.
    pub(super) async fn next(&mut self) -> Result<Option<Received>, Error> {
        loop {
            if let Some((is_compressed, bytes)) = self.take()? {
                self.begun = None;
                let mut share = self.share.split(PREFIX + bytes.len());
                if !is_compressed {
                    return Ok(Some(Received { bytes, share }));
                }
                if !self.is_gzip {
                    let message = "the message is compressed, and the call has no grpc-encoding";
                    return Err(Error::not_executed(Code::Internal, message));
                }
                let bytes = decompress(bytes, self.max_message).await?;
                share.add(bytes.len())?;
                return Ok(Some(Received { bytes, share }));
            }
            let Some(data) = self.read().await? else {
                if self.partial.is_empty() && self.chunk.is_empty() {
                    return Ok(None);
                }
                return Err(Error::not_executed(Code::InvalidArgument, "the stream ends within a message"));
            };
            if data.is_empty() {
                continue;
            }
            self.share.add(data.len())?;
            self.begun.get_or_insert_with(Instant::now);
            self.chunk = data;
        }
    }

    /// Takes a message that has arrived completely. Otherwise all bytes are in `partial`.
    fn take(&mut self) -> Result<Option<(bool, Bytes)>, Error> {
        if self.partial.is_empty() {
            match self.length(&self.chunk)? {
                Some(length) if self.chunk.len() >= PREFIX + length => {
                    let is_compressed = self.chunk[0] == 1;
                    self.chunk.advance(PREFIX);
                    return Ok(Some((is_compressed, self.chunk.split_to(length))));
                }
                _ => self.partial.extend_from_slice(&std::mem::take(&mut self.chunk)),
            }
            return Ok(None);
        }
        while !self.chunk.is_empty() {
            let wanted = self.length(&self.partial)?.map_or(PREFIX, |length| PREFIX + length);
            let missing = wanted - self.partial.len();
            if missing == 0 {
                break;
            }
            let part = self.chunk.split_to(missing.min(self.chunk.len()));
            self.partial.extend_from_slice(&part);
        }
        match self.length(&self.partial)? {
            Some(length) if self.partial.len() == PREFIX + length => {
                let mut message = std::mem::take(&mut self.partial);
                let is_compressed = message[0] == 1;
                message.advance(PREFIX);
                Ok(Some((is_compressed, message.freeze())))
            }
            _ => Ok(None),
        }
    }

    /// Returns the length of a message; `None` if its prefix has not arrived.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let Some([flag, length @ ..]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        if *flag > 1 {
            return Err(Error::not_executed(Code::InvalidArgument, "the message has an unknown flag"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.max_message { Err(too_long(self.max_message)) } else { Ok(Some(length)) }
    }

    /// Reads bytes of the stream; `None` at its end.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let slow_at = self.begun.map(|begun| {
                let arrived = Duration::from_secs(self.partial.len() as u64 / BYTES_PER_SECOND);
                deadline_after(begun, self.message_time.saturating_add(arrived))
            });
            let body = &mut self.body;
            let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let frame = match [slow_at, self.deadline].into_iter().flatten().min() {
                Some(until) => timeout_at(until, frame).await.map_err(|_| match self.deadline {
                    Some(deadline) if deadline <= Instant::now() => {
                        Error::not_executed(Code::DeadlineExceeded, "the deadline passed before the message arrived")
                    }
                    _ => {
                        let time = self.message_time;
                        let message = format!("the message did not arrive within {time:?} (GrpcConfig::message_time)");
                        Error::not_executed(Code::DeadlineExceeded, message)
                    }
                })?,
                None => frame.await,
            };
            return match frame {
                None => Ok(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Ok(Some(data)),
                    // Callers have no trailers in gRPC.
                    Err(_) => continue,
                },
                Some(Err(_)) => Err(Error::unknown(Code::Cancelled, "the caller has reset the stream")),
            };
        }
    }
}

/// The length of the prefix of a message: a flag and the length.
pub(super) const PREFIX: usize = 5;
/// The number of bytes of a message that extend its time by a second.
const BYTES_PER_SECOND: u64 = 64 << 10;
