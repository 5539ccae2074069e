//! [`Watched`]: exports the counts of servers and clients at each scrape.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rpc_client::{Client, ClientCounts, EndpointState, ProviderCounts, RouteCounts, ServiceStatus};
use rpc_server::{ServerCounts, ServerHandle, ServerState};

/// The servers and clients whose counts are exported.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<Sources>);

#[derive(Debug, Default)]
struct Sources {
    servers: Vec<ServerHandle>,
    clients: Vec<Client>,
}

impl Watched {
    pub(super) fn add_server(&self, server: ServerHandle) {
        self.lock().servers.push(server);
    }

    pub(super) fn add_client(&self, client: Client) {
        self.lock().clients.push(client);
    }

    pub(super) fn out_of_service(&self) -> Option<ServerState> {
        let servers = &self.lock().servers;
        // Without a server, the process is still starting.
        let none = servers.is_empty().then_some(ServerState::Starting);
        none.or_else(|| servers.iter().map(ServerHandle::state).find(|state| *state != ServerState::Serving))
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let sources = self.lock();
        let mut page = Page(&mut encoder);
        if !sources.servers.is_empty() {
            page.servers(&sources.servers.iter().map(ServerHandle::counts).collect::<Vec<_>>())?;
        }
        if !sources.clients.is_empty() {
            page.clients(&sources.clients.iter().map(Client::counts).collect::<Vec<_>>())?;
            let endpoints = sources.clients.iter().flat_map(Client::endpoints);
            page.channels(&endpoints.map(|(_, state)| state_name(&state)).collect::<Vec<_>>())?;
            page.providers(&sources.clients.iter().flat_map(Client::provider_counts).collect::<Vec<_>>())?;
            page.routes(&sources.clients.iter().flat_map(Client::route_counts).collect::<Vec<_>>())?;
            page.services(&sources.clients.iter().flat_map(Client::services).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Writes the metrics of one scrape.
struct Page<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Page<'_, '_> {
    fn servers(&mut self, all: &[ServerCounts]) -> fmt::Result {
        let sum = |of: fn(&ServerCounts) -> u64| all.iter().map(of).sum::<u64>();
        let current = |of: fn(&ServerCounts) -> usize| all.iter().map(of).sum::<usize>();
        self.gauge("msnb_server_connections", "Open connections", current(|counts| counts.connections))?;
        self.gauge(
            "msnb_server_running",
            "Running handlers that did not finish in their first poll",
            current(|counts| counts.running),
        )?;
        self.gauge(
            "msnb_server_unsent",
            "Results that wait for their client to read earlier ones",
            current(|counts| counts.unsent),
        )?;
        self.gauge("msnb_server_streams", "Calls with streams that have not ended", current(|counts| counts.streams))?;
        self.gauge(
            "msnb_server_queued",
            "Calls queued for the limit of running handlers",
            current(|counts| counts.queued),
        )?;
        self.counter(
            "msnb_server_accepted",
            "Accepted connections, including those whose handshake failed",
            sum(|counts| counts.accepted),
        )?;
        self.counter(
            "msnb_server_turned_away",
            "Connections rejected because of a connection limit",
            sum(|counts| counts.connections_rejected),
        )?;
        let (name, help) = ("msnb_server_unproved", "Connections whose TLS handshake or token proof failed");
        self.counter(name, help, sum(|counts| counts.handshakes_failed))?;
        let reasons = [
            ("malformed", sum(|counts| counts.malformed)),
            ("unknown", sum(|counts| counts.unknown)),
            ("denied", sum(|counts| counts.denied)),
            ("connection full", sum(|counts| counts.connection_full)),
            ("server full", sum(|counts| counts.overloaded)),
            ("late", sum(|counts| counts.late)),
        ];
        let (name, help) = ("msnb_server_refused", "Requests rejected before any layer or handler");
        self.labelled(name, help, MetricType::Counter, "reason", &reasons)?;
        let (name, help) = ("msnb_server_once_discarded", "Answers of once calls discarded before their retention");
        self.counter(name, help, sum(|counts| counts.once_discarded))?;
        self.counter("msnb_server_strays", "Frames for unknown calls", sum(|counts| counts.strays))?;
        self.counter("msnb_server_bytes_read", "Bytes read", sum(|counts| counts.bytes_read))?;
        self.counter("msnb_server_bytes_written", "Bytes written", sum(|counts| counts.bytes_written))
    }

    fn clients(&mut self, all: &[ClientCounts]) -> fmt::Result {
        let sum = |of: fn(&ClientCounts) -> u64| all.iter().map(of).sum::<u64>();
        let repeated = sum(|counts| counts.retries);
        self.counter("msnb_client_requests_repeated", "Retries that were sent", repeated)?;
        let not_repeated = sum(|counts| counts.retries_denied);
        self.counter("msnb_client_requests_not_repeated", "Retries that the retry budget prevented", not_repeated)?;
        self.counter("msnb_client_connected", "Established connections", sum(|counts| counts.connects))?;
        let not_connected = sum(|counts| counts.connect_failures);
        self.counter("msnb_client_not_connected", "Failed connection attempts", not_connected)?;
        self.counter("msnb_client_evicted", "Evicted endpoints", sum(|counts| counts.evictions))?;
        self.counter("msnb_client_ejected", "Ejected providers", sum(|counts| counts.ejections))?;
        self.counter("msnb_client_strays", "Frames for unknown calls", sum(|counts| counts.strays))?;
        self.counter("msnb_client_bytes_read", "Bytes read", sum(|counts| counts.bytes_read))?;
        self.counter("msnb_client_bytes_written", "Bytes written", sum(|counts| counts.bytes_written))
    }

    fn channels(&mut self, states: &[&str]) -> fmt::Result {
        let counts = STATES.map(|name| (name, states.iter().filter(|state| **state == name).count() as u64));
        self.labelled("msnb_client_channels", "Endpoints by state", MetricType::Gauge, "state", &counts)
    }

    /// The sum over the providers of a zone is its share of the calls.
    fn providers(&mut self, all: &[ProviderCounts]) -> fmt::Result {
        let mut sums: BTreeMap<(SocketAddr, &str), [u64; 3]> = BTreeMap::new();
        for counts in all {
            // Several clients may use a provider.
            let full = sums.len() >= MAX_PROVIDERS && !sums.contains_key(&(counts.address, counts.zone.as_str()));
            if !full {
                let sum = sums.entry((counts.address, &counts.zone)).or_default();
                let [answered, failed, ejections] = sum;
                *answered += counts.answered;
                *failed += counts.failed;
                *ejections += counts.ejections;
            }
        }
        let help = "Attempts by provider: answered with any status, and failed because of the provider";
        let mut family = self.0.encode_descriptor("msnb_client_provider_calls", help, None, MetricType::Counter)?;
        for ((address, zone), [answered, failed, _]) in &sums {
            for (outcome, count) in [("answered", answered), ("failed", failed)] {
                let labels =
                    [("provider", address.to_string()), ("zone", (*zone).to_owned()), ("outcome", outcome.to_owned())];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = ("msnb_client_provider_ejections", "Ejections by provider");
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((address, _), [.., ejections]) in &sums {
            let labels = [("provider", address.to_string())];
            ConstCounter::new(*ejections).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn routes(&mut self, all: &[RouteCounts]) -> fmt::Result {
        let mut sums: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for counts in all {
            let [retries, hedges] = sums.entry(counts.route).or_default();
            *retries += counts.retries;
            *hedges += counts.hedges;
        }
        let (name, help) = ("msnb_client_repeats", "Retries and hedges by route");
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (route, [retries, hedges]) in sums {
            for (kind, count) in [("retry", retries), ("hedge", hedges)] {
                ConstCounter::new(count).encode(family.encode_family(&[("route", route), ("kind", kind)])?)?;
            }
        }
        Ok(())
    }

    /// Of several clients, the oldest list counts.
    fn services(&mut self, all: &[ServiceStatus]) -> fmt::Result {
        let mut ages: BTreeMap<String, f64> = BTreeMap::new();
        for status in all {
            let Some(age) = status.age else { continue };
            let oldest = ages.entry(status.service.to_string()).or_default();
            *oldest = oldest.max(age.as_secs_f64());
        }
        let (name, help) = ("msnb_client_list_age", "Time since the registry reported the provider list");
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (service, age) in ages {
            ConstGauge::new(age).encode(family.encode_family(&[("service", service)])?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        ConstGauge::new(value as i64).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        of: MetricType,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, of)?;
        for (key, value) in values {
            let labels = [(label, *key)];
            let metric = family.encode_family(&labels)?;
            match of {
                MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                _ => ConstGauge::new(*value as i64).encode(metric)?,
            }
        }
        Ok(())
    }
}

/// The largest number of providers with metrics of their own.
const MAX_PROVIDERS: usize = 1000;

fn state_name(state: &EndpointState) -> &'static str {
    match state {
        EndpointState::Connecting => "connecting",
        EndpointState::Ready { .. } => "ready",
        EndpointState::Ejected { .. } => "ejected",
        EndpointState::Suspended => "passed",
        EndpointState::Backoff(_) => "backoff",
        EndpointState::Evicted(_) => "evicted",
        EndpointState::Retired => "retired",
        _ => "other",
    }
}

const STATES: [&str; 8] = ["connecting", "ready", "ejected", "passed", "backoff", "evicted", "retired", "other"];
