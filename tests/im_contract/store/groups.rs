//! Groups and their members.

use futures_util::future::join_all;
use rpc_im::store::{Cursor, MAX_LISTED_MEMBERS, MAX_MEMBERS, MemberPage};

use super::requests::*;

/// A repeated creation returns the group; another user learns nothing of it.
pub async fn create_is_idempotent(nodes: &Nodes) {
    let (ann, bo, eve) = (unique("ann"), unique("bo"), unique("eve"));
    let id = unique("g");
    let users: [&str; 4] = [&ann, &bo, &bo, &ann];
    let created = node(nodes, 0).create(new_group(&id, &users, true)).await.expect("the store creates the group");
    assert_eq!((&*created.conversation, &*created.name, created.is_group, created.open), (&*id, "team", true, true));
    assert_eq!((created.first, created.last, created.unread), (1, 0, 0));
    assert_eq!((created.audience.count, &created.audience.members), (2, &vec![ann.clone(), bo.clone()]));
    assert_eq!((&created.member.user, created.member.role), (&ann, Role::Owner));
    assert_eq!((created.member.delivered, created.member.read), (0, 0));
    assert_eq!(node(nodes, 1).create(new_group(&id, &[&ann], false)).await, Ok(created.clone()));
    assert_eq!(node(nodes, 1).create(new_group(&id, &[&eve], false)).await, Err(StoreError::NotFound));
    assert_eq!(role(node(nodes, 1), &ConversationRef::of_group(id), &bo).await, Role::Member);
}

/// Nodes that create a group at the same time create one.
pub async fn concurrent_creates_agree(nodes: &Nodes) {
    for _ in 0..5 {
        let (ann, bo, id) = (unique("ann"), unique("bo"), unique("g"));
        let users: [&str; 2] = [&ann, &bo];
        let created = join_all((0..4).map(|index| node(nodes, index).create(new_group(&id, &users, false)))).await;
        assert!(created.iter().all(|group| group.is_ok() && *group == created[0]), "{created:?}");
    }
}

/// Users join by themselves only if the group is open.
pub async fn users_join_open_groups_only(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let store = node(nodes, 0);
    let closed = group(store, &[&ann], false).await;
    assert_eq!(change(store, &closed, &bo, Change::Join).await, Err(StoreError::NotFound));
    let unknown = ConversationRef::of_group(unique("g"));
    assert_eq!(change(store, &unknown, &bo, Change::Join).await, Err(StoreError::NotFound));
    let open = group(store, &[&ann], true).await;
    let before = info(store, &open, &ann).await.audience.version;
    let joined = change(store, &open, &bo, Change::Join).await.expect("the group is open");
    assert_eq!((joined.audience.count, joined.audience.members), (2, vec![ann.clone(), bo.clone()]));
    assert!(joined.audience.version > before);
    assert_eq!(joined.messages[0].map(|stored| (stored.seq, stored.repeated)), Ok((1, false)));
    let message = read_all(node(nodes, 1), &open, &ann).await.remove(0);
    assert_eq!((message.kind(), &message.from), (MessageKind::Members, &bo));
    assert_eq!(serde_json::from_str::<Change>(&message.body).expect("the body is JSON"), Change::Join);
    let again = change(store, &open, &bo, Change::Join).await.expect("a member may join again");
    assert_eq!((again.messages.len(), again.audience.version), (0, joined.audience.version));
    assert_eq!(role(node(nodes, 1), &open, &bo).await, Role::Member);
    assert!(send(node(nodes, 1), &open, text(&bo, "1", "hello")).await.is_ok());
}

/// The owner and admins add and remove members of lower roles.
pub async fn admins_add_and_remove_members(nodes: &Nodes) {
    let (ann, bo, cy, di) = (unique("ann"), unique("bo"), unique("cy"), unique("di"));
    let to = group(node(nodes, 0), &[&ann, &bo], false).await;
    let add = || Change::Add(vec![bo.clone(), cy.clone(), di.clone(), cy.clone()]);
    assert!(matches!(change(node(nodes, 0), &to, &bo, add()).await, Err(StoreError::Rejected(_))));
    assert_eq!(change(node(nodes, 0), &to, &cy, add()).await, Err(StoreError::NotFound));
    let added = change(node(nodes, 1), &to, &ann, add()).await.expect("the owner adds members");
    assert_eq!((added.audience.count, added.audience.members.len(), added.messages.len()), (4, 4, 1));
    let again = change(node(nodes, 1), &to, &ann, add()).await.expect("the owner adds members");
    assert_eq!((again.audience.count, again.messages.len()), (4, 0));
    change(node(nodes, 0), &to, &ann, Change::SetRole(bo.clone(), Role::Admin)).await.expect("the owner sets roles");
    let removed = change(node(nodes, 1), &to, &bo, Change::Remove(cy.clone())).await.expect("an admin removes members");
    assert_eq!((removed.audience.count, removed.audience.members.contains(&cy)), (3, false));
    assert!(matches!(
        change(node(nodes, 0), &to, &bo, Change::Remove(ann.clone())).await,
        Err(StoreError::Rejected(_))
    ));
    assert_eq!(send(node(nodes, 0), &to, text(&cy, "1", "x")).await, Err(Rejection::NotMember));
    let gone = node(nodes, 0).conversation(to.conversation.clone(), cy.clone()).await;
    assert_eq!(gone, Err(StoreError::NotFound));
    let nobody = change(node(nodes, 0), &to, &bo, Change::Remove(cy.clone())).await.expect("there is no such member");
    assert_eq!(nobody.messages, []);
}

