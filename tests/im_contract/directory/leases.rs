//! Leases of nodes.

use super::requests::*;

/// A renewal reports whether the node held its lease, and the incarnation of the directory.
pub async fn lease_is_acquired_once(nodes: &Nodes) {
    let id = NodeId(rand::random());
    let first = node(nodes, 0).renew(id, LONG).await.expect("the directory renews leases");
    assert!(first.acquired);
    let again = node(nodes, 1).renew(id, LONG).await.expect("the directory renews leases");
    assert_eq!(again, Renewal { incarnation: first.incarnation, acquired: false, replaced: vec![] });
    node(nodes, 0).leave(id).await.expect("the directory ends leases");
    assert!(node(nodes, 1).renew(id, LONG).await.expect("the directory renews leases").acquired);
}

/// A node without a lease registers no session.
pub async fn claims_require_a_lease(nodes: &Nodes) {
    let (user, id) = (unique("ann"), NodeId(rand::random()));
    let session = entry(&user, "phone", "ios", id, 1);
    let claimed = node(nodes, 0).claim(session.clone(), Policy::default()).await;
    assert_eq!(claimed, Err(ClaimError::NoLease));
    let restored = node(nodes, 0).restore(id, vec![session.clone()], Policy::default()).await;
    assert!(matches!(restored, Err(DirectoryError(_))));
    assert_eq!(lookup(node(nodes, 1), &user).await, []);
    node(nodes, 0).renew(id, LONG).await.expect("the directory renews leases");
    assert_eq!(claim(node(nodes, 1), &session).await, []);
    node(nodes, 0).leave(id).await.expect("the directory ends leases");
    let claimed = node(nodes, 1).claim(session, Policy::default()).await;
    assert_eq!(claimed, Err(ClaimError::NoLease));
}

/// Sessions of a node that does not renew its lease count as absent, whatever the policy.
pub async fn expired_lease_hides_sessions(nodes: &Nodes) {
    let (user, id) = (unique("ann"), NodeId(rand::random()));
    let other = join(node(nodes, 1)).await;
    let refuse = Policy { scope: Scope::Single, conflict: Conflict::Refuse };
    let session = entry(&user, "phone", "ios", id, 1);
    in_time(async {
        loop {
            // A busy machine may take longer than the lease.
            node(nodes, 0).renew(id, SHORT).await.expect("the directory renews leases");
            match node(nodes, 0).claim(session.clone(), refuse).await {
                Ok(_) => break,
                Err(error) => assert_eq!(error, ClaimError::NoLease),
            }
        }
    })
    .await;
    until_absent(node(nodes, 1), &user).await;
    let later = entry(&user, "pad", "ios", other, 2);
    assert_eq!(node(nodes, 1).claim(later.clone(), refuse).await, Ok(vec![]), "no session holds the user");
    assert_eq!(lookup(node(nodes, 0), &user).await, [later]);
    let claimed = node(nodes, 0).claim(session, Policy::default()).await;
    assert_eq!(claimed, Err(ClaimError::NoLease));
}

/// A node that acquires its lease again restores its sessions.
pub async fn node_restores_sessions_after_expiry(nodes: &Nodes) {
    let (user, id) = (unique("ann"), NodeId(rand::random()));
    let session = entry(&user, "phone", "ios", id, 1);
    node(nodes, 0).renew(id, LONG).await.expect("the directory renews leases");
    claim(node(nodes, 0), &session).await;
    node(nodes, 0).renew(id, SHORT).await.expect("the directory renews leases");
    until_absent(node(nodes, 1), &user).await;
    let renewal = node(nodes, 1).renew(id, LONG).await.expect("the directory renews leases");
    assert!(renewal.acquired);
    let lost = node(nodes, 1).restore(id, vec![session.clone()], Policy::default()).await;
    assert_eq!(lost, Ok(vec![]));
    assert_eq!(lookup(node(nodes, 0), &user).await, [session]);
}

/// A node that leaves has no sessions; the sessions of other nodes stay.
pub async fn leaving_node_has_no_sessions(nodes: &Nodes) {
    let user = unique("ann");
    let (one, other) = (join(node(nodes, 0)).await, join(node(nodes, 1)).await);
    let (phone, pad) = (entry(&user, "phone", "ios", one, 1), entry(&user, "pad", "ios", other, 2));
    claim(node(nodes, 0), &phone).await;
    claim(node(nodes, 1), &pad).await;
    node(nodes, 0).leave(one).await.expect("the directory ends leases");
    assert_eq!(lookup(node(nodes, 1), &user).await, [pad]);
    node(nodes, 0).leave(one).await.expect("a node may leave twice");
}
