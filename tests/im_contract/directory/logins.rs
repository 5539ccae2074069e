//! Concurrent logins of one user.

use futures_util::future::join_all;

use super::requests::*;

fn policy(scope: Scope, conflict: Conflict) -> Policy {
    Policy { scope, conflict }
}

/// A device has one session.
pub async fn later_login_replaces_the_earlier_one(nodes: &Nodes) {
    let user = unique("ann");
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let (first, pad) = (entry(&user, "phone", "ios", one, 1), entry(&user, "pad", "ios", one, 2));
    let second = entry(&user, "phone", "ios", other, u64::MAX);
    assert_eq!(claim(node(nodes, 0), &first).await, []);
    assert_eq!(claim(node(nodes, 0), &pad).await, []);
    assert_eq!(lookup(node(nodes, 1), &user).await, [first.clone(), pad.clone()]);
    assert_eq!(claim(node(nodes, 1), &second).await, [first]);
    assert_eq!(lookup(node(nodes, 0), &user).await, [pad, second]);
}

/// A repeated claim succeeds without an effect.
pub async fn repeated_claim_changes_nothing(nodes: &Nodes) {
    let user = unique("ann");
    let id = join(node(nodes, 0)).await;
    let session = entry(&user, "phone", "ios", id, 7);
    claim(node(nodes, 0), &session).await;
    assert_eq!(claim(node(nodes, 1), &session).await, []);
    assert_eq!(lookup(node(nodes, 0), &user).await, [session]);
    assert_eq!(replaced(node(nodes, 0), id).await, []);
}

/// The policy `Refuse` rejects a login on another device, and accepts one on the same device.
pub async fn refuse_keeps_the_earlier_login(nodes: &Nodes) {
    let user = unique("ann");
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let refuse = policy(Scope::Single, Conflict::Refuse);
    let first = entry(&user, "phone", "ios", one, 1);
    assert_eq!(node(nodes, 0).claim(first.clone(), refuse).await, Ok(vec![]));
    let rejected = node(nodes, 1).claim(entry(&user, "web", "web", other, 2), refuse).await;
    assert_eq!(rejected, Err(ClaimError::Rejected(ClaimRejection::Taken)));
    assert_eq!(lookup(node(nodes, 1), &user).await, std::slice::from_ref(&first));
    let again = entry(&user, "phone", "ios", other, 3);
    assert_eq!(node(nodes, 1).claim(again.clone(), refuse).await, Ok(vec![first]));
    assert_eq!(lookup(node(nodes, 0), &user).await, [again]);
}

/// A side of a pairing room belongs to its first session until its release.
pub async fn room_sides_are_held(nodes: &Nodes) {
    let room = format!("\u{1}{}", unique("room"));
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let (first, second) = (entry(&room, "app", "", one, 1), entry(&room, "app", "", other, 2));
    claim(node(nodes, 0), &first).await;
    let rejected = node(nodes, 1).claim(second.clone(), Policy::default()).await;
    assert_eq!(rejected, Err(ClaimError::Rejected(ClaimRejection::Taken)));
    claim(node(nodes, 1), &entry(&room, "page", "", other, 3)).await;
    node(nodes, 0).release(vec![first]).await.expect("the directory releases sessions");
    assert_eq!(claim(node(nodes, 1), &second).await, []);
}

/// Each scope excludes its logins.
pub async fn scopes_exclude_their_logins(nodes: &Nodes) {
    let id = join(node(nodes, 0)).await;
    for (scope, expected) in
        [(Scope::AllDevices, vec![1, 2, 3]), (Scope::OnePerPlatform, vec![2, 3]), (Scope::Single, vec![3])]
    {
        let user = unique("ann");
        for (device, platform, session) in [("phone", "ios", 1), ("pad", "ios", 2), ("browser", "web", 3)] {
            let session = entry(&user, device, platform, id, session);
            let claimed = node(nodes, 0).claim(session, policy(scope, Conflict::Replace)).await;
            claimed.expect("the later login wins");
        }
        let left: Vec<_> = lookup(node(nodes, 1), &user).await.iter().map(|entry| entry.session.0).collect();
        assert_eq!(left, expected, "{scope:?}");
    }
}

