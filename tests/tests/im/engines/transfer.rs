//! Export of a file and import into databases, by the commands of `im-node`.

use std::collections::BTreeSet;

use rpc_im::{
    sql::Database,
    store::{
        Append, Change, ConversationInfo, ConversationRef, Cursor, Member, MembersChange, Message, MessageKind,
        MessageStore, NewConversation, NewMessage, PageRequest, Range, RedbStore, SqlStore,
    },
};
use tests::{
    engines::{mariadb::MariaDbServer, postgres::PostgresServer},
    program::Program,
};

#[tokio::test(flavor = "multi_thread")]
async fn export_of_file_is_imported_into_postgres() {
    let Some(server) = PostgresServer::start().await else { return };
    check(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn export_of_file_is_imported_into_mariadb() {
    let Some(server) = MariaDbServer::start().await else { return };
    check(&server.url()).await;
}

async fn check(url: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = {
        let store = RedbStore::open(Some(&path("store"))).unwrap();
        fill(&store).await;
        contents(&store).await
    };
    let (store, export) = (path("store").display().to_string(), path("export").display().to_string());
    let output = run(&["export", &export, "--store", &store]).await.unwrap();
    assert_eq!(output, "exported 3 conversations with 306 messages; 0 have no members\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path("export")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the file has the messages of all users");
    run(&["export", &export, "--store", &store]).await.expect_err("the file exists");

    // An interrupted import reports it, and can be repeated.
    let text = std::fs::read_to_string(path("export")).unwrap();
    std::fs::write(path("part"), &text[..text.len() / 2]).unwrap();
    let error = run(&["import", &path("part").display().to_string(), "--store", url]).await.unwrap_err();
    assert!(error.contains("incomplete"), "{error}");
    std::fs::write(path("other"), "{\"format\":2}\n").unwrap();
    let error = run(&["import", &path("other").display().to_string(), "--store", url]).await.unwrap_err();
    assert!(error.contains("line 1") && error.contains("format 2"), "{error}");
    run(&["import", &export, "--store", url]).await.unwrap();
    let output = run(&["import", &export, "--store", url]).await.unwrap();
    assert_eq!(output, "imported 0 conversations with 0 messages; 3 exist already\n");

    let imported = SqlStore::new(Database::connect(url).await.unwrap());
    let after = contents(&imported).await;
    let incarnations = |contents: &[Content]| contents.iter().map(|content| content.info.incarnation).collect();
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (incarnations(&before), incarnations(&after));
    assert!(old.is_disjoint(&new), "clients detect another history");
    let comparable = |contents: Vec<Content>| -> Vec<Content> {
        contents.into_iter().map(|content| Content { info: with_incarnation(content.info), ..content }).collect()
    };
    assert_eq!(comparable(after), comparable(before));
    // A client that resends a message to the new store receives its first answer.
    let again = append(&imported, ConversationRef::of_pair("ann", "bo"), vec![text_message("ann", "pair-2")]).await;
    assert_eq!(again, [(2, true)]);
    let next = append(&imported, ConversationRef::of_pair("ann", "bo"), vec![text_message("ann", "next")]).await;
    assert_eq!(next, [(4, false)]);
    // The databases export too.
    let back = path("back").display().to_string();
    run(&["export", &back, "--store", url]).await.unwrap();
    run(&["import", &back, "--store", &path("new store").display().to_string()]).await.unwrap();
    let restored = contents(&RedbStore::open(Some(&path("new store"))).unwrap()).await;
    assert_eq!(comparable(restored), comparable(contents(&imported).await));
}

/// The state of a conversation, as its member `ann` sees it.
#[derive(Debug, PartialEq)]
struct Content {
    info: ConversationInfo,
    members: Vec<Member>,
    messages: Vec<Message>,
}

fn with_incarnation(info: ConversationInfo) -> ConversationInfo {
    ConversationInfo { incarnation: 0, ..info }
}

async fn contents(store: &dyn MessageStore) -> Vec<Content> {
    let mut contents = Vec::new();
    for info in store.conversations("ann".to_owned(), String::new(), 100).await.unwrap() {
        let id = info.conversation.clone();
        let members = store.members(id.clone(), String::new(), usize::MAX >> 1).await.unwrap().members;
        let page = PageRequest { range: Range::After(info.first - 1), max_messages: 10_000, max_bytes: 1 << 30 };
        let messages = store.read(id, "ann".to_owned(), page).await.unwrap().messages;
        contents.push(Content { info, members, messages });
    }
    contents
}

/// Fills a store with a conversation of two users, a group with changes, and a large group without its first messages.
async fn fill(store: &RedbStore) {
    let large: Vec<_> = (0..1500).map(|number| format!("member-{number}")).collect();
    for (id, members) in [("large", large), ("small", vec!["bo".to_owned()])] {
        let (conversation, name, creator) = (id.to_owned(), format!("the {id} group"), "ann".to_owned());
        let new = NewConversation { conversation, name, creator, members, open: id == "large" };
        store.create(new).await.unwrap();
    }
    append(store, ConversationRef::of_group("large".to_owned()), vec![text_message("ann", "old")]).await;
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64 + 1;
    assert_eq!(store.remove_before(before, 10).await.unwrap(), 1);
    let many = (0..299).map(|number| text_message("ann", &format!("many-{number}"))).collect();
    append(store, ConversationRef::of_group("large".to_owned()), many).await;

    let pair = ConversationRef::of_pair("ann", "bo");
    let change = |kind, target, id: &str| NewMessage { kind, target, ..text_message("ann", id) };
    let first = (1..=2).map(|number| text_message("ann", &format!("pair-{number}"))).collect();
    append(store, pair.clone(), first).await;
    append(store, pair.clone(), vec![change(MessageKind::Edit, 1, "edit")]).await;
    let small = ConversationRef::of_group("small".to_owned());
    append(
        store,
        small.clone(),
        vec![NewMessage { body: "\u{0} \"quoted\" \u{1f600}\n".to_owned(), ..text_message("bo", "unusual") }],
    )
    .await;
    append(store, small.clone(), vec![text_message("ann", "recalled")]).await;
    append(store, small.clone(), vec![change(MessageKind::Recall, 2, "recall")]).await;
    let added = MembersChange {
        conversation: "small".to_owned(),
        by: "ann".to_owned(),
        device: "phone".to_owned(),
        id: "add".to_owned(),
        change: Change::Add(vec!["cy".to_owned()]),
    };
    store.change_members(added).await.unwrap();
    let cursor = Cursor { conversation: pair.conversation, user: "bo".to_owned(), delivered: 2, read: 1 };
    store.set_cursors(vec![cursor]).await.unwrap();
}

fn text_message(from: &str, id: &str) -> NewMessage {
    let (from, device, id, body) = (from.to_owned(), "phone".to_owned(), id.to_owned(), format!("text of {id}"));
    NewMessage { from, device, id, kind: MessageKind::Text, target: 0, body }
}

/// Appends messages; returns the sequence number of each, and whether it was stored before.
async fn append(store: &dyn MessageStore, to: ConversationRef, messages: Vec<NewMessage>) -> Vec<(u64, bool)> {
    let appended = store.append(Append { to, messages }).await.unwrap();
    appended.messages.into_iter().map(|stored| stored.unwrap()).map(|stored| (stored.seq, stored.repeated)).collect()
}

/// Runs a command of `im-node`; returns its output, or its errors if it fails.
async fn run(arguments: &[&str]) -> Result<String, String> {
    let output = Program::run("im-node", arguments, &[]).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
