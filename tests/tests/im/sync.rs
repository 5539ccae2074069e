//! Syncs of users with many conversations, which take several pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures_util::future::join_all;
use rpc_im::{
    StoreChoice,
    auth::Accounts,
    client::{Client, Event, LoggedIn},
    edge::EdgeConfig,
    envelope::{ChangeMembers, ClientFrame, Encoding, MemberChange, Position, ServerFrame, Sync, Synced},
    store::{Append, ConversationRef, MessageKind, MessageStore as _, NewConversation, NewMessage, RedbStore},
};
use tests::{
    browser::Browser,
    im_edge::{Edges, RawClient, Received},
    in_time,
};

use super::page;

/// Creates groups of ann and bo, each with a message of ann, in a file; returns their ids in order.
async fn fill(file: &Path, count: usize) -> Vec<String> {
    let store = RedbStore::open(Some(file)).unwrap();
    let ids: Vec<_> = (0..count).map(|number| format!("g-{number:06}")).collect();
    for part in ids.chunks(500) {
        let create = part.iter().map(|id| {
            let (creator, members) = ("ann".to_owned(), vec!["bo".to_owned()]);
            let (conversation, name) = (id.clone(), id.clone());
            store.create(NewConversation { conversation, name, creator, members, open: false })
        });
        assert!(join_all(create).await.iter().all(Result::is_ok));
        let append = part.iter().map(|id| {
            let (from, device, body) = ("ann".to_owned(), "phone".to_owned(), format!("hello {id}"));
            let message = NewMessage { from, device, id: id.clone(), kind: MessageKind::Text, target: 0, body };
            store.append(Append { to: ConversationRef::of_group(id.clone()), messages: vec![message] })
        });
        assert!(join_all(append).await.iter().all(Result::is_ok));
    }
    ids
}

/// Starts two nodes with the store in the file.
async fn start(file: &Path) -> Edges {
    let configure = |node: rpc_im::NodeConfig| match node.store {
        StoreChoice::Memory => node.with_store(StoreChoice::File(file.to_owned())),
        _ => node,
    };
    Edges::start_with(2, EdgeConfig::default(), || Accounts::Anyone, configure).await
}

