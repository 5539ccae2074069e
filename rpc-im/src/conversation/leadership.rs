//! How a node becomes the home of a conversation, and what it does for one that is: terms, promises, copies.
//!
//! A home has a term, which is greater than that of any home before it. To become one, a node asks all that it sees to listen to no
//! lesser term any more, takes the newest history that they have, and brings the copies to it. A home that does not know yet that
//! there is another one finds the copies deaf, and has acknowledged nothing that the other one lacks.

use futures_util::future::{join_all, try_join_all};
use rpc_core::CallError;
use tracing::debug;

use super::{
    HomeClient, HomeError, Promise,
    conversations::cut_off,
    task::{Conversation, Leading, PAGE},
};
use crate::{
    cluster::view::{NodeInfo, View},
    store::{Change, Header},
};

impl Conversation {
    /// Sees to it that this node is the home in the view that it has now.
    pub(super) async fn lead(&mut self) -> Result<(), HomeError> {
        // Before the view: what changes from here on is found the next time.
        let upheavals = self.shared.router.upheavals();
        let view = self.shared.router.sound_view().ok_or_else(cut_off)?;
        let since = (upheavals, view.fingerprint);
        if self.leading.as_ref().is_some_and(|leading| leading.since == since) {
            return Ok(());
        }
        self.leading = None;
        if view.owner(&self.name).key != self.shared.me.key() {
            return Err(HomeError::NotHome);
        }
        let (term, promises) = self.ask(&view).await?;
        self.catch_up(&promises).await?;
        let others = view.ranked(&self.name).into_iter().skip(1).filter(|node| !node.draining);
        let copies: Vec<_> = others.take(self.shared.copies - 1).cloned().collect();
        if let Some(header) = &mut self.header {
            (header.term, header.promised) = (term, term);
            let (header, last) = (header.clone(), header.last);
            let change = Change { header: header.clone(), keep: last, records: Vec::new() };
            self.shared.store.change(change).await.map_err(|error| self.fails(&error))?;
            let of = |copy: &NodeInfo| {
                promises.iter().find(|(node, _)| node.key == copy.key).and_then(|(_, header)| header.clone())
            };
            try_join_all(copies.iter().map(|copy| self.complete(copy, of(copy), &header))).await?;
            self.header = Some(Header { committed: last, ..header });
        }
        self.leading = Some(Leading { since, term, copies });
        Ok(())
    }

    /// Sees to it that this node is the home, and that no other one has become it unnoticed: nodes that had not met this one yet may have
    /// agreed on another, whose messages are not here. Whoever writes finds that out by its copies; whoever reads asks them.
    pub(super) async fn lead_for_sure(&mut self) -> Result<(), HomeError> {
        self.lead().await?;
        let Some(Leading { term, copies, .. }) = &self.leading else { return Ok(()) };
        let asked = copies.iter().map(|copy| {
            self.home().confirm(copy.key.epoch, self.name.clone(), *term).address(copy.address).into_future()
        });
        // A copy that does not answer says nothing.
        let superseded = |answer: &Result<(), CallError<HomeError>>| {
            matches!(answer, Err(CallError::Service(HomeError::Superseded)))
        };
        if join_all(asked).await.iter().any(superseded) {
            self.leading = None;
            return self.lead().await;
        }
        Ok(())
    }

    /// Asks all nodes to listen to no earlier home any more, and what they have.
    async fn ask(&mut self, view: &View) -> Result<(u64, Vec<(NodeInfo, Option<Header>)>), HomeError> {
        let others: Vec<_> = view.nodes.iter().filter(|node| node.key != self.shared.me.key()).collect();
        let mut term = self.promised + 1;
        for _ in 0..ROUNDS {
            let asked = others.iter().map(async |node| {
                let call = self.home().promise(self.name.clone(), term).address(node.address);
                call.await.map_err(|error| unreachable(node, error)).map(|promise| ((*node).clone(), promise))
            });
            let promises: Vec<_> = try_join_all(asked).await?;
            let greatest = promises.iter().map(|(_, promise)| promise.term).max().unwrap_or(term);
            if greatest == term {
                self.promised = term;
                return Ok((term, promises.into_iter().map(|(node, promise)| (node, promise.header)).collect()));
            }
            term = greatest + 1;
        }
        Err(HomeError::Superseded)
    }

