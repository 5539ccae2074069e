//! [`ConversationRef`]: a reference to a conversation, and the derivation of its id.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A reference to a conversation, which may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConversationRef {
    /// The id of the conversation.
    pub conversation: String,
    /// The two users of a conversation that begins with its first message.
    pub pair: Option<[String; 2]>,
}

impl ConversationRef {
    /// References the conversation of two users, which may be the same user.
    pub fn of_pair(one: &str, other: &str) -> Self {
        let mut pair = [one.to_owned(), other.to_owned()];
        pair.sort();
        Self { conversation: format!("d-{}", digest([&pair[0], &pair[1]])), pair: Some(pair) }
    }

    /// References the conversation with this id.
    pub fn of_group(conversation: String) -> Self {
        Self { conversation, pair: None }
    }

    /// Returns whether the id matches the users. A reference from another node may be invalid.
    pub fn is_valid(&self) -> bool {
        self.pair.as_ref().is_none_or(|[one, other]| *self == Self::of_pair(one, other))
    }
}

/// Returns the id of the conversation that a device creates by the request `id`.
///
/// A repeated request creates no second conversation, because it yields the same id.
pub(crate) fn group_id(user: &str, device: &str, id: &str) -> String {
    format!("g-{}", digest([user, device, id]))
}

/// Returns 160 bits of a hash of these names, enough to make collisions infeasible.
fn digest<const N: usize>(names: [&str; N]) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    HEXLOWER.encode(&hash.finalize()[..20])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_conversation_in_either_order() {
        let ours = ConversationRef::of_pair("ann", "bo");
        assert_eq!(ours, ConversationRef::of_pair("bo", "ann"));
        assert!(ours.is_valid());
        assert_ne!(ours.conversation, ConversationRef::of_pair("an", "nbo").conversation);
        assert!(!ConversationRef { pair: Some(["ann".into(), "eve".into()]), ..ours }.is_valid());
    }
}
