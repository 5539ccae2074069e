//! [`Expected`]: the answers that the protocol requires for a session.

use std::collections::BTreeMap;

use bytes::BufMut;
use rpc_core::{
    frame::{Frame, FrameType},
    head::{CallFlags, HeadError, RequestHead, ResponseHead},
    transport::{FrameReader, Inbound, PingWindow},
};

/// The answers that the protocol requires for a session.
pub(crate) struct Expected {
    /// The number of requests by their id.
    requests: BTreeMap<u32, usize>,
    /// The ids of calls that are not one-way.
    answered: Vec<u32>,
    /// Whether the session follows the protocol to its end, in whatever order its calls finish.
    sound: bool,
}

impl Expected {
    pub(crate) fn of(session: &[u8], max_frame: u32) -> Self {
        let mut expected = Self { requests: BTreeMap::new(), answered: Vec::new(), sound: true };
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
                Ok(head) => self.request(header.id, !head.flags.contains(CallFlags::ONE_WAY)),
                // The server cannot determine whether a malformed head belongs to a one-way call, so it answers.
                Err(HeadError::Rejected(_)) => self.request(header.id, true),
                Err(HeadError::Violation(_)) => {
                    // Before a token proof, the server rejects the request without parsing its head.
                    self.request(header.id, false);
                    self.sound = false;
                }
            },
            FrameType::Response | FrameType::Goaway => {
                self.sound &= !matches!(ResponseHead::take(&mut body), Err(HeadError::Violation(_)));
            }
            _ => {}
        }
    }

    fn request(&mut self, id: u32, answered: bool) {
        let count = self.requests.entry(id).or_default();
        *count += 1;
        // Whether a repeated id is still in flight depends on timing.
        self.sound &= id != 0 && *count == 1;
        if answered {
            self.answered.push(id);
        }
    }

    /// Returns the number of requests with this id.
    pub(crate) fn requests(&self, id: u32) -> usize {
        self.requests.get(&id).copied().unwrap_or(0)
    }

    /// Returns the ids of the calls that the server must answer, if the session follows the protocol.
    pub(crate) fn answered(&self) -> Option<&[u32]> {
        self.sound.then_some(&self.answered[..])
    }
}