    /// Gets what another node has and this one lacks, if the other's is newer.
    async fn catch_up(&mut self, promises: &[(NodeInfo, Option<Header>)]) -> Result<(), HomeError> {
        let rank = |header: &Header| (header.term, header.last);
        let held = promises.iter().filter_map(|(node, header)| Some((node, header.as_ref()?)));
        let Some((node, best)) = held.max_by_key(|(_, header)| rank(header)) else { return Ok(()) };
        if self.header.as_ref().is_some_and(|mine| rank(mine) >= rank(best)) {
            return Ok(());
        }
        // Up to here all copies are known to be the same; what follows here and not there was never acknowledged.
        let mut have = self.header.as_ref().map_or(0, |mine| mine.committed);
        loop {
            let page = self.home().records(self.name.clone(), have, best.last).address(node.address);
            let records = page.await.map_err(|error| unreachable(node, error))?;
            let (keep, is_end) = (have, records.is_empty());
            have = records.last().map_or(have, |record| record.seq);
            if is_end && have < best.last {
                return Err(HomeError::Unavailable("a copy of this conversation is incomplete".to_owned()));
            }
            let header =
                Header { last: have, committed: have.min(best.committed), promised: self.promised, ..best.clone() };
            let change = Change { header: header.clone(), keep, records };
            self.shared.store.change(change).await.map_err(|error| self.fails(&error))?;
            self.header = Some(header);
            if have == best.last {
                return Ok(());
            }
        }
    }

    /// Brings a copy to where this node is.
    async fn complete(&self, copy: &NodeInfo, theirs: Option<Header>, mine: &Header) -> Result<(), HomeError> {
        let mut keep = theirs.map_or(0, |theirs| theirs.committed.min(mine.last));
        loop {
            let records = self.shared.store.records(self.name.clone(), keep, mine.last, PAGE).await;
            let records = records.map_err(|error| self.fails(&error))?;
            let last = records.last().map_or(keep, |record| record.seq);
            let header = Header { last, committed: mine.committed.min(keep), ..mine.clone() };
            self.copy_to(copy, Change { header, keep, records }).await?;
            if last == mine.last {
                return Ok(());
            }
            keep = last;
        }
    }

    /// Listens to no home of a lesser term any more, and says what there is here. It is kept, or a home that was cut off for a while
    /// would be believed again.
    pub(super) async fn promise(&mut self, term: u64) -> Result<Promise, HomeError> {
        if term > self.promised {
            self.promised = term;
            self.leading = None;
            let unbegun = || Header { conversation: self.name.clone(), ..Header::default() };
            let header = Header { promised: term, ..self.header.clone().unwrap_or_else(unbegun) };
            let change = Change { keep: header.last, header, records: Vec::new() };
            self.shared.store.change(change).await.map_err(|error| self.fails(&error))?;
            if let Some(header) = &mut self.header {
                header.promised = term;
            }
            return Ok(Promise { term, header: self.header.clone() });
        }
        // One that is asked twice for the same term cannot know who asks.
        Ok(Promise { term: self.promised + 1, header: None })
    }

    /// Changes this copy as the home says.
    pub(super) async fn copy(&mut self, change: Change) -> Result<(), HomeError> {
        if change.header.term < self.promised {
            return Err(HomeError::Superseded);
        }
        if change.keep > self.header.as_ref().map_or(0, |header| header.last) {
            return Err(HomeError::Gap);
        }
        self.leading = None;
        self.promised = change.header.term;
        let header = change.header.clone();
        self.shared.store.change(change).await.map_err(|error| self.fails(&error))?;
        self.header = Some(header);
        Ok(())
    }

    pub(super) async fn copy_to(&self, node: &NodeInfo, change: Change) -> Result<(), HomeError> {
        self.home().copy(node.key.epoch, change).address(node.address).await.map_err(|error| unreachable(node, error))
    }

    fn home(&self) -> HomeClient<rpc_client::Client> {
        HomeClient::new(self.shared.router.client().clone())
    }
}

fn unreachable(node: &NodeInfo, error: CallError<HomeError>) -> HomeError {
    match error {
        CallError::Service(error) => error,
        CallError::Rpc(error) => {
            debug!(node = %node.key, %error, "a node did not answer about a conversation");
            HomeError::Unavailable(format!("node {} does not answer", node.key.id))
        }
    }
}

/// How often a node tries to outbid the terms of others, at once.
const ROUNDS: u32 = 3;
