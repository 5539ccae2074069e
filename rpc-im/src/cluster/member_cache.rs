//! [`MemberCache`]: the members of large conversations, for the delivery to this node's sessions.

use std::{collections::HashSet, sync::Arc};

use moka::future::Cache;

use crate::store::{MessageStore, StoreError};

/// The members of large conversations, by conversation and version.
///
/// A message for a large conversation names the version of its members, so an outdated set is never used.
pub(crate) struct MemberCache {
    store: Arc<dyn MessageStore>,
    sets: Cache<(String, u64), Arc<HashSet<String>>>,
}

impl MemberCache {
    pub(crate) fn new(store: Arc<dyn MessageStore>) -> Self {
        let weigh = |_: &(String, u64), set: &Arc<HashSet<String>>| u32::try_from(set.len() + 1).unwrap_or(u32::MAX);
        Self { store, sets: Cache::builder().max_capacity(MAX_MEMBERS).weigher(weigh).build() }
    }

    /// Returns the members of a conversation in this version or a later one.
    ///
    /// Concurrent callers share one read of the store.
    pub(crate) async fn members(
        &self,
        conversation: &str,
        version: u64,
    ) -> Result<Arc<HashSet<String>>, Arc<StoreError>> {
        let key = (conversation.to_owned(), version);
        self.sets.try_get_with(key, self.load(conversation)).await
    }

    async fn load(&self, conversation: &str) -> Result<Arc<HashSet<String>>, StoreError> {
        let (mut members, mut after) = (HashSet::new(), String::new());
        loop {
            let page = self.store.members(conversation.to_owned(), after, PAGE).await?;
            let count = page.members.len();
            after = page.members.last().map_or(String::new(), |member| member.user.clone());
            members.extend(page.members.into_iter().map(|member| member.user));
            if count < PAGE {
                return Ok(Arc::new(members));
            }
        }
    }
}

/// The maximum number of cached members of all conversations: about 64 MiB.
const MAX_MEMBERS: u64 = 1_000_000;
/// The number of members that one read returns.
const PAGE: usize = 1000;
