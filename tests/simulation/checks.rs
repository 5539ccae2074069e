//! What must hold after a run, whatever happened in it.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{Code, Delivery};

use super::{
    connections,
    contract::Kind,
    history::{Called, Ending, Events, Execution},
    plan::NODES,
    run::Truth,
};

/// What should have held and did not.
pub(crate) fn check(events: &Events, truth: &Truth) -> Vec<String> {
    let mut violations = events.faults.clone();
    let mut executions: BTreeMap<u64, Vec<&Execution>> = BTreeMap::new();
    for execution in &events.executions {
        executions.entry(execution.nonce).or_default().push(execution);
    }
    for (nonce, call) in events.calls.iter().enumerate() {
        let runs = executions.get(&(nonce as u64)).map_or(&[][..], |runs| runs);
        let broken =
            call_is_right(nonce as u64, call, runs).into_iter().chain(was_sent_where_listed(call, runs, events));
        violations.extend(broken.map(|what| format!("call {nonce}: {what}: {call:?}, ran {runs:?}")));
    }
    violations.extend(everyone_serves(events, truth));
    violations.extend(endpoints_are_those_listed(events, truth));
    violations.extend(connections::check(events));
    if events.held > 0 {
        violations.push(format!("servers hold {} connections of clients that are gone", events.held));
    }
    violations
}

fn call_is_right(nonce: u64, call: &Called, runs: &[&Execution]) -> Vec<&'static str> {
    let mut broken = Vec::new();
    let mut claim = |holds: bool, what| {
        if !holds {
            broken.push(what);
        }
    };
    claim(runs.len() <= call.kind.most_runs(), "it ran more often than it may");
    claim(runs.iter().all(|run| run.which == call.which), "it ran as a call of another service");
    let Some((ended, ending)) = &call.end else {
        claim(false, "it did not end");
        return broken;
    };
    claim(*ended <= call.deadline + SLACK, "it ended after its deadline");
    match ending {
        Ending::Answered { nonce: answered, whole } => {
            claim(answered.is_none_or(|answered| answered == nonce), "it got the answer to another call");
            claim(*whole, "its answer is not whole");
            let done = runs.iter().any(|run| run.ended.is_some_and(|at| at <= *ended + SLACK));
            claim(done || call.kind == Kind::OneWay, "it was answered and did not run");
        }
        Ending::Failed { code, delivery, .. } => {
            claim(*delivery != Delivery::NotExecuted || runs.is_empty(), "it was said not to be sent, and it ran");
            let expected = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted].contains(code);
            claim(expected, "it failed in a way that nothing here explains");
            claim(!call.must_succeed, "nothing stood in its way, and it failed");
        }
        Ending::Dropped => {}
    }
    broken
}

fn was_sent_where_listed(call: &Called, runs: &[&Execution], events: &Events) -> Option<&'static str> {
    let listed = |run: &Execution| {
        let mut pushes = events.pushes.iter().filter(|push| push.client == call.client && push.which == call.which);
        pushes.any(|push| push.at <= run.at && push.list.contains(&run.server))
    };
    runs.iter().any(|run| !listed(run)).then_some("it ran where the registry never listed its service")
}

/// When all is well, all that live are called.
fn everyone_serves(events: &Events, truth: &Truth) -> Vec<String> {
    let called = |which, server| {
        let mut runs = events.executions.iter().filter(|run| events.calls[run.nonce as usize].must_succeed);
        runs.any(|run| (run.which, run.server) == (which, server))
    };
    let listed = truth.listed.iter().flat_map(|(which, list)| list.iter().map(move |server| (*which, *server)));
    let idle = listed.filter(|(which, server)| truth.dead != Some(*server) && !called(*which, *server));
    idle.map(|(which, server)| format!("{server} lives, is listed for {which:?}, and is never called")).collect()
}

/// When all is well, clients know those whom the registry lists, and no others; and nothing is in flight.
fn endpoints_are_those_listed(events: &Events, truth: &Truth) -> Vec<String> {
    let all = truth.listed.iter().flat_map(|(_, list)| list.clone());
    let mut listed: Vec<_> = all.filter(|one| Some(*one) != truth.dead).collect();
    listed.sort_unstable();
    listed.dedup();
    let mut violations = Vec::new();
    for client in 0..NODES {
        let seen = events.endpoints.iter().filter(|(number, ..)| *number == client);
        let (addresses, states): (Vec<_>, Vec<_>) = seen.map(|(_, address, state)| (*address, state)).unzip();
        if addresses != listed {
            violations.push(format!("client {client} knows {addresses:?} {states:?}, listed are {listed:?}"));
        }
        if states.iter().any(|state| *state != "ready, 0 calls in flight") {
            violations.push(format!("client {client} has not settled: {addresses:?} {states:?}"));
        }
    }
    violations
}

/// Timers have a resolution, and clocks differ within a tick.
const SLACK: Duration = Duration::from_millis(4);
