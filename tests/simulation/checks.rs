//! Checks the properties that must hold after every run.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{Code, Delivery};

use super::{
    connections,
    final_state::FinalState,
    history::{CallOutcome, CallRecord, Events, Execution, reports_violation},
    plan::NODES,
    services::{Kind, SimService},
    stream_checks,
};

/// Returns the violated properties.
pub(crate) fn check(events: &Events, state: &FinalState) -> Vec<String> {
    let mut violations = events.violations.clone();
    let mut by_nonce: BTreeMap<u64, Vec<&Execution>> = BTreeMap::new();
    for execution in &events.executions {
        by_nonce.entry(execution.nonce).or_default().push(execution);
    }
    for (nonce, call) in events.calls.iter().enumerate() {
        let executions = by_nonce.get(&(nonce as u64)).map_or(&[][..], Vec::as_slice);
        let violated = violations_of_call(nonce as u64, call, executions, state)
            .into_iter()
            .chain(unlisted_execution(call, executions, events));
        violations.extend(violated.map(|what| format!("call {nonce}: {what}: {call:?}, executions {executions:?}")));
    }
    violations.extend(servers_without_calls(events, state));
    violations.extend(endpoint_differences(events, state));
    violations.extend(connections::check(events));
    violations.extend(stream_checks::check(events));
    if events.server_connections > 0 {
        violations.push(format!("servers hold {} connections of closed clients", events.server_connections));
    }
    violations
}

fn violations_of_call(
    nonce: u64,
    call: &CallRecord,
    executions: &[&Execution],
    state: &FinalState,
) -> Vec<&'static str> {
    let mut violated = Vec::new();
    let mut claim = |holds: bool, what| {
        if !holds {
            violated.push(what);
        }
    };
    claim(executions.len() <= call.kind.max_executions(), "it executed too often");
    claim(
        executions.iter().all(|execution| execution.service == call.service),
        "it executed as a call of another service",
    );
    let Some((ended, outcome)) = &call.end else {
        claim(false, "it did not end");
        return violated;
    };
    claim(*ended <= call.deadline + SLACK, "it ended after its deadline");
    match outcome {
        CallOutcome::Answered { nonce: answered, whole } => {
            claim(answered.is_none_or(|answered| answered == nonce), "it received the answer of another call");
            claim(*whole, "its answer is incomplete");
            let done = executions.iter().any(|execution| execution.ended.is_some_and(|at| at <= *ended + SLACK));
            claim(done || call.kind == Kind::OneWay, "it was answered and did not execute");
            claim(answered.is_none() || !call.panics, "it was answered although its handler panics");
        }
        CallOutcome::Failed { code, delivery, text } => {
            claim(
                *delivery != Delivery::NotExecuted || executions.is_empty(),
                "it was reported as not executed, and it executed",
            );
            claim(!reports_violation(text), "an end violated the protocol");
            claim(explains(call, *code, state), "no fault of the simulation explains its error code");
            claim(!call.must_succeed, "it failed without an obstacle");
        }
        CallOutcome::Dropped => {}
    }
    violated
}

/// Returns whether a fault of the simulation explains the code with which a call failed.
fn explains(call: &CallRecord, code: Code, state: &FinalState) -> bool {
    let is_outdated = state.outdated.is_some() && call.service == SimService::Ledger;
    match code {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
        // The handler panics, or the client cannot decode the other answer.
        Code::Internal => call.panics || is_outdated && call.kind == Kind::Changed,
        // The server cannot decode the other arguments.
        Code::InvalidArgument | Code::FailedPrecondition => is_outdated && call.kind == Kind::Changed,
        // The stream of the caller fails.
        Code::DataLoss => call.kind.sends_items(),
        // The server that may have executed an earlier attempt has restarted, and has lost its answer.
        Code::Aborted => call.kind == Kind::Once,
        // No other server answers.
        Code::Unimplemented => {
            is_outdated && (matches!(call.kind, Kind::Plain | Kind::OneWay | Kind::Once) || call.kind.has_streams())
        }
        _ => false,
    }
}

fn unlisted_execution(call: &CallRecord, executions: &[&Execution], events: &Events) -> Option<&'static str> {
    let listed = |execution: &Execution| {
        let mut pushes = events.pushes.iter().filter(|push| push.client == call.client && push.service == call.service);
        pushes.any(|push| push.at <= execution.at && push.list.contains(&execution.server))
    };
    executions
        .iter()
        .any(|execution| !listed(execution))
        .then_some("it executed on a server for which the registry never listed the service")
}

/// After the repair, every listed, running server receives calls, except for calls that its contract lacks.
fn servers_without_calls(events: &Events, state: &FinalState) -> Vec<String> {
    let called = |service, server| {
        let mut executions =
            events.executions.iter().filter(|execution| events.calls[execution.nonce as usize].must_succeed);
        executions.any(|execution| (execution.service, execution.server) == (service, server))
    };
    let listed = state.listed.iter().flat_map(|(service, list)| list.iter().map(move |server| (*service, *server)));
    let lacks_methods = |service, server| state.outdated == Some(server) && service == SimService::Ledger;
    let idle = listed.filter(|(service, server)| {
        state.dead != Some(*server) && !lacks_methods(*service, *server) && !called(*service, *server)
    });
    idle.map(|(service, server)| format!("{server} runs, is listed for {service:?}, and receives no calls")).collect()
}

/// After the repair, each client has exactly the listed endpoints, and no call is in flight.
fn endpoint_differences(events: &Events, state: &FinalState) -> Vec<String> {
    let all = state.listed.iter().flat_map(|(_, list)| list.clone());
    let mut listed: Vec<_> = all.filter(|one| Some(*one) != state.dead).collect();
    listed.sort_unstable();
    listed.dedup();
    let mut violations = Vec::new();
    for client in 0..NODES {
        let endpoints = events.endpoints.iter().filter(|(number, ..)| *number == client);
        let (addresses, states): (Vec<_>, Vec<_>) = endpoints.map(|(_, address, state)| (*address, state)).unzip();
        if addresses != listed {
            violations.push(format!("client {client} has {addresses:?} {states:?}, listed are {listed:?}"));
        }
        // An ejection may outlast the repair.
        let is_idle = |state: &&str| {
            *state == "ready, 0 calls in flight"
                || state.starts_with("ejected ") && state.ends_with(", 0 calls in flight")
        };
        if !states.iter().all(|state| is_idle(&state.as_str())) {
            violations.push(format!("client {client} is not ready and idle: {addresses:?} {states:?}"));
        }
    }
    violations
}

/// Tolerance for the resolution of timers and for clock differences within a tick.
const SLACK: Duration = Duration::from_millis(4);