/// A group has one owner, who changes roles and may appoint another owner.
pub async fn owner_changes_roles(nodes: &Nodes) {
    let (ann, bo, cy) = (unique("ann"), unique("bo"), unique("cy"));
    let to = group(node(nodes, 0), &[&ann, &bo], false).await;
    let promote = |user: &str, role| Change::SetRole(user.to_owned(), role);
    for (by, user) in [(&bo, &bo), (&ann, &cy), (&ann, &ann)] {
        let outcome = change(node(nodes, 0), &to, by, promote(user, Role::Admin)).await;
        assert!(matches!(outcome, Err(StoreError::Rejected(_))), "{outcome:?}");
    }
    assert_eq!(change(node(nodes, 0), &to, &ann, promote(&bo, Role::Member)).await.map(|a| a.messages), Ok(vec![]));
    change(node(nodes, 0), &to, &ann, promote(&bo, Role::Admin)).await.expect("the owner changes roles");
    assert_eq!(role(node(nodes, 1), &to, &bo).await, Role::Admin);
    change(node(nodes, 1), &to, &ann, promote(&bo, Role::Owner)).await.expect("the owner appoints another owner");
    assert_eq!(
        (role(node(nodes, 0), &to, &ann).await, role(node(nodes, 0), &to, &bo).await),
        (Role::Admin, Role::Owner)
    );
}

/// The first admin, or the first member without admins, becomes owner when the owner leaves.
pub async fn leaving_owner_has_a_successor(nodes: &Nodes) {
    let names = ["ann", "Bo", "bo", "cy"].map(|name| format!("{name}-{}", unique("u")));
    let users = names.each_ref().map(String::as_str);
    let [ann, upper, bo, cy] = users;
    let to = group(node(nodes, 0), &users, false).await;
    for admin in [cy, bo] {
        let promote = Change::SetRole(admin.to_owned(), Role::Admin);
        change(node(nodes, 0), &to, ann, promote).await.expect("the owner changes roles");
    }
    let left = change(node(nodes, 1), &to, ann, Change::Leave).await.expect("a member may leave");
    assert_eq!((left.audience.count, left.audience.members), (3, vec![upper.to_owned(), bo.to_owned(), cy.to_owned()]));
    let roles = [
        role(node(nodes, 1), &to, upper).await,
        role(node(nodes, 1), &to, bo).await,
        role(node(nodes, 1), &to, cy).await,
    ];
    assert_eq!(roles, [Role::Member, Role::Owner, Role::Admin]);
    change(node(nodes, 1), &to, cy, Change::Leave).await.expect("a member may leave");
    change(node(nodes, 1), &to, bo, Change::Leave).await.expect("a member may leave");
    assert_eq!(role(node(nodes, 0), &to, upper).await, Role::Owner);
    let last = change(node(nodes, 0), &to, upper, Change::Leave).await.expect("a member may leave");
    assert_eq!((last.audience.count, last.audience.members), (0, vec![]));
    assert_eq!(change(node(nodes, 0), &to, upper, Change::Leave).await, Err(StoreError::NotFound));
}

/// A repeated request returns the stored message, also if its user is no longer a member.
pub async fn repeated_change_has_no_second_effect(nodes: &Nodes) {
    let (ann, bo) = (unique("ann"), unique("bo"));
    let to = group(node(nodes, 0), &[&ann, &bo], true).await;
    let (conversation, by, device) = (to.conversation.clone(), bo.clone(), "phone".to_owned());
    let leave = MembersChange { conversation, by, device, id: "1".to_owned(), change: Change::Leave };
    let first = node(nodes, 0).change_members(leave.clone()).await.expect("a member may leave");
    let again = node(nodes, 1).change_members(leave.clone()).await.expect("the request is repeated");
    let stored = first.messages[0].expect("the change is stored");
    assert_eq!(again.messages, [Ok(Stored { repeated: true, ..stored })]);
    assert_eq!(again.audience, first.audience);
    change(node(nodes, 1), &to, &bo, Change::Join).await.expect("the group is open");
    node(nodes, 0).change_members(leave).await.expect("the request is repeated");
    assert_eq!(info(node(nodes, 0), &to, &ann).await.audience.count, 2, "the late repeat removes no one");
}

