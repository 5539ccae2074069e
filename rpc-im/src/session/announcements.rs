//! Announcements of new conversations and of changes of their members.

use std::{slice, sync::Arc};

use super::requests::Requests;
use crate::{
    cluster::message::NodeMessage,
    conversation::frames,
    envelope::{Conversation, ServerFrame},
    presence::{MAX_CONTACT_GROUP, introduce},
    store::{Appended, Change, ConversationInfo, MessageKind, NewMessage, Role},
};

impl Requests {
    /// Announces a group to the members with which it was created.
    pub(super) async fn announce_group(&self, info: &ConversationInfo) {
        let message = NodeMessage::frame(ServerFrame::Conversation(description(info)));
        let (delivery, except) = (&self.context.delivery, Some(self.session));
        delivery.send_to_members(&info.conversation, &info.audience, &[(message, except)]).await;
        self.introduce(info, &info.audience.members).await;
    }

    /// Pushes a change of the members to the members, and to a user who was removed.
    ///
    /// `info` is the conversation after the change, `None` if the user is not a member any more.
    pub(super) async fn announce_change(
        &self,
        id: &str,
        conversation: &str,
        change: &Change,
        appended: &Appended,
        info: Option<&ConversationInfo>,
    ) {
        let Some(Ok(stored)) = appended.messages.first() else { return };
        let delivery = &self.context.delivery;
        if stored.repeated {
            // The repeated request may name another change than the stored one, which the members read from the store.
            let message = frames::lagging(conversation, stored.seq);
            delivery.send_to_members(conversation, &appended.audience, &[(message, None)]).await;
            return;
        }
        let new_members = match change {
            Change::Add(users) => users.as_slice(),
            Change::Join => slice::from_ref(&self.user),
            Change::Leave | Change::Remove(_) | Change::SetRole(..) => &[],
        };
        if let (Some(info), false) = (info, new_members.is_empty()) {
            let message = NodeMessage::frame(ServerFrame::Conversation(description(info)));
            delivery.send_to_users(new_members, &[(message, Some(self.session))]).await;
        }
        let body = serde_json::to_string(change).expect("names always serialize");
        let message = NewMessage { body, ..self.message(id.to_owned(), MessageKind::Members, 0, String::new()) };
        let push = frames::push_of_new(conversation, appended.incarnation, &message, *stored);
        let message = NodeMessage::frame(ServerFrame::Push(push));
        delivery.send_to_members(conversation, &appended.audience, &[(Arc::clone(&message), None)]).await;
        if let Change::Remove(user) = change {
            delivery.send_to_users(slice::from_ref(user), &[(message, None)]).await;
        }
        if let Some(info) = info {
            self.introduce(info, new_members).await;
        }
    }

    /// Reports to new members which members are online, and to the other members which new ones are.
    async fn introduce(&self, info: &ConversationInfo, new_members: &[String]) {
        if !new_members.is_empty() && info.audience.count <= MAX_CONTACT_GROUP as u64 {
            introduce(&self.context.delivery, new_members, &info.audience.members).await;
        }
    }
}

/// Returns the description of a conversation for a new member, for whom all messages count as read.
fn description(info: &ConversationInfo) -> Conversation {
    let role = Role::Member.name().to_owned();
    Conversation { role, read: info.last, unread: 0, ..frames::conversation(None, info.clone()) }
}
