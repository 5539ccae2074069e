//! New members and new contacts: what they learn without a sync.

use std::{collections::BTreeSet, time::Duration};

use rpc_im::{
    auth::Accounts,
    edge::EdgeConfig,
    envelope::{
        ChangeMembers, ClientFrame, Conversation, Create, Encoding, MemberChange, Names, Presence, Recipient, Send,
        ServerFrame, code,
    },
};
use tests::im_edge::{Edges, RawClient};
use tokio_tungstenite::tungstenite::Message;

/// Starts two nodes that announce no logins, so that all reports of presence are those of new contacts.
async fn start() -> Edges {
    let hour = Duration::from_secs(3600);
    let configure = |node: rpc_im::NodeConfig| node.with_presence_delay(hour);
    Edges::start_with(2, EdgeConfig::default(), || Accounts::Anyone, configure).await
}

/// Returns the next description of a conversation that answers no request.
async fn conversation(client: &mut RawClient) -> Conversation {
    let select = |frame: &ServerFrame| match frame {
        ServerFrame::Conversation(conversation) if conversation.id.is_none() => Some(conversation.clone()),
        _ => None,
    };
    client.until(select).await
}

/// Returns the users that `count` reports of presence name as online.
async fn online(client: &mut RawClient, count: usize) -> BTreeSet<String> {
    let mut users = BTreeSet::new();
    while users.len() < count {
        let select = |frame: &ServerFrame| match frame {
            ServerFrame::Presence(Presence { user, online: true }) => Some(user.clone()),
            _ => None,
        };
        users.insert(client.until(select).await);
    }
    users
}

fn change(id: &str, conversation: &str, change: MemberChange) -> ClientFrame {
    let (id, conversation) = (id.to_owned(), conversation.to_owned());
    ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change: Some(change) })
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn new_members_receive_group_and_presence() {
    let edges = start().await;
    let mut ann = edges.enter(0, "ann").await;
    let mut bo = edges.enter(1, "bo").await;
    let mut cy = edges.enter(1, "cy").await;
    let members = vec!["bo".to_owned(), "absent".to_owned()];
    let create = Create { id: "1".to_owned(), name: "Team".to_owned(), members, open: true };
    ann.send_frame(ClientFrame::Create(create)).await;
    let group = conversation(&mut bo).await;
    assert_eq!((&*group.name, &*group.role, group.seq), ("Team", "member", 0));
    assert_eq!((online(&mut ann, 1).await, online(&mut bo, 1).await), (names(["bo"]), names(["ann"])));

    let users = vec!["cy".to_owned()];
    ann.send_frame(change("2", &group.conversation, MemberChange::Add(Names { users }))).await;
    let added = conversation(&mut cy).await;
    assert_eq!((&*added.name, &*added.role, added.seq, added.unread), ("Team", "member", 1, 0));
    assert_eq!(added.members, ["absent", "ann", "bo", "cy"]);
    // The description precedes the message about the change.
    let push = cy.until(|frame| if let ServerFrame::Push(push) = frame { Some(push.clone()) } else { None }).await;
    assert_eq!((push.seq, push.incarnation), (1, added.incarnation));
    assert_eq!(online(&mut cy, 2).await, names(["ann", "bo"]));
    assert_eq!((online(&mut ann, 1).await, online(&mut bo, 1).await), (names(["cy"]), names(["cy"])));

    // Another device of a user who joins.
    let mut one = edges.enter(0, "dee").await;
    let mut other = edges.connect_websocket(1, Encoding::Protobuf).await;
    other.log_in(edges.token("dee", "other").await).await;
    one.send_frame(change("3", &group.conversation, MemberChange::Join(true))).await;
    assert_eq!(conversation(&mut other).await.conversation, group.conversation);
    assert_eq!(online(&mut other, 3).await, names(["ann", "bo", "cy"]));
    assert_eq!(online(&mut cy, 1).await, names(["dee"]));
}

#[tokio::test]
async fn first_message_shows_presence_to_both_users() {
    let edges = start().await;
    let mut ann = edges.enter(0, "ann").await;
    let mut bo = edges.enter(1, "bo").await;
    let to = Some(Recipient::User("bo".to_owned()));
    ann.send_frame(ClientFrame::Send(Send { id: "1".to_owned(), to, body: "hello".to_owned() })).await;
    assert_eq!((online(&mut ann, 1).await, online(&mut bo, 1).await), (names(["bo"]), names(["ann"])));
}

#[tokio::test]
async fn invalid_request_is_rejected_with_its_id() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut ann = edges.enter(0, "ann").await;
    let long = "x".repeat(129);
    for (text, id) in [
        (r#"{"type":"send","id":"1","to":{"user":""},"body":"x"}"#, Some("1")),
        (r#"{"type":"send","id":"2","to":{"user":7},"body":"x"}"#, Some("2")),
        (r#"{"type":"create","id":"3"}"#, Some("3")),
        // A name with an invisible character, and one with a Cyrillic letter.
        ("{\"type\":\"create\",\"id\":\"9\",\"members\":[\"an\u{200b}n\"]}", Some("9")),
        (r#"{"type":"send","id":"10","to":{"user":"аnn"},"body":"x"}"#, Some("10")),
        (r#"{"id":"4","type":"unknown"}"#, Some("4")),
        (r#"{"type":"edit","id":"5","conversation":"c","target":1,"body":""}"#, Some("5")),
        (&format!(r#"{{"type":"sync","id":"6","until":"{long}"}}"#), Some("6")),
        (&format!(r#"{{"type":"history","id":"{long}","conversation":"c","before":1,"limit":1}}"#), None),
        (r#"{"type":"send","id":8}"#, None),
        ("not JSON", None),
    ] {
        ann.send(Message::text(text)).await;
        let error = ann.until(|frame| if let ServerFrame::Error(error) = frame { Some(error.clone()) } else { None });
        let error = error.await;
        assert_eq!((&*error.code, error.id.as_deref()), (code::BAD_FRAME, id), "{text}: {}", error.message);
    }
    let mut bo = edges.connect_websocket(0, Encoding::Protobuf).await;
    bo.log_in(edges.token("bo", "phone").await).await;
    let to = Some(Recipient::User(long));
    bo.send_frame(ClientFrame::Send(Send { id: "7".to_owned(), to, body: String::new() })).await;
    let id = bo.until(|frame| if let ServerFrame::Error(error) = frame { error.id.clone() } else { None }).await;
    assert_eq!(id, "7");
}
