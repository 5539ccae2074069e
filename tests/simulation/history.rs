//! [`History`]: what happened in a run, written down outside the simulated network.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::{Code, Delivery};

use super::contract::{Kind, Which};

/// What happened in a run. Times are the simulation's.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Events>);

/// All that happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Events {
    /// The calls, by nonce.
    pub(crate) calls: Vec<Called>,
    /// What handlers began to run.
    pub(crate) executions: Vec<Execution>,
    /// The connections that clients began to make.
    pub(crate) links: Vec<Link>,
    /// What the registry said.
    pub(crate) pushes: Vec<Push>,
    /// What clients saw of their endpoints when all was well again.
    pub(crate) endpoints: Vec<(usize, SocketAddr, String)>,
    /// Connections that servers hold.
    pub(crate) held: usize,
    /// What went wrong where nothing may.
    pub(crate) faults: Vec<String>,
}

/// A call that a client made.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    /// By which client.
    pub(crate) client: usize,
    /// Of which service.
    pub(crate) which: Which,
    /// Of which method.
    pub(crate) kind: Kind,
    /// When.
    #[expect(dead_code, reason = "it is part of the story")]
    pub(crate) at: Duration,
    /// When it has to be over.
    pub(crate) deadline: Duration,
    /// Whether nothing stands in its way any more.
    pub(crate) must_succeed: bool,
    /// When and how it ended.
    pub(crate) end: Option<(Duration, Ending)>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an answer or the service's own error; for whom, if anyone is named in it, and whether it was whole.
    Answered { nonce: Option<u64>, whole: bool },
    /// With the framework's error.
    Failed { code: Code, delivery: Delivery, text: String },
    /// The caller gave it up.
    Dropped,
}

/// A handler's run.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    /// Of which call.
    pub(crate) nonce: u64,
    /// Where.
    pub(crate) server: SocketAddr,
    /// As which service.
    pub(crate) which: Which,
    /// When it began.
    pub(crate) at: Duration,
    /// When it ended by itself.
    pub(crate) ended: Option<Duration>,
}

/// A connection, or the attempt to make one.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// By which client.
    pub(crate) client: usize,
    /// To whom.
    pub(crate) address: SocketAddr,
    /// When it was begun.
    pub(crate) at: Duration,
    /// Whether anything was ever read on it.
    pub(crate) heard: bool,
    /// When it was over.
    pub(crate) ended: Option<Duration>,
}

/// A list that the registry gave a client.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// To which client.
    pub(crate) client: usize,
    /// Of which service.
    pub(crate) which: Which,
    /// When.
    pub(crate) at: Duration,
    /// The list.
    pub(crate) list: Vec<SocketAddr>,
}

/// Held for as long as a connection lives.
pub(crate) struct LinkGuard {
    history: Arc<History>,
    index: usize,
}

impl History {
    /// Everything so far.
    pub(crate) fn events(&self) -> Events {
        self.lock().clone()
    }

    /// A call begins; gives its nonce.
    pub(crate) fn calls(&self, called: Called) -> u64 {
        let calls = &mut self.lock().calls;
        calls.push(called);
        calls.len() as u64 - 1
    }

    /// A call ended.
    pub(crate) fn called(&self, nonce: u64, ending: Ending) {
        let now = now();
        let mut events = self.lock();
        let earlier = events.calls[nonce as usize].end.replace((now, ending));
        if let Some(earlier) = earlier {
            events.faults.push(format!("call {nonce} ended twice, first {earlier:?}"));
        }
    }

    /// A handler begins; gives what [`ran`](Self::ran) takes.
    pub(crate) fn runs(&self, nonce: u64, server: SocketAddr, which: Which) -> usize {
        let executions = &mut self.lock().executions;
        executions.push(Execution { nonce, server, which, at: now(), ended: None });
        executions.len() - 1
    }

    /// A handler ended by itself.
    pub(crate) fn ran(&self, execution: usize) {
        self.lock().executions[execution].ended = Some(now());
    }

    /// A client begins to connect.
    pub(crate) fn connects(self: &Arc<Self>, client: usize, address: SocketAddr) -> LinkGuard {
        let links = &mut self.lock().links;
        links.push(Link { client, address, at: now(), heard: false, ended: None });
        LinkGuard { history: Arc::clone(self), index: links.len() - 1 }
    }

    /// The registry said something.
    pub(crate) fn pushes(&self, push: Push) {
        self.lock().pushes.push(push);
    }

    /// A client looked at its endpoints.
    pub(crate) fn sees(&self, client: usize, address: SocketAddr, state: String) {
        self.lock().endpoints.push((client, address, state));
    }

    /// A server took a connection, or gave it back.
    pub(crate) fn holds(&self, change: isize) {
        let held = &mut self.lock().held;
        *held = held.saturating_add_signed(change);
    }

    /// Something went wrong that may not.
    pub(crate) fn fault(&self, what: String) {
        self.lock().faults.push(what);
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// All that happened, an event a line.
    pub(crate) fn story(&self) -> Vec<String> {
        fn lines<T: std::fmt::Debug>(events: &[T]) -> impl Iterator<Item = String> {
            events.iter().map(|event| format!("{event:?}"))
        }
        let Self { calls, executions, links, pushes, endpoints, held: _, faults } = self;
        let (what_clients_did, what_servers_did) = (lines(calls).chain(lines(links)), lines(executions));
        let seen = lines(pushes).chain(lines(endpoints)).chain(lines(faults));
        what_clients_did.chain(what_servers_did).chain(seen).collect()
    }
}

impl LinkGuard {
    /// Something was read.
    pub(crate) fn heard(&self) {
        self.history.lock().links[self.index].heard = true;
    }
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        self.history.lock().links[self.index].ended = Some(now());
    }
}

/// The simulation's time; zero when nothing is simulated any more.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
