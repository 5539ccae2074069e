//! Requests that the tests of a message store make.

pub(super) use std::sync::Arc;

pub(super) use rpc_im::store::{
    Append, Appended, Change, ConversationInfo, ConversationRef, MembersChange, Message, MessageKind, MessageStore,
    NewConversation, NewMessage, PageRequest, Range, Rejection, Role, StoreError, Stored,
};

pub(super) use super::super::unique;

/// The handles of several nodes to one store.
pub type Nodes = [Arc<dyn MessageStore>];

/// Returns the handle of the node with this index, modulo their number.
pub(super) fn node(nodes: &Nodes, index: usize) -> &dyn MessageStore {
    &*nodes[index % nodes.len()]
}

pub(super) fn text(from: &str, id: &str, body: &str) -> NewMessage {
    let (from, device, id, body) = (from.to_owned(), "phone".to_owned(), id.to_owned(), body.to_owned());
    NewMessage { from, device, id, kind: MessageKind::Text, target: 0, body }
}

pub(super) fn changes(kind: MessageKind, from: &str, id: &str, target: u64, body: &str) -> NewMessage {
    NewMessage { kind, target, ..text(from, id, body) }
}

pub(super) async fn append(store: &dyn MessageStore, to: &ConversationRef, messages: Vec<NewMessage>) -> Appended {
    store.append(Append { to: to.clone(), messages }).await.expect("the store appends")
}

pub(super) async fn send(
    store: &dyn MessageStore,
    to: &ConversationRef,
    message: NewMessage,
) -> Result<Stored, Rejection> {
    append(store, to, vec![message]).await.messages[0]
}

/// Sends messages with these bodies, which are also their ids.
pub(super) async fn send_texts(store: &dyn MessageStore, to: &ConversationRef, from: &str, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| text(from, body, body)).collect();
    for outcome in append(store, to, messages).await.messages {
        outcome.expect("the message is accepted");
    }
}

pub(super) async fn info(store: &dyn MessageStore, to: &ConversationRef, user: &str) -> ConversationInfo {
    store.conversation(to.conversation.clone(), user.to_owned()).await.expect("the user is a member")
}

pub(super) async fn read_all(store: &dyn MessageStore, to: &ConversationRef, user: &str) -> Vec<Message> {
    let page = PageRequest { range: Range::After(0), max_messages: 100_000, max_bytes: usize::MAX };
    store.read(to.conversation.clone(), user.to_owned(), page).await.expect("the user is a member").messages
}

/// Creates a group with a unique id; the first user is the owner.
pub(super) async fn group(store: &dyn MessageStore, users: &[&str], open: bool) -> ConversationRef {
    let conversation = unique("g");
    store.create(new_group(&conversation, users, open)).await.expect("the store creates the group");
    ConversationRef::of_group(conversation)
}

pub(super) fn new_group(conversation: &str, users: &[&str], open: bool) -> NewConversation {
    let members = users[1..].iter().map(|user| (*user).to_owned()).collect();
    let (conversation, name, creator) = (conversation.to_owned(), "team".to_owned(), users[0].to_owned());
    NewConversation { conversation, name, creator, members, open }
}

/// Requests a change with a unique id.
pub(super) async fn change(
    store: &dyn MessageStore,
    to: &ConversationRef,
    by: &str,
    change: Change,
) -> Result<Appended, StoreError> {
    let (conversation, by, device, id) = (to.conversation.clone(), by.to_owned(), "phone".to_owned(), unique("c"));
    store.change_members(MembersChange { conversation, by, device, id, change }).await
}

pub(super) async fn role(store: &dyn MessageStore, to: &ConversationRef, user: &str) -> Role {
    info(store, to, user).await.member.role
}
