//! Cursors, the removal of old messages, and new incarnations.

use rpc_im::store::Cursor;

use super::requests::*;

fn cursor(to: &ConversationRef, user: &str, delivered: u64, read: u64) -> Cursor {
    Cursor { conversation: to.conversation.clone(), user: user.to_owned(), delivered, read }
}

async fn cursors(store: &dyn MessageStore, to: &ConversationRef, user: &str) -> (u64, u64) {
    let member = info(store, to, user).await.member;
    (member.delivered, member.read)
}

/// A cursor neither decreases nor passes the last message; the read cursor advances the other one.
pub async fn cursors_only_grow(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    send_texts(node(nodes, 0), &to, &ann, &["1", "2", "3", "4", "5"]).await;
    let steps = [
        ((2, 0), (2, 0)),
        ((1, 0), (2, 0)),
        ((0, 1), (2, 1)),
        ((0, 3), (3, 3)),
        ((0, 2), (3, 3)),
        ((4, 4), (4, 4)),
        ((99, 0), (5, 4)),
        ((0, u64::MAX), (5, 5)),
        ((0, 0), (5, 5)),
    ];
    for (index, ((delivered, read), expected)) in steps.into_iter().enumerate() {
        let set = node(nodes, index).set_cursors(vec![cursor(&to, &bo, delivered, read)]).await;
        assert_eq!(set, Ok(()));
        assert_eq!(cursors(node(nodes, index + 1), &to, &bo).await, expected, "{delivered}, {read}");
    }
    assert_eq!(cursors(node(nodes, 0), &to, &ann).await, (0, 0));
    // The cursors of one request may concern one member, in any order.
    send_texts(node(nodes, 0), &to, &ann, &["6", "7", "8"]).await;
    let set = [cursor(&to, &bo, 7, 6), cursor(&to, &ann, 1, 0), cursor(&to, &bo, 6, 0), cursor(&to, &bo, 0, 5)];
    node(nodes, 0).set_cursors(set.to_vec()).await.expect("the store sets cursors");
    assert_eq!(cursors(node(nodes, 1), &to, &bo).await, (7, 6));
    assert_eq!(cursors(node(nodes, 1), &to, &ann).await, (1, 0));
}

/// Cursors without a member have no effect, and do not prevent others.
pub async fn cursors_of_strangers_are_ignored(nodes: &Nodes) {
    let (ann, bo, eve) = (unique("ann"), unique("bo"), unique("eve"));
    let to = ConversationRef::of_pair(&ann, &bo);
    send_texts(node(nodes, 0), &to, &ann, &["1"]).await;
    let unknown = ConversationRef::of_group(unique("g"));
    let set = vec![cursor(&to, &eve, 1, 1), cursor(&unknown, &bo, 1, 1), cursor(&to, &bo, 1, 0)];
    assert_eq!(node(nodes, 0).set_cursors(set).await, Ok(()));
    assert_eq!(cursors(node(nodes, 1), &to, &bo).await, (1, 0));
    let stranger = node(nodes, 1).conversation(to.conversation.clone(), eve).await;
    assert_eq!(stranger, Err(StoreError::NotFound));
}

/// Retention removes the oldest messages of each conversation; the others keep their numbers.
pub async fn retention_removes_the_beginning(nodes: &Nodes) {
    let store = node(nodes, 0);
    while store.remove_before(u64::MAX, 1000).await.expect("the store removes messages") > 0 {}
    let (ann, bo, cy) = (unique("ann"), unique("bo"), unique("cy"));
    let (to, other) = (ConversationRef::of_pair(&ann, &bo), ConversationRef::of_pair(&ann, &cy));
    send_texts(store, &to, &ann, &["1", "2", "3"]).await;
    send_texts(store, &other, &ann, &["1", "2"]).await;
    let old = read_all(store, &other, &ann).await[1].time;
    // The next messages have a later time.
    let mut count = 3;
    let later = loop {
        count += 1;
        let stored = send(store, &to, text(&ann, &count.to_string(), "x")).await.expect("a member may send");
        if stored.time > old {
            break stored;
        }
    };
    let expired = later.seq - 1;
    assert_eq!(store.remove_before(0, 10).await, Ok(0));
    assert_eq!(node(nodes, 1).remove_before(later.time, 2).await, Ok(2), "the limit is a number of messages");
    let states = [info(store, &to, &ann).await, info(store, &other, &ann).await];
    assert_eq!(states[0].first - 1 + states[1].first - 1, 2);
    let rest = usize::try_from(expired).expect("the number is small");
    assert_eq!(store.remove_before(later.time, 1000).await, Ok(rest), "all messages before the time, except two");
    assert_eq!(store.remove_before(later.time, 1000).await, Ok(0));
    let (left, empty) = (info(store, &to, &bo).await, info(store, &other, &cy).await);
    assert_eq!((left.first, left.last, left.unread), (later.seq, later.seq, 1));
    assert_eq!((empty.first, empty.last, empty.unread), (3, 2, 0), "the first number follows the last one");
    assert_eq!(read_all(store, &to, &bo).await.iter().map(|message| message.seq).collect::<Vec<_>>(), [later.seq]);
    let recall = changes(MessageKind::Recall, &ann, "r", 1, "");
    assert_eq!(send(store, &to, recall).await, Err(Rejection::NoTarget), "the target was removed");
    assert_eq!(send(store, &other, text(&ann, "3", "x")).await.map(|stored| stored.seq), Ok(3));
}

/// Each conversation gets a new incarnation, and keeps its messages.
pub async fn incarnations_are_renewed(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let pair = ConversationRef::of_pair(&ann, &bo);
    send_texts(node(nodes, 0), &pair, &ann, &["1"]).await;
    let open = group(node(nodes, 0), &[&ann, &bo], true).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        for to in [&pair, &open] {
            let incarnation = info(node(nodes, 1), to, &ann).await.incarnation;
            assert!(!seen.contains(&incarnation));
            seen.push(incarnation);
        }
        assert!(node(nodes, 0).renew_incarnations().await.expect("the store renews incarnations") >= 2);
    }
    assert_eq!(info(node(nodes, 1), &pair, &bo).await.last, 1);
    assert_eq!(read_all(node(nodes, 1), &pair, &bo).await.len(), 1);
}
