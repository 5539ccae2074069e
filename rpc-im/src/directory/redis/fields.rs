//! How Redis has the sessions of a user: a hash, device → node, epoch, session and platform.

use super::server::Fields;
use crate::{
    directory::{Entry, channel_of},
    identity::{Epoch, NodeId, NodeKey, SessionId},
};

/// Where the sessions of a user are, or the sides of a pairing room.
pub(super) fn key(user: &str) -> String {
    match channel_of(user) {
        Some(channel) => format!("im:room:{channel}"),
        None => format!("im:user:{user}"),
    }
}

/// A session, besides its user and its device.
pub(super) fn value(entry: &Entry) -> String {
    let Entry { node, session, platform, .. } = entry;
    format!("{} {} {session} {platform}", node.id, node.epoch.0)
}

/// The sessions of a user; what is none of ours is passed over.
pub(super) fn read(user: &str, fields: &Fields) -> Vec<Entry> {
    let mut entries: Vec<_> = fields.iter().filter_map(|(device, value)| entry(user, device, value)).collect();
    // A hash has no order.
    entries.sort_by_key(|entry| entry.session);
    entries
}

fn entry(user: &str, device: &str, value: &str) -> Option<Entry> {
    let mut parts = value.splitn(4, ' ');
    let mut next = || parts.next();
    let node = NodeId::new(next()?.parse().ok()?)?;
    let epoch = Epoch(next()?.parse().ok()?);
    let session = SessionId(next()?.parse().ok()?);
    let platform = next()?.to_owned();
    let (user, device, node) = (user.to_owned(), device.to_owned(), NodeKey { id: node, epoch });
    Some(Entry { user, device, platform, node, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let node = NodeKey { id: NodeId::new(7).unwrap(), epoch: Epoch(u64::MAX) };
        for platform in ["", "web", "a b c"] {
            let entry = Entry {
                user: "ann".to_owned(),
                device: "my phone".to_owned(),
                platform: platform.to_owned(),
                node,
                session: SessionId(u64::MAX),
            };
            assert_eq!(read("ann", &vec![("my phone".to_owned(), value(&entry))]), [entry]);
        }
        for strange in ["", "7", "7 1 2", "1024 1 2 web", "x 1 2 web", "7 -1 2 web"] {
            assert!(read("ann", &vec![("phone".to_owned(), strange.to_owned())]).is_empty(), "{strange}");
        }
    }

    #[test]
    fn rooms_have_a_place_of_their_own() {
        let room =
            Entry::of_room("0123", "app", NodeKey { id: NodeId::new(7).unwrap(), epoch: Epoch(1) }, SessionId(9));
        assert_eq!(key(&room.user), "im:room:0123");
        assert_eq!(key("room:0123"), "im:user:room:0123");
    }
}
