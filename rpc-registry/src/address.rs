//! [`HostPort`]: a network address in text form.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rpc_core::{Code, Error, Instance};
use tokio::time::timeout;

/// An unresolved host and a port. IPv6 addresses keep their brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// Parses `host:port`, or `host` if `default_port` is given.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`; the message contains `text`, which must therefore hold no secret.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Error> {
        let invalid =
            |why: &str| Error::not_executed(Code::InvalidArgument, format!("invalid address `{text}`: {why}"));
        let (host, port) = match text.rfind(']') {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match (port.strip_prefix(':'), default_port) {
            (Some(port), _) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("the port must be 1 to 65535"))?
            }
            (None, Some(default)) if port.is_empty() => default,
            (None, _) => return Err(invalid("expected `host:port`, with an IPv6 address in brackets")),
        };
        let valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if !valid {
            return Err(invalid("the host must be a name, an IPv4 address or an IPv6 address in brackets"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Returns whether the host is a name, whose addresses can change.
    pub(crate) fn is_name(&self) -> bool {
        !self.host.starts_with('[') && self.host.parse::<IpAddr>().is_err()
    }

    /// Resolves the host to its IPv4 addresses or, if it has none, to its IPv6 addresses.
    ///
    /// One family only: otherwise a host with addresses of both, such as `localhost`, would count twice.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [`RESOLVE_TIMEOUT`], and the errors of the system's resolver, which runs on a thread of its own.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let all: Vec<_> = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(self.to_string())).await??.collect();
        let (mut v4, v6): (Vec<_>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv4);
        if v4.is_empty() {
            v4 = v6;
        }
        if v4.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no addresses"));
        }
        Ok(v4)
    }
}

/// The time of one lookup of a host name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two lookups of a host name of a provider.
pub(crate) const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Rejects an instance whose address no client can connect to.
pub(crate) fn check_connectable(instance: &Instance) -> Result<(), Error> {
    let address = instance.address();
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err(Error::not_executed(
            Code::InvalidArgument,
            format!("cannot register {address}: consumers cannot connect to it; advertise another address"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_hosts_and_ports() {
        let read = |text| HostPort::parse(text, Some(8848)).map(|a| (a.host, a.port)).ok();
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("nacos-0.nacos"), is("nacos-0.nacos", 8848));
        assert_eq!(read("10.0.0.1:80"), is("10.0.0.1", 80));
        assert_eq!(read("[::1]:80"), is("[::1]", 80));
        assert_eq!(read("[::1]"), is("[::1]", 8848));
        for bad in ["", ":80", "a:", "a:0", "a:65536", "a:b", "::1", "[::g]:1", "a/b", "a@b:1", "[::1]80", "a b:1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(HostPort::parse("a", None).is_err());
    }

    #[test]
    fn names_are_distinguished_from_addresses() {
        let is_name = |text| HostPort::parse(text, None).unwrap().is_name();
        assert!(is_name("localhost:1") && is_name("10.0.0.1.example:1"));
        assert!(!is_name("10.0.0.1:1") && !is_name("[::1]:1"));
    }

    #[test]
    fn check_rejects_unconnectable_addresses() {
        let check = |address: &str| check_connectable(&Instance::new(address.parse().unwrap())).is_ok();
        assert!(check("127.0.0.1:1"));
        assert!(!check("127.0.0.1:0"));
        assert!(!check("0.0.0.0:1"));
        assert!(!check("[::]:1"));
    }
}
