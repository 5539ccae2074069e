//! Sequence numbers, repeated messages, edits and recalls.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;

use super::requests::*;

/// The first message creates the conversation, which is the same for both users.
pub async fn pair_begins_with_its_first_message(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    let unknown = node(nodes, 0).conversation(to.conversation.clone(), ann.clone()).await;
    assert_eq!(unknown, Err(StoreError::NotFound));
    let first = append(node(nodes, 0), &to, vec![text(&ann, "1", "hello")]).await;
    assert_eq!(first.audience.members, [ann.clone(), bo.clone()]);
    assert_eq!(first.audience.count, 2);
    let stored = first.messages[0].expect("a member may send");
    assert_eq!((stored.seq, stored.repeated), (1, false));
    let second = append(node(nodes, 1), &ConversationRef::of_pair(&bo, &ann), vec![text(&bo, "1", "hi")]).await;
    assert_eq!(second.incarnation, first.incarnation);
    assert_eq!(second.messages[0].map(|stored| stored.seq), Ok(2));
    let info = info(node(nodes, 2), &to, &bo).await;
    assert_eq!((info.first, info.last, info.is_group, info.open), (1, 2, false, false));
    assert_eq!((info.incarnation, info.audience), (first.incarnation, second.audience));
    assert_eq!((info.member.role, info.member.user), (Role::Member, bo.clone()));
    let messages = read_all(node(nodes, 1), &to, &ann).await;
    let read: Vec<_> = messages.iter().map(|message| (message.seq, &*message.from, &*message.body)).collect();
    assert_eq!(read, [(1, &*ann, "hello"), (2, &*bo, "hi")]);
    assert_eq!((messages[0].time, messages[0].kind(), messages[0].changed), (stored.time, MessageKind::Text, false));
    // A message without an effect is answered with the same audience.
    assert_eq!(append(node(nodes, 0), &to, vec![]).await.audience.members.len(), 2);
}

/// A user may write to themselves.
pub async fn conversation_with_oneself_has_one_member(nodes: &Nodes) {
    let ann = unique("ann");
    let to = ConversationRef::of_pair(&ann, &ann);
    let appended = append(node(nodes, 0), &to, vec![text(&ann, "1", "note")]).await;
    assert_eq!((appended.audience.count, appended.audience.members), (1, vec![ann.clone()]));
    assert_eq!(info(node(nodes, 1), &to, &ann).await.last, 1);
}

/// Concurrent appends of all nodes get each sequence number once, in the order of each sender.
pub async fn concurrent_appends_are_dense(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    let senders = (0..8).map(|sender| {
        let (store, to, from) = (Arc::clone(&nodes[sender % nodes.len()]), to.clone(), [&ann, &bo][sender % 2].clone());
        async move {
            let mut seqs = Vec::new();
            for batch in 0..10 {
                let ids = (0..=batch % 3).map(|index| format!("{sender}-{batch}-{index}"));
                let messages = ids.map(|id| text(&from, &id, &id)).collect();
                for outcome in append(&*store, &to, messages).await.messages {
                    seqs.push(outcome.expect("a member may send").seq);
                }
            }
            seqs
        }
    });
    let seqs = join_all(senders).await;
    assert!(seqs.iter().all(|seqs| seqs.is_sorted_by(|one, next| one < next)), "a sender's messages keep their order");
    let all: BTreeSet<u64> = seqs.iter().flatten().copied().collect();
    let count = seqs.iter().map(Vec::len).sum::<usize>() as u64;
    assert!(all.into_iter().eq(1..=count), "the numbers are dense");
    let messages = read_all(node(nodes, 0), &to, &bo).await;
    assert!(messages.iter().map(|message| message.seq).eq(1..=count));
    assert!(messages.is_sorted_by_key(|message| message.time), "times do not decrease");
    let ids: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
    assert_eq!(ids.len() as u64, count);
}

/// Nodes that begin the conversation of two users at the same time create one.
pub async fn concurrent_first_messages_share_a_conversation(nodes: &Nodes) {
    for _ in 0..10 {
        let (ann, bo) = (unique("ann"), unique("bo"));
        let to = ConversationRef::of_pair(&ann, &bo);
        let first = (0..4).map(|index| {
            append(node(nodes, index), &to, vec![text([&ann, &bo][index % 2], &index.to_string(), "first")])
        });
        let appended = join_all(first).await;
        let incarnations: BTreeSet<_> = appended.iter().map(|appended| appended.incarnation).collect();
        assert_eq!(incarnations.len(), 1);
        let stored = appended.iter().map(|appended| appended.messages[0].expect("a member may send"));
        let seqs: BTreeSet<_> = stored.map(|stored| stored.seq).collect();
        assert!(seqs.into_iter().eq(1..=4));
        assert!(appended.iter().all(|appended| appended.audience.members == [ann.clone(), bo.clone()]));
    }
}

