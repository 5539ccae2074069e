//! [`Dns`]: providers in the domain name system.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Administration,
    address::HostPort,
    supervision::{completes, log},
    tasks::Tasks,
    throttle::Throttle,
    watches::{self, Publisher},
};

/// Providers in the domain name system: `dns://name:port` for the addresses of a name, such as that of a headless service
/// of Kubernetes; `dns+srv://_service._proto.name` for the SRV records of a name, which have ports and weights (RFC 2782).
///
/// Every service has the same providers. They are looked up again when the records expire, after 1 s to 30 s. If a lookup
/// fails, the previous addresses stay; a name that does not exist has no providers. Of the SRV records, those of the lowest
/// priority count; a weight of 0 counts as 1 if all are 0. Of a name with IPv4 and IPv6 addresses only the IPv4 addresses
/// count.
///
/// `?server=host:port` names the server, an IP address, instead of those of the system. Registering and deregistering have
/// no effect.
#[derive(Debug)]
pub struct Dns {
    publisher: Arc<Publisher>,
    url: String,
    _tasks: Tasks,
}

/// The names to look up.
#[derive(Debug, Clone, PartialEq)]
enum Query {
    Addresses { host: HostPort },
    Services { name: String },
}

/// The answer to a query.
struct Answer {
    instances: Vec<Instance>,
    /// When its records expire.
    valid_until: Instant,
}

impl Dns {
    /// Looks providers up in the background.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the URL is invalid, `Unavailable` if the configuration of the system cannot be read.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O and time drivers enabled.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let (query, server) = parse(url)?;
        let resolver = resolver(server).map_err(|cause| {
            Error::not_executed(Code::Unavailable, "cannot read the DNS configuration of the system").with_source(cause)
        })?;
        let (tasks, publisher) = (Tasks::new(), Arc::new(watch::Sender::new(None)));
        tasks.spawn(run(query, resolver, Arc::clone(&publisher), tasks.stop().clone()));
        Ok(Self { publisher, url: url.to_owned(), _tasks: tasks })
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let Some(server) = server else { return Resolver::builder_tokio()?.build() };
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    let servers = vec![NameServerConfig::new(server.ip(), true, connections)];
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

/// Looks the providers up until `stop` is cancelled.
async fn run(query: Query, resolver: TokioResolver, publisher: Arc<Publisher>, stop: CancellationToken) {
    let warnings = Throttle::default();
    // Cancel-safe: a dropped lookup changes nothing.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("dns", follow(&query, &resolver, &publisher, &warnings)).await {} } => {}
    }
}

async fn follow(query: &Query, resolver: &TokioResolver, publisher: &Publisher, warnings: &Throttle) {
    loop {
        let pause = match look_up(query, resolver).await {
            Ok(Answer { instances, valid_until }) => {
                watches::publish(publisher, instances);
                valid_until.saturating_duration_since(Instant::now()).clamp(MIN_PAUSE, MAX_PAUSE)
            }
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                watches::publish(publisher, Vec::new());
                MIN_PAUSE
            }
            Err(error) => {
                if warnings.allow(Instant::now()) {
                    log(|| tracing::warn!(?query, %error, "a DNS lookup failed; the previous addresses stay in use"));
                }
                MIN_PAUSE
            }
        };
        sleep(pause).await;
    }
}

async fn look_up(query: &Query, resolver: &TokioResolver) -> Result<Answer, NetError> {
    match query {
        Query::Addresses { host } => {
            let (ips, valid_until) = addresses(&host.host, resolver).await?;
            let instances = ips.into_iter().map(|ip| Instance::new((ip, host.port).into())).collect();
            Ok(Answer { instances: sorted(instances), valid_until })
        }
        Query::Services { name } => {
            let lookup = resolver.srv_lookup(&**name).await?;
            let mut valid_until = lookup.valid_until();
            let records: Vec<_> = lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv),
                    _ => None,
                })
                .take(MAX_RECORDS)
                .collect();
            let lowest = records.iter().map(|srv| srv.priority).min();
            let used: Vec<_> = records.into_iter().filter(|srv| Some(srv.priority) == lowest).collect();
            let has_weights = used.iter().any(|srv| srv.weight > 0);
            let mut instances = Vec::new();
            for srv in used {
                let (ips, until) = addresses(&srv.target.to_utf8(), resolver).await?;
                valid_until = valid_until.min(until);
                let weight = if has_weights { f64::from(srv.weight) } else { Instance::DEFAULT_WEIGHT };
                instances.extend(ips.into_iter().map(|ip| Instance::new((ip, srv.port).into()).with_weight(weight)));
            }
            Ok(Answer { instances: sorted(instances), valid_until })
        }
    }
}

/// Returns the addresses of a host, and when they expire.
async fn addresses(host: &str, resolver: &TokioResolver) -> Result<(Vec<IpAddr>, Instant), NetError> {
    let lookup = resolver.lookup_ip(host).await?;
    let (v4, v6): (Vec<_>, Vec<_>) = lookup.iter().take(MAX_RECORDS).partition(IpAddr::is_ipv4);
    Ok((if v4.is_empty() { v6 } else { v4 }, lookup.valid_until()))
}

fn sorted(mut instances: Vec<Instance>) -> Vec<Instance> {
    instances.sort_by_key(Instance::address);
    instances.dedup_by_key(|instance| instance.address());
    instances
}

/// Returns the query of a URL, and the server that it names.
fn parse(url: &str) -> Result<(Query, Option<SocketAddr>), Error> {
    let invalid = || {
        let message = "invalid DNS URL, expected `dns://name:port` or `dns+srv://_service._proto.name`, and optionally \
                       `?server=ip:port`";
        Error::not_executed(Code::InvalidArgument, message)
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let (name, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let server = match parameters.strip_prefix("server=") {
        Some(server) => Some(server.parse().map_err(|_| invalid())?),
        None if parameters.is_empty() => None,
        None => return Err(invalid()),
    };
    let query = if scheme == "dns" {
        Query::Addresses { host: HostPort::parse(name, None)? }
    } else {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if name.is_empty() || !is_name {
            return Err(invalid());
        }
        Query::Services { name: name.to_owned() }
    };
    Ok((query, server))
}

impl Registry for Dns {
    fn register<'a>(&'a self, _: &'a ServiceId, _: Instance) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async { Ok(RegisterOutcome::Confirmed) })
    }

    fn deregister<'a>(&'a self, _: &'a ServiceId, _: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

impl Discovery for Dns {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.publisher.subscribe()
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// Every service has the same addresses, so that there is no list of services.
impl Administration for Dns {}

/// The shortest time between two lookups.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest time between two lookups.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The largest number of records of one answer that are used.
const MAX_RECORDS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_name_and_a_server() {
        let (query, server) = parse("dns://greeter.test:7788?server=127.0.0.1:53").unwrap();
        assert_eq!(query, Query::Addresses { host: HostPort { host: "greeter.test".to_owned(), port: 7788 } });
        assert_eq!(server, Some(([127, 0, 0, 1], 53).into()));
        let (query, server) = parse("dns+srv://_msnb._tcp.greeter.test").unwrap();
        assert_eq!((query, server), (Query::Services { name: "_msnb._tcp.greeter.test".to_owned() }, None));
        for bad in ["dns:a", "dns://a", "dns://a:1?x=y", "dns://a:1?server=x", "dns+srv://", "dns+srv://a b"] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
