//! The tests of a directory.
//!
//! | topic | module |
//! |---|---|
//! | leases of nodes | `leases` |
//! | concurrent logins of one user | `logins` |
//! | requests that the tests make | `requests` |

pub mod leases;
pub mod logins;
mod requests;

pub use requests::Nodes;

/// Runs all tests of this module on one directory.
///
/// # Panics
///
/// Panics if the directory violates the contract, or `nodes` is empty.
pub async fn check(nodes: &Nodes) {
    leases::lease_is_acquired_once(nodes).await;
    leases::claims_require_a_lease(nodes).await;
    leases::expired_lease_hides_sessions(nodes).await;
    leases::node_restores_sessions_after_expiry(nodes).await;
    leases::leaving_node_has_no_sessions(nodes).await;
    logins::later_login_replaces_the_earlier_one(nodes).await;
    logins::repeated_claim_changes_nothing(nodes).await;
    logins::refuse_keeps_the_earlier_login(nodes).await;
    logins::room_sides_are_held(nodes).await;
    logins::scopes_exclude_their_logins(nodes).await;
    logins::user_has_at_most_max_sessions(nodes).await;
    logins::replaced_sessions_are_reported_until_release(nodes).await;
    logins::late_release_keeps_the_newer_login(nodes).await;
    logins::lookup_keeps_the_order_of_users(nodes).await;
    logins::restore_keeps_the_later_login(nodes).await;
    logins::restore_of_many_sessions_is_complete(nodes).await;
    logins::concurrent_claims_leave_one_session(nodes).await;
}
