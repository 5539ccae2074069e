//! [`Expected`]: the answers that the protocol requires for a session.

use std::collections::BTreeMap;

use bytes::BufMut;
use rpc_core::{
    frame::{Frame, FrameType},
    head::{CallFlags, HeadError, RequestHead, ResponseHead},
    transport::{Credit, FrameReader, Inbound, PingWindow},
};

/// The answers that the protocol requires for a session.
pub(crate) struct Expected {
    /// The calls by their id.
    calls: BTreeMap<u32, Calls>,
    /// The ids of calls that are not one-way.
    answered: Vec<u32>,
    /// Whether the session follows the protocol to its end, in whatever order its calls finish.
    sound: bool,
}

/// The calls with one id.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) requests: usize,
    /// The number of requests with each of the flags 4 and 8.
    sending: usize,
    pub(crate) expecting: usize,
    /// The cost of the items that the caller sends.
    sent: u64,
    /// The credit that the caller grants.
    pub(crate) granted: u64,
    has_ended: bool,
}

impl Expected {
    pub(crate) fn of(session: &[u8], max_frame: u32) -> Self {
        let mut expected = Self { calls: BTreeMap::new(), answered: Vec::new(), sound: true };
        let mut pings = 0;
        let mut reader = FrameReader::new(max_frame);
        reader.read_buffer().put_slice(session);
        loop {
            match reader.next_frame() {
                Ok(Some(Inbound::Frame(frame))) => {
                    pings += u32::from(frame.header.frame_type == FrameType::Ping);
                    expected.take(frame);
                }
                Ok(Some(Inbound::Overlong(header))) if header.frame_type == FrameType::Request => {
                    expected.request(header.id, true);
                }
                Ok(Some(Inbound::Overlong(_))) => {}
                Ok(None) => break,
                Err(_) => {
                    expected.sound = false;
                    return expected;
                }
            }
        }
        expected.sound &= !reader.is_mid_frame() && pings <= PingWindow::LIMIT;
        expected
    }

    fn take(&mut self, frame: Frame) {
        let Frame { header, mut body } = frame;
        match header.frame_type {
            FrameType::Request => match RequestHead::take(&mut body) {
                Ok(head) => {
                    self.request(header.id, !head.flags.contains(CallFlags::ONE_WAY));
                    let calls = self.calls.entry(header.id).or_default();
                    calls.sending += usize::from(head.flags.contains(CallFlags::SENDS_ITEMS));
                    calls.expecting += usize::from(head.flags.contains(CallFlags::EXPECTS_ITEMS));
                }
                // The server cannot determine whether a malformed head belongs to a one-way call, so it answers.
                Err(HeadError::Rejected(_)) => self.request(header.id, true),
                Err(HeadError::Violation(_)) => {
                    // Before a token proof, the server rejects the request without parsing its head.
                    self.request(header.id, false);
                    self.sound = false;
                }
            },
            FrameType::Response | FrameType::CalleeEnd | FrameType::Goaway => {
                self.sound &= !matches!(ResponseHead::take(&mut body), Err(HeadError::Violation(_)));
            }
            FrameType::CallerItem => self.item(header.id, header.compression, body.len()),
            FrameType::CallerEnd => {
                if let Some(calls) = self.sending(header.id) {
                    let has_ended = std::mem::replace(&mut calls.has_ended, true);
                    self.sound &= !has_ended;
                }
            }
            FrameType::CallerCredit => {
                let granted = body[..].try_into().map(u32::from_be_bytes);
                let calls = self.calls.entry(header.id).or_default();
                calls.granted += u64::from(granted.unwrap_or(0));
                // The credit may already be used in part.
                let is_sound = granted.is_ok() && calls.granted + u64::from(Credit::INITIAL) <= Credit::MAX as u64;
                self.sound &= is_sound;
            }
            // The driver checks acknowledgements against the fragments that the server has sent.
            FrameType::Ack => self.sound = false,
            _ => {}
        }
    }

    fn request(&mut self, id: u32, answered: bool) {
        let calls = self.calls.entry(id).or_default();
        calls.requests += 1;
        // Whether a repeated id is still in flight depends on timing.
        self.sound &= id != 0 && calls.requests == 1;
        if answered {
            self.answered.push(id);
        }
    }

    /// Counts an item. The server grants further credit as its handlers read, which depends on timing.
    fn item(&mut self, id: u32, compression: u8, length: usize) {
        let Some(calls) = self.sending(id) else { return };
        let has_credit = calls.sent < u64::from(Credit::INITIAL);
        calls.sent += Credit::cost(length);
        // A compressed item costs its decompressed length once that is known.
        let is_sound = has_credit && !calls.has_ended && compression == 0;
        self.sound &= is_sound;
    }

    fn sending(&mut self, id: u32) -> Option<&mut Calls> {
        self.calls.get_mut(&id).filter(|calls| calls.sending > 0)
    }

    /// Returns the calls with this id.
    pub(crate) fn calls(&self, id: u32) -> Option<&Calls> {
        self.calls.get(&id)
    }

    /// Returns the ids of the calls that the server must answer, if the session follows the protocol.
    pub(crate) fn answered(&self) -> Option<&[u32]> {
        self.sound.then_some(&self.answered[..])
    }
}

impl Calls {
    /// Returns whether one of the calls sends items.
    pub(crate) fn sends(&self) -> bool {
        self.sending > 0
    }
}