/// A repeated message has the sequence number and time of the stored one.
pub async fn repeated_message_is_stored_once(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    let first = send(node(nodes, 0), &to, text(&ann, "1", "hello")).await.expect("a member may send");
    let again = send(node(nodes, 1), &to, text(&ann, "1", "another body")).await;
    assert_eq!(again, Ok(Stored { repeated: true, ..first }));
    let twice = append(node(nodes, 0), &to, vec![text(&ann, "2", "x"), text(&ann, "2", "x")]).await.messages;
    let stored = twice[0].expect("a member may send");
    assert_eq!((stored.seq, twice[1]), (2, Ok(Stored { repeated: true, ..stored })));
    // The id is unique per sender and device only.
    let other_device = NewMessage { device: "pad".to_owned(), ..text(&ann, "1", "y") };
    assert_eq!(send(node(nodes, 0), &to, other_device).await.map(|stored| stored.seq), Ok(3));
    assert_eq!(send(node(nodes, 0), &to, text(&bo, "1", "z")).await.map(|stored| stored.seq), Ok(4));
    let bodies: Vec<_> = read_all(node(nodes, 1), &to, &bo).await.into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, ["hello", "x", "y", "z"]);
}

/// Repeats on several nodes at the same time store one message.
pub async fn concurrent_repeats_are_stored_once(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    for round in 1..=10 {
        let id = round.to_string();
        let outcomes = join_all((0..4).map(|index| send(node(nodes, index), &to, text(&ann, &id, "once")))).await;
        let outcomes: Vec<Stored> = outcomes.into_iter().map(|outcome| outcome.expect("a member may send")).collect();
        assert!(outcomes.iter().all(|stored| stored.seq == round), "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|stored| !stored.repeated).count(), 1);
    }
    assert_eq!(info(node(nodes, 0), &to, &ann).await.last, 10);
}

/// A user who is not a member neither reads nor writes, and creates no conversation of others.
pub async fn strangers_are_rejected(nodes: &Nodes) {
    let (ann, bo, eve) = (unique("ann"), unique("bo"), unique("eve"));
    let store = node(nodes, 0);
    let to = ConversationRef::of_pair(&ann, &bo);
    assert_eq!(send(store, &to, text(&eve, "1", "x")).await, Err(Rejection::NotMember));
    let recall = changes(MessageKind::Recall, &ann, "1", 1, "");
    assert_eq!(send(store, &to, recall).await, Err(Rejection::NoTarget));
    let unknown = store.conversation(to.conversation.clone(), ann.clone()).await;
    assert_eq!(unknown, Err(StoreError::NotFound), "rejected messages begin no conversation");
    assert_eq!(send(store, &to, text(&ann, "1", "x")).await.map(|stored| stored.seq), Ok(1));
    assert_eq!(send(store, &to, text(&eve, "1", "x")).await, Err(Rejection::NotMember));
    let page = PageRequest { range: Range::After(0), max_messages: 10, max_bytes: 1000 };
    assert_eq!(store.read(to.conversation.clone(), eve.clone(), page).await, Err(StoreError::NotFound));
    assert_eq!(store.conversation(to.conversation.clone(), eve.clone()).await, Err(StoreError::NotFound));
    assert_eq!(store.conversations(eve.clone(), String::new(), 10).await, Ok(vec![]));
    for to in [ConversationRef::of_group(unique("g")), ConversationRef { conversation: unique("g"), ..to }] {
        let sent = store.append(Append { to, messages: vec![text(&ann, "1", "x")] }).await;
        assert_eq!(sent.map(|_| ()), Err(StoreError::NotFound));
    }
}

/// Only the sender edits a message.
pub async fn edit_replaces_the_body(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = group(node(nodes, 0), &[&ann, &bo], false).await;
    send_texts(node(nodes, 0), &to, &bo, &["one", "two"]).await;
    let edit = |from: &str, id: &str, target| changes(MessageKind::Edit, from, id, target, "changed");
    assert_eq!(send(node(nodes, 1), &to, edit(&ann, "e1", 1)).await, Err(Rejection::NotPermitted));
    assert_eq!(send(node(nodes, 1), &to, edit(&bo, "e1", 1)).await.map(|stored| stored.seq), Ok(3));
    assert!(send(node(nodes, 0), &to, edit(&bo, "e1", 1)).await.is_ok_and(|stored| stored.repeated));
    for target in [0, 3, 4, 99, u64::MAX] {
        assert_eq!(send(node(nodes, 0), &to, edit(&bo, "e2", target)).await, Err(Rejection::NoTarget), "{target}");
    }
    let messages = read_all(node(nodes, 1), &to, &ann).await;
    let read: Vec<_> = messages.iter().map(|message| (&*message.body, message.changed, message.target)).collect();
    assert_eq!(read, [("changed", true, 0), ("two", false, 0), ("changed", false, 1)]);
    assert_eq!(messages[2].kind(), MessageKind::Edit);
}

/// The sender and the admins of a group recall a message.
pub async fn recall_removes_the_body(nodes: &Nodes) {
    let (ann, bo, cy) = (unique("ann"), unique("bo"), unique("cy"));
    let to = group(node(nodes, 0), &[&ann, &bo, &cy], false).await;
    send_texts(node(nodes, 0), &to, &bo, &["one", "two", "three"]).await;
    let recall = |from: &str, id: &str, target| changes(MessageKind::Recall, from, id, target, "");
    assert_eq!(send(node(nodes, 0), &to, recall(&cy, "r", 1)).await, Err(Rejection::NotPermitted));
    assert!(send(node(nodes, 0), &to, recall(&bo, "r", 1)).await.is_ok());
    assert!(send(node(nodes, 1), &to, recall(&ann, "r", 2)).await.is_ok());
    let messages = read_all(node(nodes, 1), &to, &cy).await;
    let read: Vec<_> = messages[..3].iter().map(|message| (&*message.body, message.changed)).collect();
    assert_eq!(read, [("", true), ("", true), ("three", false)]);
    assert_eq!(messages.len(), 5);
    // A recall also removes the text of earlier edits, and ends them.
    let edit = |id: &str| changes(MessageKind::Edit, &bo, id, 3, "four");
    assert!(send(node(nodes, 0), &to, edit("e1")).await.is_ok());
    assert_eq!(read_all(node(nodes, 1), &to, &cy).await[5].body, "four");
    assert!(send(node(nodes, 0), &to, recall(&bo, "r3", 3)).await.is_ok());
    assert_eq!(send(node(nodes, 1), &to, edit("e2")).await, Err(Rejection::NoTarget));
    assert!(read_all(node(nodes, 1), &to, &cy).await.iter().all(|message| message.body.is_empty()));
}

/// Accepted messages are dense although others of the request are rejected.
pub async fn batch_reports_each_message(nodes: &Nodes) {
    let (ann, bo, eve) = (unique("ann"), unique("bo"), unique("eve"));
    let to = group(node(nodes, 0), &[&ann, &bo], false).await;
    let messages = vec![
        text(&ann, "1", "one"),
        text(&eve, "1", "x"),
        changes(MessageKind::Edit, &ann, "2", 7, "x"),
        text(&bo, "1", "two"),
        changes(MessageKind::Edit, &ann, "3", 1, "edited"),
        text(&ann, "1", "one"),
        changes(MessageKind::Members, &ann, "4", 0, "x"),
    ];
    let outcomes = append(node(nodes, 0), &to, messages).await.messages;
    let seqs: Vec<_> = outcomes.iter().map(|outcome| outcome.map(|stored| stored.seq)).collect();
    let rejected = [Err(Rejection::NotMember), Err(Rejection::NoTarget), Err(Rejection::NotPermitted)];
    assert_eq!(seqs, [Ok(1), rejected[0], rejected[1], Ok(2), Ok(3), Ok(1), rejected[2]]);
    let messages = read_all(node(nodes, 1), &to, &bo).await;
    let bodies: Vec<_> = messages.iter().map(|message| &*message.body).collect();
    assert_eq!(bodies, ["edited", "two", "edited"], "an edit may follow its target in one request");
    // More messages than one statement of any engine contains.
    let many = (0..150).map(|index| text(&bo, &format!("many-{index}"), "x")).collect();
    let seqs = append(node(nodes, 1), &to, many).await.messages.into_iter().map(|outcome| outcome.map(|s| s.seq));
    assert!(seqs.eq((4..154).map(Ok)));
}

/// Names and bodies are compared and stored byte by byte.
pub async fn texts_are_stored_exactly(nodes: &Nodes) {
    let user = unique("u");
    let names =
        [user.clone(), user.to_uppercase(), format!("{user} "), format!("{user}\u{e9}"), format!("{user}e\u{301}")];
    let bodies =
        [String::new(), " x ".to_owned(), "a\0b".to_owned(), "\u{1f980}'\"\\%_?$1".to_owned(), "é".repeat(50_000)];
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let to = group(node(nodes, 0), &users, false).await;
    for (name, body) in names.iter().zip(&bodies) {
        send(node(nodes, 0), &to, text(name, name, body)).await.expect("each name is a member");
    }
    for (message, (name, body)) in read_all(node(nodes, 1), &to, &user).await.iter().zip(names.iter().zip(&bodies)) {
        assert!(message.from == *name && message.id == *name && message.body == *body, "{message:?}");
    }
    let mut sorted = names.to_vec();
    sorted.sort();
    assert_eq!(info(node(nodes, 1), &to, &user).await.audience.members, sorted);
}
