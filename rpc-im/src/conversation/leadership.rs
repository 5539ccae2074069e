//! Leadership of a conversation: terms, promises and replication.
//!
//! A leader has a term that is higher than the terms of all earlier leaders. To become the leader, a node requests from
//! all nodes in its view the promise to follow no leader with a lower term, copies the newest history among theirs, and
//! brings the replicas up to date. The replicas reject the changes of a superseded leader, so that it has acknowledged
//! nothing that its successor lacks.

use futures_util::future::{join_all, try_join_all};
use rpc_client::Client;
use rpc_core::{CallError, contained};
use tracing::debug;

use super::{
    context::PAGE,
    error::{ConversationError, no_majority},
    rpc::{ConversationRpcClient, Promise},
    task::{ConversationTask, Leadership},
};
use crate::{
    cluster::view::{NodeInfo, View},
    store::{Change, Header},
};

impl ConversationTask {
    /// Becomes the leader in the current view, unless this node leads already.
    pub(super) async fn lead(&mut self) -> Result<(), ConversationError> {
        // Read before the view, so that the next call notices a change during this one.
        let version = self.context.router.topology_version();
        let view = self.context.router.majority_view().ok_or_else(no_majority)?;
        let valid_for = (version, view.fingerprint);
        if self.leadership.as_ref().is_some_and(|leadership| leadership.valid_for == valid_for) {
            return Ok(());
        }
        self.leadership = None;
        if view.owner(&self.name).key != self.context.local.key() {
            return Err(ConversationError::NotLeader);
        }
        let (term, promises) = self.collect_promises(&view).await?;
        self.catch_up(&promises).await?;
        let others = view.ranked(&self.name).into_iter().skip(1).filter(|node| !node.draining);
        let replicas: Vec<_> = others.take(self.context.copies - 1).cloned().collect();
        if let Some(header) = &mut self.header {
            (header.term, header.promised) = (term, term);
            let (header, last) = (header.clone(), header.last);
            let change = Change { header: header.clone(), keep: last, records: Vec::new() };
            self.context.store.change(change).await.map_err(|error| self.store_failed(&error))?;
            let header_of = |replica: &NodeInfo| {
                promises.iter().find(|(node, _)| node.key == replica.key).and_then(|(_, header)| header.clone())
            };
            let updates = replicas.iter().map(|replica| self.bring_up_to_date(replica, header_of(replica), &header));
            try_join_all(updates).await?;
            self.header = Some(Header { committed: last, ..header });
        }
        self.leadership = Some(Leadership { valid_for, term, replicas });
        Ok(())
    }

    /// Becomes the leader and confirms with the replicas that no other node has superseded it.
    ///
    /// Nodes without a link to this one may have elected another leader, whose messages this node lacks. A write
    /// detects that at the replicas; a read has to query them.
    pub(super) async fn lead_confirmed(&mut self) -> Result<(), ConversationError> {
        self.lead().await?;
        let Some(Leadership { term, replicas, .. }) = &self.leadership else { return Ok(()) };
        let confirmations = replicas.iter().map(|replica| {
            let call = self.client().confirm(replica.key.epoch, self.name.clone(), *term);
            call.address(replica.address)
        });
        // Only `Superseded` ends the leadership: a replica that does not answer is ignored.
        let is_superseded = |answer: &Result<(), CallError<ConversationError>>| {
            matches!(answer, Err(CallError::Service(ConversationError::Superseded)))
        };
        if join_all(confirmations).await.iter().any(is_superseded) {
            self.leadership = None;
            return self.lead().await;
        }
        Ok(())
    }

    /// Requests the promise of a new term from all nodes; returns the term and their replicas' headers.
    async fn collect_promises(
        &mut self,
        view: &View,
    ) -> Result<(u64, Vec<(NodeInfo, Option<Header>)>), ConversationError> {
        let others: Vec<_> = view.nodes.iter().filter(|node| node.key != self.context.local.key()).collect();
        let mut term = self.promised + 1;
        for _ in 0..MAX_ROUNDS {
            let calls = others.iter().map(async |node| {
                let call = self.client().promise(self.name.clone(), term).address(node.address);
                call.await.map_err(|error| call_error(node, error)).map(|promise| ((*node).clone(), promise))
            });
            let promises: Vec<_> = try_join_all(calls).await?;
            let highest = promises.iter().map(|(_, promise)| promise.term).max().unwrap_or(term);
            if highest == term {
                self.promised = term;
                return Ok((term, promises.into_iter().map(|(node, promise)| (node, promise.header)).collect()));
            }
            term = highest + 1;
        }
        Err(ConversationError::Superseded)
    }

