//! Pages of messages and conversations, and unread counts.

use rpc_im::store::{Cursor, MAX_UNREAD, MessagePage};

use super::requests::*;

async fn page(store: &dyn MessageStore, to: &ConversationRef, user: &str, range: Range, limit: usize) -> MessagePage {
    let page = PageRequest { range, max_messages: limit, max_bytes: usize::MAX };
    store.read(to.conversation.clone(), user.to_owned(), page).await.expect("the user is a member")
}

fn seqs(page: &MessagePage) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq).collect()
}

/// Pages after and before a position are consecutive and ascending.
pub async fn pages_ascend_from_either_end(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    let messages = (0..150).map(|index| text(&ann, &index.to_string(), &index.to_string())).collect();
    let incarnation = append(node(nodes, 0), &to, messages).await.incarnation;
    let store = node(nodes, 1);
    let cases = [
        (Range::After(0), 3, vec![1, 2, 3]),
        (Range::After(148), 10, vec![149, 150]),
        (Range::After(150), 10, vec![]),
        (Range::After(u64::MAX), 10, vec![]),
        (Range::After(0), 0, vec![1]),
        (Range::After(0), 140, (1..=140).collect()),
        (Range::Before(151), 3, vec![148, 149, 150]),
        (Range::Before(u64::MAX), 2, vec![149, 150]),
        (Range::Before(3), 10, vec![1, 2]),
        (Range::Before(1), 10, vec![]),
        (Range::Before(0), 10, vec![]),
        (Range::Before(150), 140, (10..=149).collect()),
    ];
    for (range, limit, expected) in cases {
        let page = page(store, &to, &bo, range, limit).await;
        assert_eq!(seqs(&page), expected, "{range:?}, {limit}");
        assert_eq!((page.incarnation, page.first, page.last), (incarnation, 1, 150));
        assert!(page.messages.iter().all(|message| message.body == (message.seq - 1).to_string()));
    }
}

/// A page ends before the message that exceeds the number of bytes, but has at least one.
pub async fn pages_obey_the_byte_limit(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    send_texts(node(nodes, 0), &to, &ann, &["1234", "12345", "é23456"]).await;
    let cases = [
        (Range::After(0), 9, vec![1, 2]),
        (Range::After(0), 8, vec![1]),
        (Range::After(0), 0, vec![1]),
        (Range::After(0), 16, vec![1, 2, 3]),
        (Range::Before(4), 11, vec![3]),
        (Range::Before(4), 12, vec![2, 3]),
    ];
    for (range, max_bytes, expected) in cases {
        let request = PageRequest { range, max_messages: 10, max_bytes };
        let page =
            node(nodes, 1).read(to.conversation.clone(), bo.clone(), request).await.expect("the user is a member");
        assert_eq!(seqs(&page), expected, "{range:?}, {max_bytes}");
    }
}

/// The conversations of a user are listed in pages, in the order of their ids, with their states.
pub async fn conversations_are_paged(nodes: &Nodes) {
    let ann = unique("ann");
    let mut expected = Vec::new();
    for index in 0..7 {
        let bo = unique("bo");
        let to = ConversationRef::of_pair(&ann, &bo);
        send_texts(node(nodes, index), &to, &bo, &["1", "2", "3"][..1 + index % 3]).await;
        let open = group(node(nodes, index), &[&bo, &ann], true).await;
        expected.extend([info(node(nodes, 0), &to, &ann).await, info(node(nodes, 0), &open, &ann).await]);
    }
    expected.sort_by(|one, other| one.conversation.cmp(&other.conversation));
    let mut listed: Vec<ConversationInfo> = Vec::new();
    loop {
        let after = listed.last().map(|last| last.conversation.clone()).unwrap_or_default();
        let page = node(nodes, 1).conversations(ann.clone(), after, 5).await.expect("the store lists conversations");
        assert!(page.len() <= 5);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, expected);
    assert_eq!(node(nodes, 0).conversations(unique("eve"), String::new(), 5).await, Ok(vec![]));
}

/// The unread count ignores messages of the member, edits, recalls and changes of members.
pub async fn unread_counts_texts_of_others(nodes: &Nodes) {
    let (ann, bo, cy) = (unique("ann"), unique("bo"), unique("cy"));
    let to = group(node(nodes, 0), &[&ann, &bo], true).await;
    send_texts(node(nodes, 0), &to, &ann, &["1", "2", "3"]).await;
    send_texts(node(nodes, 0), &to, &bo, &["4"]).await;
    change(node(nodes, 0), &to, &cy, Change::Join).await.expect("the group is open");
    let edit = changes(MessageKind::Edit, &ann, "e", 1, "edited");
    send(node(nodes, 0), &to, edit).await.expect("the sender may edit");
    let unread = [
        info(node(nodes, 1), &to, &ann).await.unread,
        info(node(nodes, 1), &to, &bo).await.unread,
        info(node(nodes, 1), &to, &cy).await.unread,
    ];
    assert_eq!(unread, [1, 3, 0], "a new member has read the earlier messages");
    let cursor = Cursor { conversation: to.conversation.clone(), user: bo.clone(), delivered: 0, read: 2 };
    node(nodes, 0).set_cursors(vec![cursor]).await.expect("the store sets cursors");
    assert_eq!(info(node(nodes, 1), &to, &bo).await.unread, 1);
}

/// The unread count has a maximum.
pub async fn unread_has_a_maximum(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = ConversationRef::of_pair(&ann, &bo);
    for (sent, expected) in [(MAX_UNREAD - 1, MAX_UNREAD - 1), (1, MAX_UNREAD), (1, MAX_UNREAD)] {
        let messages = (0..sent).map(|_| text(&ann, &unique("m"), "x")).collect();
        append(node(nodes, 0), &to, messages).await;
        assert_eq!(info(node(nodes, 1), &to, &bo).await.unread, expected);
    }
}