/// Receives one page of an answer, and adds its conversations and cursors.
async fn page_of(client: &mut RawClient, cursors: &mut BTreeMap<String, Position>) -> (usize, Synced) {
    let mut conversations = 0;
    loop {
        match client.receive().await {
            Received::Frame(ServerFrame::Conversation(described)) => {
                conversations += 1;
                let position = Position { incarnation: described.incarnation, seq: described.after };
                cursors.insert(described.conversation, position);
            }
            Received::Frame(ServerFrame::Push(push)) => cursors.get_mut(&push.conversation).unwrap().seq = push.seq,
            Received::Frame(ServerFrame::Synced(synced)) => return (conversations, synced),
            Received::Frame(ServerFrame::Presence(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_cover_all_conversations_once() {
    let directory = tempfile::tempdir().unwrap();
    let ids = fill(&directory.path().join("store"), 450).await;
    let edges = start(&directory.path().join("store")).await;
    let mut bo = edges.enter(0, "bo").await;
    let (mut cursors, mut after, mut pages) = (BTreeMap::new(), String::new(), Vec::new());
    loop {
        let sync = Sync { after: after.clone(), id: Some(after.clone() + "!"), ..Sync::default() };
        bo.send_frame(ClientFrame::Sync(sync)).await;
        let (conversations, synced) = page_of(&mut bo, &mut cursors).await;
        assert_eq!(synced.id, Some(after + "!"), "the answer has the id of the request");
        pages.push(conversations);
        if !synced.more {
            break;
        }
        after = synced.after;
    }
    assert_eq!(pages, [200, 200, 50]);
    assert!(cursors.keys().eq(&ids) && cursors.values().all(|cursor| cursor.seq == 1));

    // A page ends with `until`, and names the conversations of which the user is not a member any more.
    let mut ann = edges.enter(1, "ann").await;
    let change = Some(MemberChange::Remove("bo".to_owned()));
    let request = ChangeMembers { id: "1".to_owned(), conversation: ids[120].clone(), change };
    ann.send_frame(ClientFrame::ChangeMembers(request)).await;
    ann.until(|frame| matches!(frame, ServerFrame::Conversation(answer) if answer.id.is_some()).then_some(())).await;
    bo.until(|frame| matches!(frame, ServerFrame::Push(_)).then_some(())).await;
    let mut of_page = cursors.clone().split_off(&ids[101]);
    let rest = of_page.split_off(&ids[151]);
    of_page.insert("g-000130x".to_owned(), Position::default());
    for (cursors, after, until, expected) in [
        (of_page, 100, ids[150].clone(), (49, vec![ids[120].clone(), "g-000130x".to_owned()], true)),
        (rest, 150, String::new(), (200, vec![], true)),
        (BTreeMap::from([("z".to_owned(), Position::default())]), 449, String::new(), (0, vec!["z".to_owned()], false)),
    ] {
        let sync = Sync { cursors, after: ids[after].clone(), until, ..Sync::default() };
        bo.send_frame(ClientFrame::Sync(sync)).await;
        let (conversations, synced) = page_of(&mut bo, &mut BTreeMap::new()).await;
        assert_eq!((conversations, synced.gone, synced.more), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_ends_where_its_messages_end() {
    const MESSAGES: u64 = 2500;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let ids = fill(&file, 3).await;
    let store = RedbStore::open(Some(&file)).unwrap();
    let message = |number: u64| {
        let (from, device, body) = ("ann".to_owned(), "phone".to_owned(), number.to_string());
        NewMessage { from, device, id: number.to_string(), kind: MessageKind::Text, target: 0, body }
    };
    let to = ConversationRef::of_group(ids[1].clone());
    store.append(Append { to, messages: (2..=MESSAGES).map(message).collect() }).await.unwrap();
    drop(store);
    let edges = start(&file).await;
    let mut bo = edges.enter(1, "bo").await;
    let (mut cursors, mut after, mut pages) = (BTreeMap::new(), String::new(), 0);
    loop {
        let sync = Sync { cursors: cursors.clone(), after: after.clone(), ..Sync::default() };
        bo.send_frame(ClientFrame::Sync(sync)).await;
        let (_, synced) = page_of(&mut bo, &mut cursors).await;
        pages += 1;
        if !synced.more {
            break;
        }
        after = synced.after;
    }
    let seqs: Vec<_> = ids.iter().map(|id| cursors[id].seq).collect();
    assert_eq!((seqs, pages), (vec![1, MESSAGES, 1], 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_syncs_10_000_conversations() {
    const COUNT: usize = 10_050;
    let directory = tempfile::tempdir().unwrap();
    let ids = fill(&directory.path().join("store"), COUNT).await;
    let mut edges = start(&directory.path().join("store")).await;
    let (token, nodes) = (edges.token("bo", "phone").await, vec![edges.base(1).replace("http", "ws") + "/ws"]);
    let mut bo = Client::start(LoggedIn { token, nodes });
    let (mut described, mut messages) = (BTreeSet::new(), BTreeSet::new());
    while described.len() < COUNT || messages.len() < COUNT {
        match in_time(bo.next()).await.unwrap() {
            Event::Conversation(conversation) => drop(described.insert(conversation.conversation)),
            Event::Message(push) => assert!(messages.insert(push.conversation), "each message once"),
            Event::Connected { .. } | Event::Presence(_) | Event::Receipt(_) => {}
            event => panic!("{event:?}"),
        }
    }
    // On the other node, the client has the cursors of all conversations.
    let mut ann = edges.enter(0, "ann").await;
    let change = Some(MemberChange::Remove("bo".to_owned()));
    let (id, conversation) = ("1".to_owned(), ids[COUNT - 1].clone());
    ann.send_frame(ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change })).await;
    ann.until(|frame| matches!(frame, ServerFrame::Conversation(answer) if answer.id.is_some()).then_some(())).await;
    let drained = edges.edges.remove(1).stop();
    described.clear();
    let mut removed = None;
    while described.len() < COUNT - 1 || removed.is_none() {
        match in_time(bo.next()).await.unwrap() {
            Event::Conversation(conversation) => drop(described.insert(conversation.conversation)),
            Event::Message(push) => assert_eq!(push.kind(), MessageKind::Members, "no message twice"),
            Event::Removed { conversation } => removed = Some(conversation),
            Event::Connected { .. } | Event::Disconnected | Event::Presence(_) | Event::Receipt(_) => {}
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(removed.as_ref(), ids.last());
    assert_eq!(edges.metric(0, "im_frames_bad_total").await, 0);
    drained.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_syncs_more_conversations_than_cursors_in_frame() {
    const COUNT: usize = 1100;
    let Some(mut browser) = Browser::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let ids = fill(&directory.path().join("store"), COUNT).await;
    let mut edges = start(&directory.path().join("store")).await;
    browser.show_on(page::DESKTOP).await;
    browser.open(&edges.base(1)).await;
    page::sign_in(&mut browser, "bo").await;
    browser.until(&format!("document.querySelectorAll('#conversations button').length === {COUNT}")).await;
    let drained = edges.edges.remove(1).stop();
    // A sync on the other node has the cursors of all conversations: its pages reach the last one.
    let mut ann = edges.enter(0, "ann").await;
    let change = Some(MemberChange::Remove("bo".to_owned()));
    let (id, conversation) = ("1".to_owned(), ids[COUNT - 1].clone());
    ann.send_frame(ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change })).await;
    browser.until("document.querySelectorAll('#conversations .gone').length === 1").await;
    browser.until("document.querySelector('#status').dataset.node === '1'").await;
    // Each page of the sync is a frame, besides the login.
    in_time(async { while edges.metric(0, "im_frames_in_total").await < 2 + COUNT as u64 / 200 {} }).await;
    assert_eq!(edges.metric(0, "im_frames_bad_total").await, 0);
    page::close([browser]).await;
    drained.end().await;
}

/// Both encodings reject a sync with an invalid end of its range.
#[tokio::test]
async fn invalid_range_of_sync_is_rejected() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut ann = edges.connect_websocket(0, encoding).await;
        ann.log_in(edges.token("ann", "phone").await).await;
        ann.send_frame(ClientFrame::Sync(Sync { until: "x".repeat(129), ..Sync::default() })).await;
        let message = ann.until(|frame| match frame {
            ServerFrame::Error(error) => Some(error.message.clone()),
            _ => None,
        });
        assert_eq!(message.await, "until is 129 bytes, limit is 128");
    }
}
