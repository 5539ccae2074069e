//! [`Calls`]: how many calls of each method, how they ended, how long they took.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use rpc_core::{Code, Context};
use tokio::time::Instant;

use crate::outcome;

/// The calls of one side.
#[derive(Debug)]
pub(super) struct Calls {
    ended: Family<[Label; 2], Counter>,
    seconds: Family<[Label; 1], Histogram, fn() -> Histogram>,
    in_flight: Family<[Label; 1], Gauge>,
    /// So that a call looks one name up, and makes none.
    routes: RwLock<HashMap<String, Arc<Route>>>,
}

type Label = (&'static str, Cow<'static, str>);

#[derive(Debug)]
struct Route {
    name: Cow<'static, str>,
    ended: [OnceLock<Counter>; CODES],
    seconds: Histogram,
    in_flight: Gauge,
}

/// A call that has begun. When it is dropped, the call has ended.
pub(super) struct Begun<'a> {
    calls: &'a Calls,
    route: Arc<Route>,
    pub(super) outcome: Outcome<'a>,
    at: Instant,
}

/// How a call will have ended when it is dropped.
pub(super) enum Outcome<'a> {
    /// As its context says then.
    Of(&'a Context),
    Known(Code),
}

impl Calls {
    pub(super) fn register(registry: &mut Registry, what: &str) -> Self {
        let calls = Self {
            ended: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Family::default(),
            routes: RwLock::default(),
        };
        registry.register("calls", format!("Calls that were {what}, by how they ended"), calls.ended.clone());
        registry.register_with_unit("call", "How long they took", Unit::Seconds, calls.seconds.clone());
        registry.register("in_flight", format!("Calls that are being {what}"), calls.in_flight.clone());
        calls
    }

    /// Counts a call. `route` is one of a contract, not what a peer sent.
    pub(super) fn begin<'a>(&'a self, route: &str, outcome: Outcome<'a>) -> Begun<'a> {
        let route = self.route(route);
        route.in_flight.inc();
        Begun { calls: self, route, outcome, at: Instant::now() }
    }

    fn route(&self, name: &str) -> Arc<Route> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| self.add(name))
    }

    fn add(&self, name: &str) -> Arc<Route> {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let name = if routes.len() < MAX_ROUTES || routes.contains_key(name) { name } else { OTHER };
        let route = routes.entry(name.to_owned()).or_insert_with(|| {
            let name: Cow<'static, str> = Cow::Owned(name.to_owned());
            let label = [("route", name.clone())];
            Arc::new(Route {
                ended: [const { OnceLock::new() }; CODES],
                seconds: self.seconds.get_or_create(&label).clone(),
                in_flight: self.in_flight.get_or_create(&label).clone(),
                name,
            })
        });
        Arc::clone(route)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let Self { calls, route, outcome, at } = self;
        let code = match outcome {
            Outcome::Of(context) => outcome::served(context),
            Outcome::Known(code) => *code,
        };
        let counter = route.ended[code as usize].get_or_init(|| {
            let labels = [("route", route.name.clone()), ("code", Cow::Owned(code.to_string()))];
            calls.ended.get_or_create(&labels).clone()
        });
        counter.inc();
        route.seconds.observe(at.elapsed().as_secs_f64());
        route.in_flight.dec();
    }
}

/// One more than the highest number of a code.
const CODES: usize = Code::Application as usize + 1;
/// The upper ends of the histogram's buckets, in seconds: from a call in the same rack to the default timeout and beyond.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Routes that are told apart. A contract has a few; a gateway may make up any number.
const MAX_ROUTES: usize = 1_000;
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn as_many_routes_are_told_apart_as_may_and_others_are_one() {
        let mut registry = Registry::default();
        let calls = Calls::register(&mut registry, "made");
        for number in 0..MAX_ROUTES + 2 {
            drop(calls.begin(&format!("s:1/{number}"), Outcome::Known(Code::Ok)));
        }
        drop(calls.begin("s:1/0", Outcome::Known(Code::Internal)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("\ncalls_total{route=\"s:1/999\",code=\"Ok\"} 1\n"), "{text}");
        assert!(!text.contains("s:1/1000"));
        assert!(text.contains("\ncalls_total{route=\"other\",code=\"Ok\"} 2\n"), "{text}");
        assert!(text.contains("\ncalls_total{route=\"s:1/0\",code=\"Internal\"} 1\n"), "{text}");
        assert!(text.contains("\ncall_seconds_count{route=\"s:1/0\"} 2\n"), "{text}");
    }
}