    /// Copies the newest history from another node, if it is newer than this node's.
    async fn catch_up(&mut self, promises: &[(NodeInfo, Option<Header>)]) -> Result<(), ConversationError> {
        let rank = |header: &Header| (header.term, header.last);
        let headers = promises.iter().filter_map(|(node, header)| Some((node, header.as_ref()?)));
        let Some((node, newest)) = headers.max_by_key(|(_, header)| rank(header)) else { return Ok(()) };
        if self.header.as_ref().is_some_and(|ours| rank(ours) >= rank(newest)) {
            return Ok(());
        }
        // All replicas have the same committed messages. Later ones that only this node has were never acknowledged.
        let mut end = self.header.as_ref().map_or(0, |ours| ours.committed);
        loop {
            let page = self.client().records(self.name.clone(), end, newest.last).address(node.address);
            let records = page.await.map_err(|error| call_error(node, error))?;
            let (keep, is_empty) = (end, records.is_empty());
            end = records.last().map_or(end, |record| record.seq);
            if is_empty && end < newest.last {
                let message = format!("the replica of this conversation on node {} is incomplete", node.key.id);
                return Err(ConversationError::Unavailable(message));
            }
            let header =
                Header { last: end, committed: end.min(newest.committed), promised: self.promised, ..newest.clone() };
            let change = Change { header: header.clone(), keep, records };
            self.context.store.change(change).await.map_err(|error| self.store_failed(&error))?;
            self.header = Some(header);
            if end == newest.last {
                return Ok(());
            }
        }
    }

    /// Copies to a replica the messages that it lacks.
    async fn bring_up_to_date(
        &self,
        replica: &NodeInfo,
        theirs: Option<Header>,
        ours: &Header,
    ) -> Result<(), ConversationError> {
        let mut keep = theirs.map_or(0, |theirs| theirs.committed.min(ours.last));
        loop {
            let records = self.context.store.records(self.name.clone(), keep, ours.last, PAGE).await;
            let records = records.map_err(|error| self.store_failed(&error))?;
            let last = records.last().map_or(keep, |record| record.seq);
            let header = Header { last, committed: ours.committed.min(keep), ..ours.clone() };
            self.replicate_to(replica, Change { header, keep, records }).await?;
            if last == ours.last {
                return Ok(());
            }
            keep = last;
        }
    }

    /// Promises to follow no leader with a lower term, and returns the replica's header.
    ///
    /// The promise is stored, so that a restarted node does not follow a superseded leader.
    pub(super) async fn promise(&mut self, term: u64) -> Result<Promise, ConversationError> {
        if term > self.promised {
            self.promised = term;
            self.leadership = None;
            let placeholder = || Header { conversation: self.name.clone(), ..Header::default() };
            let header = Header { promised: term, ..self.header.clone().unwrap_or_else(placeholder) };
            let change = Change { keep: header.last, header, records: Vec::new() };
            self.context.store.change(change).await.map_err(|error| self.store_failed(&error))?;
            if let Some(header) = &mut self.header {
                header.promised = term;
            }
            return Ok(Promise { term, header: self.header.clone() });
        }
        // Two nodes may request the same term, so only the first request succeeds.
        Ok(Promise { term: self.promised + 1, header: None })
    }

    /// Applies a change of the leader to this node's replica.
    pub(super) async fn apply(&mut self, change: Change) -> Result<(), ConversationError> {
        if change.header.term < self.promised {
            return Err(ConversationError::Superseded);
        }
        if change.keep > self.header.as_ref().map_or(0, |header| header.last) {
            return Err(ConversationError::Gap);
        }
        self.leadership = None;
        self.promised = change.header.term;
        let header = change.header.clone();
        self.context.store.change(change).await.map_err(|error| self.store_failed(&error))?;
        self.header = Some(header);
        Ok(())
    }

    pub(super) async fn replicate_to(&self, node: &NodeInfo, change: Change) -> Result<(), ConversationError> {
        let call = self.client().replicate(node.key.epoch, change).address(node.address);
        call.await.map_err(|error| call_error(node, error))
    }

    fn client(&self) -> ConversationRpcClient<Client> {
        ConversationRpcClient::new(self.context.router.client().clone())
    }
}

fn call_error(node: &NodeInfo, error: CallError<ConversationError>) -> ConversationError {
    match error {
        CallError::Service(error) => error,
        CallError::Rpc(error) => {
            contained(|| debug!(node = %node.key, %error, "a call to a replica of a conversation failed"));
            ConversationError::Unavailable(format!("node {} does not answer", node.key.id))
        }
    }
}

/// The maximum number of rounds in which a node raises its term above those of others.
const MAX_ROUNDS: u32 = 3;
