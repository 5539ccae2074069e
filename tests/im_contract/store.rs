//! The tests of a message store.
//!
//! | topic | module |
//! |---|---|
//! | sequence numbers, repeated messages, edits and recalls | `append` |
//! | groups and their members | `groups` |
//! | pages of messages and conversations, unread counts | `reading` |
//! | cursors, retention, incarnations | `upkeep` |
//! | requests that the tests make | `requests` |

pub mod append;
pub mod groups;
pub mod reading;
mod requests;
pub mod upkeep;

pub use requests::Nodes;

/// Runs all tests of this module on one store, which no one else uses.
///
/// # Panics
///
/// Panics if the store violates the contract, or `nodes` is empty.
pub async fn check(nodes: &Nodes) {
    check_requests(nodes).await;
    groups::group_has_at_most_max_members(nodes).await;
    upkeep::retention_removes_the_beginning(nodes).await;
    upkeep::incarnations_are_renewed(nodes).await;
}

/// Runs the tests of the requests that every node can make on one store, which no one else uses.
///
/// # Panics
///
/// Panics if the store violates the contract, or `nodes` is empty.
pub async fn check_requests(nodes: &Nodes) {
    append::pair_begins_with_its_first_message(nodes).await;
    append::conversation_with_oneself_has_one_member(nodes).await;
    append::concurrent_appends_are_dense(nodes).await;
    append::concurrent_first_messages_share_a_conversation(nodes).await;
    append::repeated_message_is_stored_once(nodes).await;
    append::concurrent_repeats_are_stored_once(nodes).await;
    append::strangers_are_rejected(nodes).await;
    append::edit_replaces_the_body(nodes).await;
    append::recall_removes_the_body(nodes).await;
    append::batch_reports_each_message(nodes).await;
    append::texts_are_stored_exactly(nodes).await;
    groups::create_is_idempotent(nodes).await;
    groups::concurrent_creates_agree(nodes).await;
    groups::users_join_open_groups_only(nodes).await;
    groups::admins_add_and_remove_members(nodes).await;
    groups::owner_changes_roles(nodes).await;
    groups::leaving_owner_has_a_successor(nodes).await;
    groups::repeated_change_has_no_second_effect(nodes).await;
    groups::concurrent_changes_are_serial(nodes).await;
    groups::members_are_paged(nodes).await;
    groups::large_audience_is_not_listed(nodes).await;
    reading::pages_ascend_from_either_end(nodes).await;
    reading::pages_obey_the_byte_limit(nodes).await;
    reading::conversations_are_paged(nodes).await;
    reading::unread_counts_texts_of_others(nodes).await;
    reading::unread_has_a_maximum(nodes).await;
    upkeep::cursors_only_grow(nodes).await;
    upkeep::cursors_of_strangers_are_ignored(nodes).await;
}
