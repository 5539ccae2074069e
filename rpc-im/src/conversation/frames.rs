//! Frames for clients from the values of the store.

use std::sync::Arc;

use crate::{
    cluster::message::NodeMessage,
    envelope::{Conversation, Lagging, MemberState, Push, ServerFrame},
    store::{ConversationInfo, Member, Message, NewMessage, Stored},
};

/// Returns the push of a stored message.
pub(crate) fn push(conversation: &str, incarnation: u64, message: Message) -> Push {
    let Message { seq, from, body, kind, target, time, changed, .. } = message;
    Push { conversation: conversation.to_owned(), incarnation, seq, from, time, kind, target, changed, body }
}

/// Returns the push of a message that was just stored.
pub(crate) fn push_of_new(conversation: &str, incarnation: u64, message: &NewMessage, stored: Stored) -> Push {
    let NewMessage { from, kind, target, body, .. } = message.clone();
    Push {
        conversation: conversation.to_owned(),
        incarnation,
        seq: stored.seq,
        from,
        time: stored.time,
        kind: kind as i32,
        target,
        changed: false,
        body,
    }
}

/// Returns the message that makes the members of a conversation sync.
pub(crate) fn lagging(conversation: &str, seq: u64) -> Arc<NodeMessage> {
    NodeMessage::frame(ServerFrame::Lagging(Lagging { conversation: conversation.to_owned(), seq }))
}

/// Returns the description of a conversation; `id` is the client's id of the request that it answers.
pub(crate) fn conversation(id: Option<String>, info: ConversationInfo) -> Conversation {
    let ConversationInfo { conversation, incarnation, is_group, open, name, first, last, audience, member, unread } =
        info;
    Conversation {
        id,
        conversation,
        incarnation,
        name,
        group: is_group,
        open,
        count: audience.count,
        members: audience.members,
        role: member.role.name().to_owned(),
        first,
        seq: last,
        read: member.read,
        unread,
        after: 0,
    }
}

/// Returns the state of a member.
pub(crate) fn member(member: Member) -> MemberState {
    let Member { user, role, delivered, read } = member;
    MemberState { user, role: role.name().to_owned(), delivered, read }
}