/// A user has a maximum number of sessions; a login on a known device still succeeds.
pub async fn user_has_at_most_max_sessions(nodes: &Nodes) {
    let (user, id) = (unique("ann"), join(node(nodes, 0)).await);
    let nth = |number: usize| entry(&user, &number.to_string(), "web", id, number as u64);
    for number in 0..UserSessions::MAX {
        claim(node(nodes, number), &nth(number)).await;
    }
    let above = node(nodes, 0).claim(nth(UserSessions::MAX), Policy::default()).await;
    assert_eq!(above, Err(ClaimError::Rejected(ClaimRejection::TooMany)));
    let again = SessionEntry { session: SessionId(1000), ..nth(3) };
    assert_eq!(claim(node(nodes, 1), &again).await, [nth(3)]);
    assert_eq!(lookup(node(nodes, 0), &user).await.len(), UserSessions::MAX);
}

/// The node of a replaced session learns of it with each renewal until it releases the session.
pub async fn replaced_sessions_are_reported_until_release(nodes: &Nodes) {
    let user = unique("ann");
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let (phone, pad) = (entry(&user, "phone", "ios", one, 1), entry(&user, "pad", "ios", one, 2));
    claim(node(nodes, 0), &phone).await;
    claim(node(nodes, 0), &pad).await;
    assert_eq!(replaced(node(nodes, 0), one).await, []);
    claim(node(nodes, 1), &entry(&user, "phone", "ios", other, 3)).await;
    claim(node(nodes, 1), &entry(&user, "pad", "ios", other, 4)).await;
    for _ in 0..2 {
        assert_eq!(replaced(node(nodes, 0), one).await, [SessionId(1), SessionId(2)]);
    }
    node(nodes, 0).release(vec![phone]).await.expect("the directory releases sessions");
    assert_eq!(replaced(node(nodes, 0), one).await, [SessionId(2)]);
    node(nodes, 0).release(vec![pad]).await.expect("the directory releases sessions");
    assert_eq!(replaced(node(nodes, 0), one).await, []);
    assert_eq!(replaced(node(nodes, 1), other).await, []);
    assert_eq!(lookup(node(nodes, 0), &user).await.len(), 2);
}

/// A release concerns exactly the named session.
pub async fn late_release_keeps_the_newer_login(nodes: &Nodes) {
    let user = unique("ann");
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let (first, second) = (entry(&user, "phone", "ios", one, 1), entry(&user, "phone", "ios", other, 2));
    claim(node(nodes, 0), &first).await;
    claim(node(nodes, 1), &second).await;
    let same_id = SessionEntry { node: one, ..second.clone() };
    node(nodes, 0).release(vec![first, same_id]).await.expect("the directory releases sessions");
    assert_eq!(lookup(node(nodes, 0), &user).await, std::slice::from_ref(&second));
    node(nodes, 1).release(vec![second.clone(), second.clone()]).await.expect("the directory releases sessions");
    assert_eq!(lookup(node(nodes, 0), &user).await, []);
    node(nodes, 1).release(vec![second]).await.expect("a repeated release has no effect");
}

/// The answer has one list for each name of the request.
pub async fn lookup_keeps_the_order_of_users(nodes: &Nodes) {
    let id = join(node(nodes, 0)).await;
    let mut users: Vec<_> = (0..70).map(|_| unique("u")).collect();
    for (index, user) in users.iter().enumerate().step_by(2) {
        claim(node(nodes, index), &entry(user, "phone", "ios", id, index as u64)).await;
    }
    users.push(users[2].clone());
    let found = node(nodes, 1).lookup(users.clone()).await.expect("the directory finds sessions");
    assert_eq!(found.len(), users.len());
    for (index, (user, found)) in users.iter().zip(&found).enumerate() {
        let expected = if index == 70 { Some(2) } else { (index % 2 == 0).then_some(index as u64) };
        let expected = expected.map(|session| entry(user, "phone", "ios", id, session));
        assert_eq!(*found, Vec::from_iter(expected), "{index}");
    }
    assert_eq!(node(nodes, 0).lookup(vec![]).await, Ok(vec![]));
}

