//! [`Calls`]: counts, outcomes and durations of calls by method.

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

/// The metrics of the calls of one side, client or server.
#[derive(Debug)]
pub(super) struct Calls {
    ended: Family<[Label; 2], Counter>,
    seconds: Family<[Label; 1], Histogram, fn() -> Histogram>,
    in_flight: Family<[Label; 1], Gauge>,
    /// Caches the metrics by route, so that a call needs one lookup and creates no labels.
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

/// A call in flight. Dropping it records the end of the call.
pub(super) struct InFlight<'a> {
    calls: &'a Calls,
    route: Arc<Route>,
    pub(super) outcome: Outcome<'a>,
    started: Instant,
}

/// The outcome to record when a call is dropped.
pub(super) enum Outcome<'a> {
    /// The outcome that the context has by then.
    Of(&'a Context),
    /// A known code.
    Known(Code),
}

impl Calls {
    pub(super) fn register(registry: &mut Registry, verb: &str) -> Self {
        let calls = Self {
            ended: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Family::default(),
            routes: RwLock::default(),
        };
        registry.register("calls", format!("Calls that were {verb}, by outcome"), calls.ended.clone());
        registry.register_with_unit("call", "Duration of the calls", Unit::Seconds, calls.seconds.clone());
        registry.register("in_flight", format!("Calls that are being {verb}"), calls.in_flight.clone());
        calls
    }

    /// Counts a call. `route` must come from a contract, not from a peer.
    pub(super) fn start<'a>(&'a self, route: &str, outcome: Outcome<'a>) -> InFlight<'a> {
        let route = self.route(route);
        route.in_flight.inc();
        InFlight { calls: self, route, outcome, started: Instant::now() }
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

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Self { calls, route, outcome, started } = self;
        let code = match outcome {
            Outcome::Of(context) => outcome::served(context),
            Outcome::Known(code) => *code,
        };
        let counter = route.ended[code as usize].get_or_init(|| {
            let labels = [("route", route.name.clone()), ("code", Cow::Owned(code.to_string()))];
            calls.ended.get_or_create(&labels).clone()
        });
        counter.inc();
        route.seconds.observe(started.elapsed().as_secs_f64());
        route.in_flight.dec();
    }
}

/// The highest number of a code, plus one.
const CODES: usize = Code::Application as usize + 1;
/// The upper bounds of the buckets, in seconds: from a call in a rack to twice the default timeout.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The maximum number of routes with metrics of their own.
///
/// A contract has a few, but a gateway may create any number.
const MAX_ROUTES: usize = 1_000;
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn routes_above_the_limit_are_counted_as_other() {
        let mut registry = Registry::default();
        let calls = Calls::register(&mut registry, "made");
        for number in 0..MAX_ROUTES + 2 {
            drop(calls.start(&format!("s:1/{number}"), Outcome::Known(Code::Ok)));
        }
        drop(calls.start("s:1/0", Outcome::Known(Code::Internal)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("\ncalls_total{route=\"s:1/999\",code=\"Ok\"} 1\n"), "{text}");
        assert!(!text.contains("s:1/1000"));
        assert!(text.contains("\ncalls_total{route=\"other\",code=\"Ok\"} 2\n"), "{text}");
        assert!(text.contains("\ncalls_total{route=\"s:1/0\",code=\"Internal\"} 1\n"), "{text}");
        assert!(text.contains("\ncall_seconds_count{route=\"s:1/0\"} 2\n"), "{text}");
    }
}
