//! [`Frames`]: the frames of HTTP/2 that a caller sends, without their contents.

use std::time::Duration;

use tokio::time::Instant;

/// Follows the frames that a caller sends: whether the headers of a request are on the way, and frames without use.
///
/// The implementation of HTTP/2 checks the frames; this only counts them.
#[derive(Debug)]
pub(super) struct Frames {
    /// The bytes of the preface that have not arrived.
    preface: usize,
    header: [u8; HEADER],
    header_length: usize,
    /// The bytes of the current frame that have not arrived.
    payload: usize,
    /// Whether the current frame ends a list of headers.
    ends_head: bool,
    is_in_head: bool,
    idle_frames: u32,
    max_idle_frames: u32,
    /// The bytes that were written since they last permitted a frame.
    written: usize,
    /// The time up to which time has permitted frames.
    permitted: Instant,
}

/// A caller has sent too many frames that carry no part of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

impl Frames {
    pub(super) fn new(max_idle_frames: u32) -> Self {
        Self {
            preface: PREFACE.len(),
            header: [0; HEADER],
            header_length: 0,
            payload: 0,
            ends_head: false,
            is_in_head: false,
            idle_frames: 0,
            max_idle_frames,
            written: 0,
            permitted: Instant::now(),
        }
    }

    /// Returns whether a list of headers has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.is_in_head
    }

    /// Handles bytes of the caller.
    pub(super) fn handle_read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let missing = (HEADER - self.header_length).min(bytes.len());
                self.header[self.header_length..][..missing].copy_from_slice(&bytes[..missing]);
                self.header_length += missing;
                bytes = &bytes[missing..];
                if self.header_length < HEADER {
                    break;
                }
                self.header_length = 0;
                self.begin()?;
            }
            if self.payload == 0 && self.ends_head {
                (self.is_in_head, self.ends_head) = (false, false);
                self.permit(1);
            }
        }
        Ok(())
    }

    /// Handles bytes that were written to the caller, which may be answers to PINGs.
    pub(super) fn handle_write(&mut self, bytes: usize) {
        self.written += bytes;
        self.permit((self.written / BYTES_PER_FRAME) as u32);
        self.written %= BYTES_PER_FRAME;
    }

    /// Handles the header of a frame.
    fn begin(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        let is_empty = self.payload == 0;
        match kind {
            DATA => self.count(is_empty && flags & END_STREAM == 0),
            HEADERS | CONTINUATION => {
                self.is_in_head = true;
                self.ends_head = flags & END_HEADERS != 0;
                self.count(is_empty)
            }
            // Their number follows from the requests and from the bytes that the endpoint sends.
            RST_STREAM | WINDOW_UPDATE => Ok(()),
            _ => self.count(true),
        }
    }

    fn count(&mut self, is_idle: bool) -> Result<(), Flood> {
        if !is_idle {
            return Ok(());
        }
        let passed = self.permitted.elapsed().as_millis() / TIME_PER_FRAME.as_millis();
        self.permit(u32::try_from(passed).unwrap_or(u32::MAX));
        self.permitted += TIME_PER_FRAME * u32::try_from(passed).unwrap_or(u32::MAX);
        self.idle_frames += 1;
        if self.idle_frames > self.max_idle_frames { Err(Flood) } else { Ok(()) }
    }

    fn permit(&mut self, frames: u32) {
        self.idle_frames = self.idle_frames.saturating_sub(frames);
    }
}

/// The first bytes of a connection of HTTP/2.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of the header of a frame.
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The output that permits a frame: callers measure the connection with PINGs while they receive.
const BYTES_PER_FRAME: usize = 1 << 10;
/// The time that permits a frame.
const TIME_PER_FRAME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn begun(max_idle_frames: u32) -> Frames {
        let mut frames = Frames::new(max_idle_frames);
        frames.handle_read(PREFACE).unwrap();
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn headers_are_followed_in_every_split() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, &[0; 6]));
        let begin = bytes.len() + HEADER;
        bytes.extend(frame(HEADERS, END_STREAM, b"abc"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, b"d"));
        let end = bytes.len();
        bytes.extend(frame(DATA, 0, b"xyz"));
        for split in 0..=bytes.len() {
            let mut frames = Frames::new(1);
            frames.handle_read(&bytes[..split]).unwrap();
            assert_eq!(frames.is_in_head(), (begin..end).contains(&split), "{split}");
            frames.handle_read(&bytes[split..]).unwrap();
            assert!(!frames.is_in_head());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_calls_are_limited() {
        let ping = frame(6, 0, &[0; 8]);
        for idle in [ping.clone(), frame(4, 0, &[]), frame(2, 0, &[0; 5]), frame(0x70, 0, b"x"), frame(DATA, 0, &[])] {
            let mut frames = begun(2);
            assert_eq!([(); 3].map(|()| frames.handle_read(&idle)), [Ok(()), Ok(()), Err(Flood)]);
        }
        let mut frames = begun(2);
        for _ in 0..100 {
            frames.handle_read(&ping).unwrap();
            frames.handle_read(&frame(HEADERS, END_HEADERS, b"abc")).unwrap();
            frames.handle_read(&ping).unwrap();
            frames.handle_write(BYTES_PER_FRAME / 2);
            frames.handle_write(BYTES_PER_FRAME / 2);
            frames.handle_read(&frame(DATA, END_STREAM, &[])).unwrap();
        }
        for _ in 0..100 {
            frames.handle_read(&ping).unwrap();
            tokio::time::advance(TIME_PER_FRAME).await;
        }
        frames.handle_read(&ping).unwrap();
        frames.handle_read(&ping).unwrap();
        assert_eq!(frames.handle_read(&ping), Err(Flood));
    }
}
