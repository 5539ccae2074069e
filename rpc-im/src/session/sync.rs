//! [`SyncAnswer`]: the answer to a sync: a page of the conversations of a user, and the messages after the client's cursors.

use std::{collections::BTreeSet, sync::Arc};

use super::outbox::Outbox;
use crate::{
    conversation::frames,
    envelope::{Presence, ServerFrame, Sync, Synced},
    node::context::NodeContext,
    presence::MAX_CONTACT_GROUP,
    store::{ConversationInfo, ConversationPager, PageRequest, Range, StoreError},
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
    /// The conversations of the client's cursors that were not read yet.
    unknown: BTreeSet<String>,
}

impl<'a> SyncAnswer<'a> {
    pub(super) fn new(user: &'a str, outbox: &'a Outbox, context: &'a NodeContext, sync: Sync) -> Self {
        let unknown = sync.cursors.keys().cloned().collect();
        Self { user, outbox, context, sync, budget: MAX_MESSAGES, contacts: BTreeSet::new(), unknown }
    }

    /// Sends the user's conversations, the messages after the client's cursors, and online contacts.
    ///
    /// # Errors
    ///
    /// The error of the store. Some conversations may have been sent.
    pub(super) async fn send(mut self) -> Result<(), StoreError> {
        let more = self.send_conversations().await?;
        self.send_online_contacts().await;
        self.outbox.wait_for_capacity().await;
        let is_in_page = |id: &String| *id > self.sync.after && more.as_ref().is_none_or(|end| id <= end);
        let gone = std::mem::take(&mut self.unknown).into_iter().filter(is_in_page).collect();
        let id = self.sync.id.take();
        self.reply(ServerFrame::Synced(Synced { id, more: more.is_some(), after: more.unwrap_or_default(), gone }));
        Ok(())
    }

    /// Sends conversations; returns the last one of the page, or `None` if there are no more.
    async fn send_conversations(&mut self) -> Result<Option<String>, StoreError> {
        let (mut last, until) = (self.sync.after.clone(), self.sync.until.clone());
        let mut pager = ConversationPager::new(&*self.context.store, self.user, last.clone());
        let mut count = 0;
        while let Some(page) = pager.next().await? {
            for info in page {
                let id = info.conversation.clone();
                if !until.is_empty() && id > until {
                    return Ok(Some(until));
                }
                if count >= MAX_CONVERSATIONS || self.budget == 0 || !self.send_conversation(info).await? {
                    return Ok(Some(last));
                }
                (last, count) = (id, count + 1);
            }
        }
        // The client may have cursors after the last conversation.
        Ok(Some(until).filter(|until| !until.is_empty()))
    }

    /// Sends a conversation and its messages; returns false if there are more messages.
    async fn send_conversation(&mut self, info: ConversationInfo) -> Result<bool, StoreError> {
        self.unknown.remove(&info.conversation);
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
                Err(StoreError::NotFound) => {
                    self.unknown.insert(conversation);
                    return Ok(true);
                }
                page => page?,
            };
            if page.incarnation != incarnation || page.messages.is_empty() {
                // The history was replaced or its messages were removed meanwhile: the next page reads its new state.
                return Ok(false);
            }
            for message in page.messages {
                (self.budget, cursor) = (self.budget - 1, message.seq);
                self.outbox.wait_for_capacity().await;
                self.reply(ServerFrame::Push(frames::push(&conversation, incarnation, message)));
            }
        }
        Ok(cursor >= end)
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
/// The maximum number of conversations that one sync returns; the client syncs again for more.
const MAX_CONVERSATIONS: usize = 200;
/// The maximum number of contacts whose presence one sync returns.
const MAX_CONTACTS: usize = 500;
/// The maximum number of messages that one read returns.
const MESSAGES_PAGE: usize = 256;
/// The maximum number of bytes of messages that one read returns, unless one message is longer: 256 KiB.
const MESSAGES_PAGE_BYTES: usize = 256 << 10;