/// Restored sessions lose against later logins, in any order of restorations.
pub async fn restore_keeps_the_later_login(nodes: &Nodes) {
    for is_reversed in [false, true] {
        let user = unique("ann");
        let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
        let (earlier, later) = (entry(&user, "phone", "ios", one, 1), entry(&user, "phone", "ios", other, 2));
        let order = if is_reversed { [&later, &earlier] } else { [&earlier, &later] };
        for (index, session) in order.into_iter().enumerate() {
            let lost = node(nodes, index).restore(session.node, vec![session.clone()], Policy::default()).await;
            let loses = is_reversed && session == &earlier;
            assert_eq!(lost, Ok(if loses { vec![session.session] } else { vec![] }));
        }
        assert_eq!(lookup(node(nodes, 0), &user).await, std::slice::from_ref(&later));
        let reported = replaced(node(nodes, 0), one).await;
        assert_eq!(reported, if is_reversed { vec![] } else { vec![SessionId(1)] });
        let again = node(nodes, 0).restore(other, vec![later], Policy::default()).await;
        assert_eq!(again, Ok(vec![]), "a repeated restoration changes nothing");
    }
}

/// A restoration of many sessions, also of several devices of one user, registers all of them.
pub async fn restore_of_many_sessions_is_complete(nodes: &Nodes) {
    let id = join(node(nodes, 0)).await;
    let users: Vec<_> = (0..90).map(|_| unique("u")).collect();
    let mut sessions = vec![entry(&users[0], "phone", "ios", id, 0)];
    for user in &users {
        for device in ["phone", "pad"] {
            sessions.push(entry(user, device, "ios", id, sessions.len() as u64));
        }
    }
    let lost = node(nodes, 0).restore(id, sessions.clone(), Policy::default()).await;
    assert_eq!(lost, Ok(vec![SessionId(0)]), "the later session of the device wins");
    let found = node(nodes, 1).lookup(users).await.expect("the directory finds sessions");
    let mut found = found.concat();
    found.sort_by_key(|entry| entry.session);
    assert_eq!(found, sessions[1..]);
    node(nodes, 1).release(sessions.clone()).await.expect("the directory releases sessions");
    assert_eq!(lookup(node(nodes, 0), &sessions[5].user).await, []);
}

/// Logins on several nodes at the same time leave one session, and each other one is replaced or rejected.
pub async fn concurrent_claims_leave_one_session(nodes: &Nodes) {
    let ids = join_all((0..4).map(|index| join(node(nodes, index)))).await;
    for conflict in [Conflict::Replace, Conflict::Refuse] {
        let user = unique("ann");
        let claims = (0..16).map(|index| {
            let session = entry(&user, &format!("device-{index}"), "web", ids[index % 4], 1 + index as u64);
            node(nodes, index).claim(session, policy(Scope::Single, conflict))
        });
        let outcomes = join_all(claims).await;
        let left = lookup(node(nodes, 0), &user).await;
        assert_eq!(left.len(), 1, "{conflict:?}");
        let mut ended: Vec<u64> = outcomes.iter().flatten().flatten().map(|entry| entry.session.0).collect();
        for (index, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(_) => {}
                Err(ClaimError::Rejected(ClaimRejection::Taken)) => ended.push(1 + index as u64),
                Err(error) => panic!("{error}"),
            }
        }
        ended.push(left[0].session.0);
        ended.sort_unstable();
        assert!(ended.into_iter().eq(1..=16), "each session ends once, except one");
    }
}
