//! [`ConversationPager`]: reads the conversations of a user page by page.

use super::{ConversationInfo, MessageStore, StoreError};

/// Reads the conversations of a user page by page, in the order of the ids' bytes.
pub(crate) struct ConversationPager<'a> {
    store: &'a dyn MessageStore,
    user: &'a str,
    after: String,
    is_last: bool,
}

impl<'a> ConversationPager<'a> {
    /// Begins after the conversation `after`; empty for all.
    pub(crate) fn new(store: &'a dyn MessageStore, user: &'a str, after: String) -> Self {
        Self { store, user, after, is_last: false }
    }

    /// Returns the next page; `None` after the last one.
    ///
    /// # Errors
    ///
    /// The error of the store; a further call reads the same page.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ConversationInfo>>, StoreError> {
        if self.is_last {
            return Ok(None);
        }
        let page = self.store.conversations(self.user.to_owned(), self.after.clone(), CONVERSATIONS_PAGE).await?;
        self.is_last = page.len() < CONVERSATIONS_PAGE;
        if let Some(last) = page.last() {
            self.after = last.conversation.clone();
        }
        Ok(Some(page))
    }
}

/// The number of conversations that one read returns.
const CONVERSATIONS_PAGE: usize = 100;
