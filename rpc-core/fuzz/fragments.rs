//! Checks of bodies that arrive in fragments, against a model of docs/PROTOCOL.md.

use rpc_core::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    transport::{FrameReader, Inbound},
};

use super::{filled::filled, frames::read_at_once_and_in_pieces};

/// Checks that the frames of a stream with fragments are those of a model, for every split of the stream.
///
/// The first two bytes determine the split; each `~~~~` stands for 16 KiB.
pub fn fragments(input: &[u8]) {
    let Some((&[count, seed], stream)) = input.split_first_chunk::<2>() else { return };
    let stream = filled(stream);
    let (found, end) = read_at_once_and_in_pieces(&stream, [count, seed], MAX_FRAME);
    let mut model = Model::default();
    let expected_end = model.read(&stream);
    let found: Vec<Read> = found.into_iter().map(Read::from).collect();
    // A failure does not print bodies of many KiB.
    assert!(found == model.read, "{:?} instead of {:?}", lengths(&found), lengths(&model.read));
    assert_eq!(end.as_ref().ok(), expected_end.as_ref(), "{end:?}");
}

/// A frame that was read: its type, codec, compression and id, and its body unless it is longer than the limit.
type Parts = ([u8; 3], u32, Option<Vec<u8>>);

#[derive(PartialEq)]
struct Read(Parts);

impl From<Inbound> for Read {
    fn from(inbound: Inbound) -> Self {
        let (header, body) = match inbound {
            Inbound::Frame(Frame { header, body }) => (header, Some(body.to_vec())),
            Inbound::Overlong(header) => (header, None),
        };
        Self(([header.frame_type.as_u8(), header.codec, header.compression], header.id, body))
    }
}

fn lengths(read: &[Read]) -> Vec<([u8; 3], u32, Option<usize>)> {
    read.iter().map(|Read((kind, id, body))| (*kind, *id, body.as_ref().map(Vec::len))).collect()
}

/// Reads a whole stream, one frame after the other.
#[derive(Default)]
struct Model {
    read: Vec<Read>,
    /// The incomplete bodies: type and id, the parts of the first fragment, and the number of missing bytes.
    incomplete: Vec<(u8, u32, Parts, usize)>,
}

impl Model {
    /// Returns whether the stream ends within a frame; `None` if it violates the protocol.
    fn read(&mut self, mut stream: &[u8]) -> Option<bool> {
        loop {
            let begun = stream.len().min(5);
            if stream[..begun] != b"msnb\x01"[..begun] {
                return None;
            }
            let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() else {
                return Some(!stream.is_empty());
            };
            let mut header = *header;
            let has_more = header[TYPE_AT] & 0x80 != 0;
            header[TYPE_AT] &= 0x7f;
            let header = Header::parse(&header).ok()?;
            let (kind, id, length) = (header.frame_type.as_u8(), header.id, header.full_length as usize);
            if header.frame_type == FrameType::Ping && length > HEADER_LEN + FrameReader::MAX_PING_BODY {
                return None;
            }
            let begun = self.incomplete.iter().position(|body| (body.0, body.1) == (kind, id));
            if length > MAX_FRAME as usize {
                if has_more || begun.is_some() || length > 16 * MAX_FRAME as usize {
                    return None;
                }
                self.read.push(Read(([kind, header.codec, header.compression], id, None)));
                match rest.split_at_checked(length - HEADER_LEN) {
                    Some((_, rest)) => stream = rest,
                    None => return Some(true),
                }
                continue;
            }
            let Some((body, rest)) = rest.split_at_checked(length - HEADER_LEN) else { return Some(true) };
            stream = rest;
            if has_more {
                self.add(&header, begun, body)?;
            } else if let Some(begun) = begun {
                let (.., (parts, _, whole), missing) = self.incomplete.remove(begun);
                if body.len() != missing {
                    return None;
                }
                if let Some(mut whole) = whole {
                    whole.extend_from_slice(body);
                    self.read.push(Read((parts, id, Some(whole))));
                }
            } else {
                if header.frame_type == FrameType::Cancel {
                    self.incomplete.retain(|body| body.1 != id || !matches!(body.0, 1 | 7));
                }
                self.read.push(Read(([kind, header.codec, header.compression], id, Some(body.to_vec()))));
            }
        }
    }

    /// Adds a fragment that is not the last one. Returns `None` if it violates the protocol.
    fn add(&mut self, header: &Header, begun: Option<usize>, body: &[u8]) -> Option<()> {
        let (kind, id) = (header.frame_type.as_u8(), header.id);
        if !matches!(kind, 1 | 2 | 7 | 10 | 11) || body.len() < 16 << 10 {
            return None;
        }
        if let Some(begun) = begun {
            let (.., (_, _, whole), missing) = &mut self.incomplete[begun];
            *missing = missing.checked_sub(body.len()).filter(|missing| *missing > 0)?;
            if let Some(whole) = whole {
                whole.extend_from_slice(body);
            }
            return Some(());
        }
        let (length, body) = body.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let missing = length.checked_sub(body.len()).filter(|missing| *missing > 0)?;
        if self.incomplete.len() == 4 || length + HEADER_LEN > 16 * MAX_FRAME as usize {
            return None;
        }
        let (parts, is_overlong) = ([kind, header.codec, header.compression], length + HEADER_LEN > MAX_FRAME as usize);
        if is_overlong {
            self.read.push(Read((parts, id, None)));
        }
        self.incomplete.push((kind, id, (parts, id, (!is_overlong).then(|| body.to_vec())), missing));
        Some(())
    }
}

/// The offset of the type in a header.
const TYPE_AT: usize = 9;
const MAX_FRAME: u32 = 64 << 10;
