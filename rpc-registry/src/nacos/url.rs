//! [`Config`]: the settings in a `nacos:` URL.

use std::fmt;

use rpc_core::{Code, Error};

use super::limits;
use crate::address::HostPort;

/// The servers, and the namespace, group and cluster to use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    /// The HTTP addresses, at least one.
    pub(super) servers: Vec<HostPort>,
    /// The gRPC port of every server; by default the HTTP port + 1000, as Nacos defines it.
    pub(super) grpc_port: Option<u16>,
    /// Empty for the public namespace.
    pub(super) namespace: String,
    pub(super) group: String,
    /// The cluster to register in and to watch.
    ///
    /// By default, registers in the default cluster and watches all clusters.
    pub(super) cluster: Option<String>,
    pub(super) credentials: Option<Credentials>,
}

/// The user that logs in to Nacos.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Password,
}

/// A password that `Debug` does not print.
#[derive(Clone, PartialEq)]
pub(super) struct Password(pub(super) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

const FORM: &str = "`nacos://host:8848,host2:8848?namespace=&group=&cluster=&username=&password=&grpc_port=`";
const DEFAULT_PORT: u16 = 8848;
const DEFAULT_GROUP: &str = "DEFAULT_GROUP";
/// The default distance from the HTTP port to the gRPC port.
pub(super) const GRPC_PORT_OFFSET: u16 = 1000;

impl Config {
    /// Parses a URL. Values are percent-decoded; a `+` stands for itself.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`; the message contains no parameter value.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("nacos://").ok_or_else(|| invalid("it must begin with `nacos://`"))?;
        let (servers, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Checked first, because the text before an `@` may be a password and must not appear in a message.
        if servers.contains('@') {
            return Err(invalid("pass the user and the password as the parameters `username` and `password`"));
        }
        let servers = servers.strip_suffix('/').unwrap_or(servers);
        let servers =
            servers.split(',').map(|server| HostPort::parse(server, Some(DEFAULT_PORT))).collect::<Result<_, _>>()?;
        let mut config = Self {
            servers,
            grpc_port: None,
            namespace: String::new(),
            group: DEFAULT_GROUP.to_owned(),
            cluster: None,
            credentials: None,
        };
        config.read_parameters(query)?;
        config.check_ports()?;
        Ok(config)
    }

    fn read_parameters(&mut self, query: &str) -> Result<(), Error> {
        let (mut username, mut password) = (None, None);
        let mut seen = Vec::new();
        for (key, value) in url::form_urlencoded::parse(query.replace('+', "%2B").as_bytes()) {
            if seen.contains(&key) {
                return Err(invalid(&format!("the parameter `{key}` is given twice")));
            }
            match (&*key, &*value) {
                // An empty value selects the default.
                ("namespace" | "group" | "cluster" | "username" | "password" | "grpc_port", "") => {}
                ("namespace", value) => self.namespace = limits::namespace(value)?.to_owned(),
                ("group", value) => self.group = limits::group(value)?.to_owned(),
                ("cluster", value) => self.cluster = Some(limits::cluster(value)?.to_owned()),
                ("username", value) => username = Some(value.to_owned()),
                ("password", value) => password = Some(value.to_owned()),
                ("grpc_port", value) => {
                    let port = value.parse().ok().filter(|port| *port != 0);
                    self.grpc_port = Some(port.ok_or_else(|| invalid("`grpc_port` must be 1 to 65535"))?);
                }
                // The message contains only keys that look like names: the key may be the part of a password after an
                // `&`.
                (key, _) if key.len() <= 16 && key.bytes().all(|b| b.is_ascii_lowercase()) && password.is_none() => {
                    return Err(invalid(&format!("unknown parameter `{key}`")));
                }
                _ => return Err(invalid("unknown parameter")),
            }
            seen.push(key);
        }
        self.credentials = match (username, password) {
            (Some(username), Some(password)) => Some(Credentials { username, password: Password(password) }),
            (None, None) => None,
            _ => return Err(invalid("`username` and `password` must be given together")),
        };
        Ok(())
    }

    fn check_ports(&self) -> Result<(), Error> {
        if self.servers.iter().any(|server| self.checked_grpc_port(server).is_none()) {
            return Err(invalid("a port above 64535 needs `grpc_port`, because its default is the port + 1000"));
        }
        Ok(())
    }

    fn checked_grpc_port(&self, server: &HostPort) -> Option<u16> {
        self.grpc_port.or_else(|| server.port.checked_add(GRPC_PORT_OFFSET))
    }

    /// Returns the gRPC address of `server`.
    pub(super) fn grpc(&self, server: &HostPort) -> HostPort {
        let port = self.checked_grpc_port(server).expect("`parse` has checked the ports of all servers");
        HostPort { host: server.host.clone(), port }
    }

    /// Returns the user, for messages.
    pub(super) fn username(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| &*credentials.username)
    }
}

