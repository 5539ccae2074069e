//! [`SyncAnswer`]: the answer to a sync: the conversations of a user and the messages after the client's cursors.

use std::{collections::BTreeSet, sync::Arc};

use super::outbox::Outbox;
use crate::{
    conversation::frames,
    envelope::{Lagging, Presence, ServerFrame, Sync},
    node::context::NodeContext,
    presence::MAX_CONTACT_GROUP,
    store::{ConversationInfo, PageRequest, Range, StoreError},
};

/// The answer to a sync.
pub(super) struct SyncAnswer<'a> {
    user: &'a str,
    outbox: &'a Outbox,
    context: &'a NodeContext,
    sync: Sync,
    /// The number of messages that may still be sent.
    budget: usize,
    contacts: BTreeSet<String>,
    /// The first conversation with more messages than were sent.
    incomplete: Option<Lagging>,
}

impl<'a> SyncAnswer<'a> {
    pub(super) fn new(user: &'a str, outbox: &'a Outbox, context: &'a NodeContext, sync: Sync) -> Self {
        Self { user, outbox, context, sync, budget: MAX_MESSAGES, contacts: BTreeSet::new(), incomplete: None }
    }

    /// Sends the user's conversations, the messages after the client's cursors, and online contacts.
    ///
    /// # Errors
    ///
    /// The error of the store. Some conversations may have been sent.
    pub(super) async fn send(mut self) -> Result<(), StoreError> {
        self.send_conversations().await?;
        self.send_online_contacts().await;
        if let Some(lagging) = self.incomplete.take() {
            self.reply(ServerFrame::Lagging(lagging));
        }
        Ok(())
    }

    async fn send_conversations(&mut self) -> Result<(), StoreError> {
        let (store, user) = (&self.context.store, self.user);
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let page = store.conversations(user.to_owned(), after, CONVERSATIONS_PAGE).await?;
            let is_last = page.len() < CONVERSATIONS_PAGE;
            count += page.len();
            after = page.last().map_or(String::new(), |info| info.conversation.clone());
            for info in page {
                self.send_conversation(info).await?;
            }
            if is_last || count >= MAX_CONVERSATIONS {
                return Ok(());
            }
        }
    }

    async fn send_conversation(&mut self, info: ConversationInfo) -> Result<(), StoreError> {
        if info.audience.count <= MAX_CONTACT_GROUP as u64 {
            let contacts = info.audience.members.iter().filter(|member| member.as_str() != self.user);
            self.contacts.extend(contacts.cloned());
        }
        let (conversation, incarnation, end) = (info.conversation.clone(), info.incarnation, info.last);
        let mut cursor = self.start(&info);
        self.outbox.wait_for_capacity().await;
        let frame = crate::envelope::Conversation { after: cursor, ..frames::conversation(None, info) };
        self.reply(ServerFrame::Conversation(frame));
        while cursor < end && self.budget > 0 {
            let page = PageRequest {
                range: Range::After(cursor),
                max_messages: self.budget.min(MESSAGES_PAGE),
                max_bytes: MESSAGES_PAGE_BYTES,
            };
            let page = match self.context.store.read(conversation.clone(), self.user.to_owned(), page).await {
                // The user was removed meanwhile.
                Err(StoreError::NotFound) => return Ok(()),
                page => page?,
            };
            if page.incarnation != incarnation || page.messages.is_empty() {
                break;
            }
            for message in page.messages {
                (self.budget, cursor) = (self.budget - 1, message.seq);
                self.outbox.wait_for_capacity().await;
                self.reply(ServerFrame::Push(frames::push(&conversation, incarnation, message)));
            }
        }
        if cursor < end {
            self.incomplete.get_or_insert(Lagging { conversation, seq: end });
        }
        Ok(())
    }

    fn reply(&self, frame: ServerFrame) {
        // An ended session has no client that could read the frame.
        let _ = self.outbox.push(Arc::new(frame));
    }

    /// Returns the sequence number after which the messages of a conversation are sent.
    fn start(&self, info: &ConversationInfo) -> u64 {
        let cursor = self.sync.cursors.get(&info.conversation);
        let cursor = cursor.filter(|cursor| cursor.incarnation == info.incarnation && cursor.seq <= info.last);
        let start = match cursor {
            Some(cursor) => cursor.seq,
            None if self.sync.recent == 0 => 0,
            None => info.last.saturating_sub(self.sync.recent.into()),
        };
        // Removed messages count as received.
        start.max(info.first - 1)
    }

    async fn send_online_contacts(&mut self) {
        let contacts: Vec<_> = std::mem::take(&mut self.contacts).into_iter().take(MAX_CONTACTS).collect();
        // Without the directory, changes are announced later.
        let Ok(entries) = self.context.delivery.locate(contacts.clone()).await else { return };
        for (user, entries) in contacts.into_iter().zip(entries) {
            if !entries.is_empty() {
                self.outbox.wait_for_capacity().await;
                self.reply(ServerFrame::Presence(Presence { user, online: true }));
            }
        }
    }
}

/// The maximum number of messages that one sync returns; the client syncs again for more.
const MAX_MESSAGES: usize = 1000;
/// The maximum number of conversations that one sync returns.
const MAX_CONVERSATIONS: usize = 10_000;
/// The maximum number of contacts whose presence one sync returns.
const MAX_CONTACTS: usize = 500;
/// The number of conversations that one read returns.
const CONVERSATIONS_PAGE: usize = 100;
/// The maximum number of messages that one read returns.
const MESSAGES_PAGE: usize = 256;
/// The maximum number of bytes of messages that one read returns, unless one message is longer: 256 KiB.
const MESSAGES_PAGE_BYTES: usize = 256 << 10;
