//! [`Handle`] and [`DriverEnds`]: what memberships have in common whose driver keeps an engine up to date.

use std::{sync::Arc, time::Duration};

use rpc_core::{BoxFuture, Code, Error};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{Member, NewMember};
use crate::identity::NodeId;

/// Passes the wishes of a node to the driver of its membership. Dropping it ends the driver.
pub(super) struct Handle {
    wanted: watch::Sender<Option<Run>>,
    joined: watch::Receiver<Option<Joined>>,
    members: watch::Receiver<Option<Arc<[Member]>>>,
    _driver: JoinSet<()>,
}

/// The ends of the channels that a driver uses.
pub(super) struct DriverEnds {
    /// The run that wants to be a member.
    pub(super) wanted: watch::Receiver<Option<Run>>,
    /// The run that the engine has registered.
    pub(super) joined: watch::Sender<Option<Joined>>,
    members: watch::Sender<Option<Arc<[Member]>>>,
}

/// A run of this node that wants to be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// A random number, which identifies the run before its id is known.
    pub(super) token: u64,
    pub(super) node: NewMember,
}

/// A run that the engine has registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) token: u64,
    pub(super) id: NodeId,
}

impl Handle {
    /// Starts a driver. Must be called on a Tokio runtime.
    pub(super) fn start<F>(drive: impl FnOnce(DriverEnds) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (wanted, wanted_receiver) = watch::channel(None);
        let (joined_sender, joined) = watch::channel(None);
        let (members_sender, members) = watch::channel(None);
        let mut driver = JoinSet::new();
        driver.spawn(drive(DriverEnds { wanted: wanted_receiver, joined: joined_sender, members: members_sender }));
        Self { wanted, joined, members, _driver: driver }
    }

    /// As [`Membership::join`](super::Membership::join). `unavailable` is the message if the time limit passes.
    pub(super) fn join<'a>(
        &'a self,
        node: NewMember,
        unavailable: impl FnOnce() -> String + Send + 'a,
    ) -> BoxFuture<'a, Result<NodeId, Error>> {
        Box::pin(async move {
            let token = rand::random();
            let is_new = self.wanted.send_if_modified(|wanted| {
                let is_new = wanted.is_none();
                if is_new {
                    *wanted = Some(Run { token, node });
                }
                is_new
            });
            if !is_new {
                let message = "this node has joined the cluster already";
                return Err(Error::not_executed(Code::FailedPrecondition, message));
            }
            let mut joined = self.joined.clone();
            let is_joined = |joined: &Option<Joined>| joined.is_some_and(|joined| joined.token == token);
            if let Ok(Ok(joined)) = timeout(JOIN_TIME, joined.wait_for(is_joined)).await
                && let Some(joined) = *joined
            {
                return Ok(joined.id);
            }
            self.wanted.send_if_modified(|wanted| wanted.take_if(|run| run.token == token).is_some());
            Err(Error::not_executed(Code::Unavailable, unavailable()))
        })
    }

    /// As [`Membership::watch`](super::Membership::watch).
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.members.clone()
    }

    /// As [`Membership::leave`](super::Membership::leave). After the time limit the engine removes the node itself.
    pub(super) fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.wanted.send_replace(None);
            let mut joined = self.joined.clone();
            let _ = timeout(LEAVE_TIME, joined.wait_for(Option::is_none)).await;
        })
    }
}

impl DriverEnds {
    /// Publishes the members that the engine lists, if they have changed.
    pub(super) fn publish(&self, mut members: Vec<Member>) {
        members.sort_by_key(|member| member.id);
        self.members.send_if_modified(|current| {
            let is_changed = current.as_deref() != Some(&members[..]);
            if is_changed {
                *current = Some(members.into());
            }
            is_changed
        });
    }

    /// Returns whether members were published.
    #[cfg(feature = "sql")]
    pub(super) fn has_published(&self) -> bool {
        self.members.borrow().is_some()
    }
}

/// The time limit of [`Handle::join`].
pub(super) const JOIN_TIME: Duration = Duration::from_secs(10);
const LEAVE_TIME: Duration = Duration::from_secs(2);