/// Concurrent changes and messages get dense sequence numbers, and all take effect.
pub async fn concurrent_changes_are_serial(nodes: &Nodes) {
    let owner = unique("owner");
    let to = group(node(nodes, 0), &[&owner], true).await;
    let users: Vec<_> = (0..8).map(|_| unique("u")).collect();
    let joins = users.iter().enumerate().map(|(index, user)| change(node(nodes, index), &to, user, Change::Join));
    let sends = (0..8).map(|index| send(node(nodes, index), &to, text(&owner, &unique("m"), "x")));
    let (joined, sent) = (join_all(joins), join_all(sends));
    let (joined, sent) = tokio::join!(joined, sent);
    let mut seqs: Vec<_> = sent.into_iter().map(|outcome| outcome.expect("the owner may send").seq).collect();
    for outcome in joined {
        seqs.push(outcome.expect("the group is open").messages[0].expect("the change is stored").seq);
    }
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=16));
    assert_eq!(info(node(nodes, 0), &to, &owner).await.audience.count, 9);
}

/// Members are listed in pages, in the order of the bytes of their names.
pub async fn members_are_paged(nodes: &Nodes) {
    let mut names: Vec<String> =
        ["a", "B", "é", "z", "a b", "a-b"].map(|name| format!("{name}{}", unique("u"))).to_vec();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let to = group(node(nodes, 0), &users, false).await;
    send_texts(node(nodes, 0), &to, users[0], &["x"]).await;
    let cursor = Cursor { conversation: to.conversation.clone(), user: names[1].clone(), delivered: 1, read: 0 };
    node(nodes, 0).set_cursors(vec![cursor.clone()]).await.expect("the store sets cursors");
    names.sort();
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = node(nodes, 1).members(to.conversation.clone(), after, 4).await.expect("the group exists");
        assert_eq!(page.version, info(node(nodes, 0), &to, &names[0]).await.audience.version);
        let Some(last) = page.members.last() else { break };
        after = last.user.clone();
        listed.extend(page.members);
    }
    assert!(listed.iter().map(|member| &member.user).eq(&names));
    assert!(listed.iter().all(|member| (member.delivered == 1) == (member.user == cursor.user)));
    let nothing = node(nodes, 0).members(unique("g"), String::new(), 4).await;
    assert_eq!(nothing, Ok(MemberPage { version: 0, members: vec![] }));
}

/// An audience lists its members up to the limit only.
pub async fn large_audience_is_not_listed(nodes: &Nodes) {
    let names: Vec<_> = (0..=MAX_LISTED_MEMBERS).map(|_| unique("u")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let to = group(node(nodes, 0), &users[..MAX_LISTED_MEMBERS], false).await;
    let sent =
        append(node(nodes, 0), &to, vec![text(users[0], "1", "x"), text(users[MAX_LISTED_MEMBERS], "1", "x")]).await;
    assert_eq!((sent.audience.count, sent.audience.members.len()), (MAX_LISTED_MEMBERS as u64, MAX_LISTED_MEMBERS));
    let add = Change::Add(vec![names[MAX_LISTED_MEMBERS].clone()]);
    let added = change(node(nodes, 1), &to, users[0], add).await.expect("the owner adds members");
    assert_eq!((added.audience.count, added.audience.members.len()), (MAX_LISTED_MEMBERS as u64 + 1, 0));
    let sent = append(node(nodes, 1), &to, vec![text(users[7], "1", "x"), text(&unique("eve"), "1", "x")]).await;
    assert_eq!((sent.audience.count, sent.audience.members.len()), (MAX_LISTED_MEMBERS as u64 + 1, 0));
    assert_eq!((sent.messages[0].is_ok(), sent.messages[1]), (true, Err(Rejection::NotMember)));
    let info = info(node(nodes, 0), &to, users[1]).await;
    assert_eq!((info.audience.count, info.audience.members.len()), (MAX_LISTED_MEMBERS as u64 + 1, 0));
}

/// A group with the maximum number of members accepts no other member.
pub async fn group_has_at_most_max_members(nodes: &Nodes) {
    let prefix = unique("u");
    let names: Vec<_> = (0..=MAX_MEMBERS).map(|index| format!("{prefix}-{index}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let above = node(nodes, 0).create(new_group(&unique("g"), &users, true)).await;
    assert!(matches!(above, Err(StoreError::Rejected(_))));
    let to = group(node(nodes, 0), &users[..MAX_MEMBERS], true).await;
    let one_more = users[MAX_MEMBERS];
    assert!(matches!(change(node(nodes, 0), &to, one_more, Change::Join).await, Err(StoreError::Rejected(_))));
    let add = Change::Add(vec![one_more.to_owned()]);
    assert!(matches!(change(node(nodes, 1), &to, users[0], add).await, Err(StoreError::Rejected(_))));
    change(node(nodes, 1), &to, users[1], Change::Leave).await.expect("a member may leave");
    let joined = change(node(nodes, 0), &to, one_more, Change::Join).await.expect("the group has space again");
    assert_eq!(joined.audience.count, MAX_MEMBERS as u64);
}
