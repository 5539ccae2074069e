//! [`UserHash`]: the sessions of a user as the fields of a Redis hash.
//!
//! A field maps a device to node, session, term of the node's lease, and platform. Scripts write and check the term.

use crate::{
    directory::{SessionEntry, entry::channel_of},
    identity::{NodeId, SessionId},
};

/// The sessions of a user in Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UserHash {
    /// The device and the value of each field.
    pub(super) fields: Vec<(String, String)>,
    /// The sessions whose node has held its lease since it registered them, in the order of their ids.
    pub(super) valid: Vec<SessionEntry>,
}

impl UserHash {
    /// Decodes the fields of a user's hash; `is_valid` has an element for each field.
    ///
    /// A field of an unknown format is not valid.
    pub(super) fn new(user: &str, fields: Vec<(String, String)>, is_valid: &[bool]) -> Self {
        let fields_valid = fields.iter().zip(is_valid).filter(|(_, is_valid)| **is_valid);
        let mut valid: Vec<_> = fields_valid.filter_map(|((device, value), _)| decode(user, device, value)).collect();
        // Redis returns the fields of a hash in no particular order.
        valid.sort_by_key(|entry| (entry.session, entry.node));
        Self { fields, valid }
    }
}

/// Returns the key of the sessions of a user, or of the sides of a pairing room.
pub(super) fn key(user: &str) -> String {
    match channel_of(user) {
        Some(channel) => format!("im:room:{channel}"),
        None => format!("im:user:{user}"),
    }
}

/// Decodes a session.
pub(super) fn decode(user: &str, device: &str, value: &str) -> Option<SessionEntry> {
    let mut parts = value.splitn(4, ' ');
    let mut next = || parts.next();
    let node = NodeId(u64::from_str_radix(next()?, 16).ok()?);
    let session = SessionId(next()?.parse().ok()?);
    let _term: u64 = next()?.parse().ok()?;
    let platform = next()?.to_owned();
    Some(SessionEntry { user: user.to_owned(), device: device.to_owned(), platform, node, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_node_session_term_and_platform() {
        for platform in ["", "web", "a b c"] {
            let entry = SessionEntry {
                user: "ann".to_owned(),
                device: "my phone".to_owned(),
                platform: platform.to_owned(),
                node: NodeId(u64::MAX - 1),
                session: SessionId(u64::MAX),
            };
            let value = format!("fffffffffffffffe 18446744073709551615 18446744073709551615 {platform}");
            assert_eq!(decode("ann", "my phone", &value), Some(entry));
        }
        for malformed in ["", "7", "7 1", "7 1 2", "x 1 2 web", "7 -1 2 web", "7 1 x web", "10000000000000000 1 2 web"]
        {
            assert_eq!(decode("ann", "phone", malformed), None, "{malformed}");
        }
    }

    #[test]
    fn malformed_and_invalid_fields_are_not_valid() {
        let field = |device: &str, value: &str| (device.to_owned(), value.to_owned());
        let fields = vec![field("a", "1 3 9 web"), field("b", "1 2 9 web"), field("c", "x"), field("d", "1 4 9 web")];
        let hash = UserHash::new("ann", fields.clone(), &[true, true, true, false]);
        assert_eq!(hash.fields, fields);
        let valid: Vec<_> = hash.valid.iter().map(|entry| entry.session.0).collect();
        assert_eq!(valid, [2, 3]);
    }

    #[test]
    fn rooms_and_users_have_distinct_keys() {
        let room = SessionEntry::of_room("0123", "app", NodeId(7), SessionId(9));
        assert_eq!(key(&room.user), "im:room:0123");
        assert_eq!(key("room:0123"), "im:user:room:0123");
    }
}
