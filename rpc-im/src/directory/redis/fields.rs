//! [`HashFields`]: the sessions of a user as fields of a Redis hash.
//!
//! A field maps the device to node, epoch, session and platform.

use crate::{
    directory::entry::{SessionEntry, channel_of},
    identity::{Epoch, NodeId, NodeKey, SessionId},
};

/// The fields of one hash: device and value of each session.
pub(super) type HashFields = Vec<(String, String)>;

/// Returns the key of the sessions of a user, or of the sides of a pairing room.
pub(super) fn key(user: &str) -> String {
    match channel_of(user) {
        Some(channel) => format!("im:room:{channel}"),
        None => format!("im:user:{user}"),
    }
}

/// Encodes a session without its user and device.
pub(super) fn value(entry: &SessionEntry) -> String {
    let SessionEntry { node, session, platform, .. } = entry;
    format!("{} {} {session} {platform}", node.id, node.epoch.0)
}

/// Decodes the sessions of a user, ordered by id; unknown formats are skipped.
pub(super) fn decode(user: &str, fields: &HashFields) -> Vec<SessionEntry> {
    let mut entries: Vec<_> = fields.iter().filter_map(|(device, value)| entry(user, device, value)).collect();
    // Redis returns the fields of a hash in no particular order.
    entries.sort_by_key(|entry| entry.session);
    entries
}

fn entry(user: &str, device: &str, value: &str) -> Option<SessionEntry> {
    let mut context = value.splitn(4, ' ');
    let mut next = || context.next();
    let node = NodeId::new(next()?.parse().ok()?)?;
    let epoch = Epoch(next()?.parse().ok()?);
    let session = SessionId(next()?.parse().ok()?);
    let platform = next()?.to_owned();
    let (user, device, node) = (user.to_owned(), device.to_owned(), NodeKey { id: node, epoch });
    Some(SessionEntry { user, device, platform, node, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_inverts_encoding() {
        let node = NodeKey { id: NodeId::new(7).unwrap(), epoch: Epoch(u64::MAX) };
        for platform in ["", "web", "a b c"] {
            let entry = SessionEntry {
                user: "ann".to_owned(),
                device: "my phone".to_owned(),
                platform: platform.to_owned(),
                node,
                session: SessionId(u64::MAX),
            };
            assert_eq!(decode("ann", &vec![("my phone".to_owned(), value(&entry))]), [entry]);
        }
        for malformed in ["", "7", "7 1 2", "1024 1 2 web", "x 1 2 web", "7 -1 2 web"] {
            assert!(decode("ann", &vec![("phone".to_owned(), malformed.to_owned())]).is_empty(), "{malformed}");
        }
    }

    #[test]
    fn rooms_and_users_have_distinct_keys() {
        let room = SessionEntry::of_room(
            "0123",
            "app",
            NodeKey { id: NodeId::new(7).unwrap(), epoch: Epoch(1) },
            SessionId(9),
        );
        assert_eq!(key(&room.user), "im:room:0123");
        assert_eq!(key("room:0123"), "im:user:room:0123");
    }
}