/// The URL without user and password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(HostPort::to_string).collect();
        write!(f, "nacos://{}", servers.join(","))?;
        let group = if self.group == DEFAULT_GROUP { "" } else { &*self.group };
        let parameters = [("namespace", &*self.namespace), ("group", group)];
        let given = parameters.into_iter().chain([("cluster", self.cluster.as_deref().unwrap_or_default())]);
        for (n, (key, value)) in given.filter(|(_, value)| !value.is_empty()).enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

fn invalid(what: &str) -> Error {
    Error::not_executed(Code::InvalidArgument, format!("invalid URL of Nacos: {what}; expected {FORM}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_every_part() {
        let url = "nacos://a,[::1]:80/?namespace=n-1&group=g.1&cluster=c&username=u%40x&password=p%26+%3D&grpc_port=9";
        let config = Config::parse(url).unwrap();
        let servers: Vec<_> = config.servers.iter().map(HostPort::to_string).collect();
        assert_eq!(servers, ["a:8848", "[::1]:80"]);
        assert_eq!((&*config.namespace, &*config.group, config.cluster.as_deref()), ("n-1", "g.1", Some("c")));
        assert_eq!(
            config.credentials,
            Some(Credentials { username: "u@x".to_owned(), password: Password("p&+=".to_owned()) })
        );
        assert_eq!(config.grpc(&config.servers[1]).to_string(), "[::1]:9");
    }

    #[test]
    fn omitted_parameters_have_defaults() {
        let config = Config::parse("nacos://a?group=&username=").unwrap();
        assert_eq!((&*config.group, config.credentials.clone()), (DEFAULT_GROUP, None));
        assert_eq!(config.grpc(&config.servers[0]).to_string(), "a:9848");
        assert!(Config::parse("nacos://a:64535").is_ok());
        assert!(Config::parse("nacos://a:64536?grpc_port=1").is_ok());
    }

    #[test]
    fn parse_rejects_invalid_urls() {
        for bad in [
            "nacos:a",
            "nacos://",
            "nacos://a,",
            "nacos://a/b",
            "nacos://a:64536",
            "nacos://a?colour=red",
            "nacos://a?group=g&group=g",
            "nacos://a?group=%20",
            "nacos://a?grpc_port=0",
            "nacos://a?username=u",
            "nacos://a?password=p",
        ] {
            let error = Config::parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        }
        let message = Config::parse("nacos://a?colour=red").unwrap_err().to_string();
        assert!(message.contains("`colour`") && message.contains("namespace="), "{message}");
    }

    #[test]
    fn password_is_never_printed() {
        let config = Config::parse("nacos://a?namespace=n&username=u&password=hunter2").unwrap();
        assert_eq!(config.to_string(), "nacos://a:8848?namespace=n");
        assert!(!format!("{config:?}").contains("hunter2"));
        for url in ["nacos://u:hunter2@a", "nacos://a?username=u&password=hunter2&x=1", "nacos://a?password=a&hunter2"]
        {
            let error = Config::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
