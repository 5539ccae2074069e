//! The counters that the providers of a service report by `msnb.Admin`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use askama::Template;
use rpc_core::{Code, Error, ServiceId, admin::ServerCounters};

use super::latencies::{Chart, Course, Latencies, shown};

/// The counters of the services whose pages are or were open.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<HashMap<ServiceId, Watched>>);

/// The counters of the providers of a service.
#[derive(Debug, Default)]
struct Watched {
    /// The time at which the last reading began.
    asked: Option<Instant>,
    /// The time of the last reading.
    read: Option<Instant>,
    servers: BTreeMap<String, Result<ServerCounters, String>>,
    methods: BTreeMap<String, Method>,
}

/// The counters of a method, as the sum over all providers.
#[derive(Debug, Default)]
struct Method {
    errors: u64,
    failed: u64,
    running: u64,
    latencies: Latencies,
    /// Calls per second since the reading before.
    rate: f64,
    course: Course,
}

#[derive(Template)]
#[template(path = "counters.html")]
pub(super) struct Part {
    servers: Vec<ServerRow>,
    problems: Vec<Problem>,
    methods: Vec<MethodRow>,
}

struct ServerRow {
    address: String,
    state: String,
    uptime: String,
    connections: u64,
    running: u64,
    queued: u64,
    streams: u64,
    rejected: u64,
}

struct Problem {
    address: String,
    text: String,
}

struct MethodRow {
    name: String,
    calls: u64,
    rate: String,
    running: u64,
    errors: u64,
    failed: u64,
    p50: String,
    p99: String,
    chart: Option<Chart>,
}

impl Counters {
    /// Returns whether the counters of a service are to be read. Then it is not due again for the shortest interval.
    pub(super) fn is_due(&self, service: &ServiceId) -> bool {
        let mut services = self.lock();
        if services.len() >= MAX_SERVICES && !services.contains_key(service) {
            services.clear();
        }
        let watched = services.entry(service.clone()).or_default();
        // Several pages of one service share a reading.
        let is_due = watched.asked.is_none_or(|asked| asked.elapsed() >= SHORTEST_INTERVAL);
        if is_due {
            watched.asked = Some(Instant::now());
        }
        is_due
    }

    /// Records a reading of all providers of a service.
    pub(super) fn record(&self, service: &ServiceId, read: Vec<(String, Result<ServerCounters, Error>)>) {
        self.lock().entry(service.clone()).or_default().record(service, read);
    }

    /// Returns the part of the page of a service that has its counters.
    pub(super) fn part(&self, service: &ServiceId) -> Part {
        self.lock().get(service).map_or_else(|| Watched::default().part(), Watched::part)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceId, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn record(&mut self, service: &ServiceId, read: Vec<(String, Result<ServerCounters, Error>)>) {
        let now = Instant::now();
        let seconds = self.read.replace(now).map_or(0.0, |read| now.duration_since(read).as_secs_f64());
        let is_first = self.servers.is_empty();
        self.servers = read.into_iter().map(|(address, counters)| (address, counters.map_err(problem))).collect();
        let prefix = format!("{service}/");
        let mut methods = BTreeMap::<String, Method>::new();
        for counters in self.servers.values().flatten().flat_map(|server| &server.methods) {
            let Some(name) = counters.route.strip_prefix(&prefix) else { continue };
            let method = methods.entry(name.to_owned()).or_default();
            method.errors = method.errors.saturating_add(counters.errors);
            method.failed = method.failed.saturating_add(counters.failed);
            method.running = method.running.saturating_add(counters.running);
            method.latencies.add(&counters.latencies);
        }
        for (name, method) in methods.iter_mut().take(if is_first { 0 } else { MAX_METHODS }) {
            let earlier = self.methods.remove(name).unwrap_or_default();
            let interval = method.latencies.since(&earlier.latencies);
            method.course = earlier.course;
            method.course.push(&interval);
            method.rate = interval.calls() as f64 / seconds.max(0.001);
        }
        self.methods = methods.into_iter().take(MAX_METHODS).collect();
    }

    fn part(&self) -> Part {
        let (mut servers, mut problems) = (Vec::new(), Vec::new());
        for (address, counters) in &self.servers {
            let address = address.clone();
            match counters {
                Ok(counters) => servers.push(ServerRow {
                    address,
                    state: counters.state.clone(),
                    uptime: uptime(Duration::from_millis(counters.uptime_ms)),
                    connections: counters.connections,
                    running: counters.running,
                    queued: counters.queued,
                    streams: counters.streams,
                    rejected: counters.rejected,
                }),
                Err(text) => problems.push(Problem { address, text: text.clone() }),
            }
        }
        let methods = self.methods.iter().map(|(name, method)| {
            let at = |quantile| method.latencies.ms_at(quantile).map_or_else(|| "-".to_owned(), shown);
            MethodRow {
                name: name.clone(),
                calls: method.latencies.calls(),
                rate: format!("{:.1}", method.rate),
                running: method.running,
                errors: method.errors,
                failed: method.failed,
                p50: at(0.5),
                p99: at(0.99),
                chart: method.course.chart(),
            }
        });
        Part { servers, problems, methods: methods.collect() }
    }
}

/// Returns why a server reports no counters.
fn problem(error: Error) -> String {
    match error.code() {
        Code::Unimplemented => "it does not serve msnb.Admin:1.0".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns a time in its two largest units.
fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// The shortest time between two readings of the counters of a service.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// The largest number of services whose counters the console keeps.
const MAX_SERVICES: usize = 256;
/// The largest number of methods of a service whose counters the console shows.
const MAX_METHODS: usize = 256;

#[cfg(test)]
mod tests {
    use rpc_core::admin::{LatencyCount, MethodCounters};

    use super::*;

    fn read(port: u16, calls: u64) -> (String, Result<ServerCounters, Error>) {
        let mut method = MethodCounters::new("demo.Greeter:1.0/hello".to_owned());
        method.latencies = vec![LatencyCount::new(100, calls)];
        let mut counters = ServerCounters::default();
        counters.methods = vec![method, MethodCounters::new("shop.Goods:1.0/find".to_owned())];
        (format!("127.0.0.1:{port}"), Ok(counters))
    }

    #[test]
    fn counters_of_providers_are_added() {
        let service = ServiceId::from_static("demo.Greeter", "1.0");
        let mut watched = Watched::default();
        let failed = Error::not_executed(Code::Unimplemented, "no such service here");
        watched.record(&service, vec![read(1, 5), read(2, 7), ("127.0.0.1:3".to_owned(), Err(failed))]);
        let part = watched.part();
        let [hello] = &part.methods[..] else { panic!("the methods of other services are not shown") };
        assert_eq!((&*hello.name, hello.calls, &*hello.p50), ("hello", 12, "0.100 ms"));
        assert_eq!((part.servers.len(), &*part.problems[0].text), (2, "it does not serve msnb.Admin:1.0"));
        assert!(hello.chart.is_none());
        for calls in [10, 20] {
            watched.record(&service, vec![read(1, calls), read(2, 7)]);
        }
        assert!(watched.part().methods[0].chart.is_some());
    }

    #[test]
    fn uptime_has_two_units() {
        let shown = [59, 61, 3700, 90_000].map(|seconds| uptime(Duration::from_secs(seconds)));
        assert_eq!(shown, ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
