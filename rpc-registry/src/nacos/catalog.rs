//! [`Catalog`]: looks up over HTTP whether instances exist, and whether an operator has disabled them.
//!
//! Over gRPC, Nacos hides a disabled instance like an instance that does not exist. Only the HTTP interface
//! distinguishes them, and that interface differs between servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::seq::SliceRandom as _;
use rpc_core::{Code, Error, ServiceId};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    http::{Http, Response},
    limits,
    listing::{self, Hosts},
    login::Login,
    url::Config,
};
use crate::address::HostPort;

/// A client of the HTTP interface for the states of instances.
pub(super) struct Catalog {
    pub(super) config: Arc<Config>,
    pub(super) http: Arc<Http>,
    pub(super) login: Arc<Login>,
}

/// Maps each existing instance to whether it is enabled.
pub(super) type States = BTreeMap<SocketAddr, bool>;

/// The instances to query.
pub(super) struct Wanted {
    pub(super) addresses: BTreeSet<SocketAddr>,
    /// The host names with which some of them may be registered.
    pub(super) hosts: Hosts,
}

/// The maximum number of instances that are queried one by one, on servers without a list of instances.
const MAX_SINGLE: usize = 64;

/// The maximum number of concurrent queries for single instances.
const MAX_CONCURRENT: usize = 8;

/// The time that all servers together have to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The page size of the only requested page.
///
/// It exceeds the number of instances of any service, and servers accept it.
const PAGE_SIZE: &str = "100000";

impl Catalog {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>, login: Arc<Login>) -> Self {
        Self { config, http, login }
    }

    /// Queries one server after another, in random order, for the states of these instances.
    ///
    /// Omits instances that do not exist.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the user may not read them, `Unavailable` if no server answers within 3 s.
    pub(super) async fn states(&self, service: &ServiceId, wanted: &Wanted) -> Result<States, Error> {
        timeout(TIMEOUT, self.query_servers(service, wanted)).await.unwrap_or_else(|_| {
            let message = format!("no answer from a Nacos server to an HTTP query for instances within {TIMEOUT:?}");
            Err(Error::not_executed(Code::Unavailable, message))
        })
    }

    async fn query_servers(&self, service: &ServiceId, wanted: &Wanted) -> Result<States, Error> {
        let mut last =
            Error::not_executed(Code::Unavailable, "no Nacos server has an HTTP path for the instances of a service");
        let mut servers: Vec<_> = self.config.servers.iter().collect();
        servers.shuffle(&mut rand::rng());
        for server in servers {
            match self.query_server(server, service, wanted).await {
                Ok(Some(mut states)) => {
                    states.retain(|address, _| wanted.addresses.contains(address));
                    return Ok(states);
                }
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Queries one server through the path of its version; `None` if it has no such path.
    async fn query_server(
        &self,
        server: &HostPort,
        service: &ServiceId,
        wanted: &Wanted,
    ) -> Result<Option<States>, Error> {
        let name = limits::service(service)?;
        let group = &*self.config.group;
        // Version 3.
        let parameters = [("groupName", group), ("serviceName", &name)];
        let response = self.get(server, "/nacos/v3/admin/ns/instance/list", &parameters).await?;
        if let Some(states) = self.read_list(&response, &wanted.hosts)? {
            return Ok(Some(states));
        }
        // Version 2 accepts the group only as a part of the name.
        let grouped = format!("{group}@@{name}");
        let parameters = [("serviceName", &*grouped), ("pageNo", "1"), ("pageSize", PAGE_SIZE)];
        let response = self.get(server, "/nacos/v2/ns/catalog/instances", &parameters).await?;
        if let Some(states) = self.read_list(&response, &wanted.hosts)? {
            return Ok(Some(states));
        }
        // r-nacos.
        let single = wanted.instances().into_iter().take(MAX_SINGLE);
        let single = single.map(|(address, host)| self.query_instance(server, &name, address, host));
        let answers: Vec<_> = stream::iter(single).buffer_unordered(MAX_CONCURRENT).try_collect().await?;
        let mut states = States::new();
        for (address, answer) in answers {
            match answer {
                Ok(Some(enabled)) => *states.entry(address).or_default() |= enabled,
                Ok(None) => {}
                Err(NoSuchPath) => return Ok(None),
            }
        }
        Ok(Some(states))
    }

    async fn query_instance(
        &self,
        server: &HostPort,
        name: &str,
        address: SocketAddr,
        host: String,
    ) -> Result<(SocketAddr, Result<Option<bool>, NoSuchPath>), Error> {
        let port = address.port().to_string();
        let parameters = [("groupName", &*self.config.group), ("serviceName", name), ("ip", &host), ("port", &port)];
        let response = self.get(server, "/nacos/v1/ns/instance", &parameters).await?;
        Ok((address, read_instance(&response)))
    }

    /// Sends a GET request with the namespace and the access token.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the server rejects the user, `Unavailable` if it does not answer.
    pub(super) async fn get(
        &self,
        server: &HostPort,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Response, Error> {
        let token = self.login.access_token();
        let mut all = vec![("namespaceId", &*self.config.namespace)];
        all.extend(token.as_deref().map(|token| ("accessToken", token)));
        all.extend(parameters);
        let response = self.http.get(&format!("http://{server}{path}"), &all).await?;
        match response.status {
            401 | 403 => {
                let user = self.config.username().unwrap_or("(none)");
                let message = format!("Nacos denies the user `{user}` to read the instances of a service over HTTP");
                Err(Error::not_executed(Code::PermissionDenied, message))
            }
            _ => Ok(response),
        }
    }

    /// Reads a list of all instances; `None` if the server does not have the path.
    fn read_list(&self, response: &Response, hosts: &Hosts) -> Result<Option<States>, Error> {
        let answer = serde_json::from_str::<ListAnswer>(&response.text);
        match (response.status, answer) {
            (200, Ok(ListAnswer { data: ListData::Instances(instances) | ListData::Page { instances }, .. })) => {
                let cluster = self.config.cluster.as_deref();
                let in_cluster =
                    |found: &&CatalogInstance| cluster.is_none() || found.cluster_name.as_deref() == cluster;
                let mut states = States::new();
                // An address that is listed twice is enabled if either instance is.
                for found in instances.iter().filter(in_cluster) {
                    for address in listing::addresses(&found.ip, found.port, hosts) {
                        *states.entry(address).or_default() |= found.enabled;
                    }
                }
                Ok(Some(states))
            }
            // A status 404 with a code is an answer: the service does not exist.
            (404, Ok(ListAnswer { code: Some(_), .. })) => Ok(Some(States::new())),
            (404 | 405 | 410 | 501, _) => Ok(None),
            (status, _) => {
                let message =
                    format!("a Nacos server answered a query for the instances of a service with status {status}");
                Err(Error::not_executed(Code::Unavailable, message))
            }
        }
    }
}

impl Wanted {
    /// Returns the addresses with the IP address and each host name under which Nacos may list them.
    fn instances(&self) -> Vec<(SocketAddr, String)> {
        let names =
            |ip: IpAddr| self.hosts.iter().filter(move |(_, ips)| ips.contains(&ip)).map(|(name, _)| name.clone());
        let all = |address: &SocketAddr| {
            let (address, ip) = (*address, address.ip());
            std::iter::once(ip.to_string()).chain(names(ip)).map(move |host| (address, host)).collect::<Vec<_>>()
        };
        self.addresses.iter().flat_map(all).collect()
    }
}

struct NoSuchPath;

/// Reads whether one instance of r-nacos is enabled; `None` if it does not exist.
///
/// The official servers omit `enabled`.
fn read_instance(response: &Response) -> Result<Option<bool>, NoSuchPath> {
    #[derive(Deserialize)]
    struct Answer {
        enabled: Option<bool>,
    }
    match (response.status, serde_json::from_str(&response.text)) {
        (200, Ok(Answer { enabled: Some(enabled) })) => Ok(Some(enabled)),
        (500, _) => Ok(None),
        _ => Err(NoSuchPath),
    }
}

#[derive(Deserialize)]
struct ListAnswer {
    code: Option<i64>,
    #[serde(default)]
    data: ListData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CatalogInstance {
    ip: String,
    port: i32,
    enabled: bool,
    cluster_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ListData {
    /// Version 3.
    Instances(Vec<CatalogInstance>),
    /// Version 2. Without instances, the server omits the field.
    Page {
        #[serde(default)]
        instances: Vec<CatalogInstance>,
    },
    /// Not a list, such as the text of an error.
    Other(serde::de::IgnoredAny),
}

impl Default for ListData {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let config = Arc::new(Config::parse("nacos://a").unwrap());
        let http = Arc::new(Http::new().unwrap());
        let login = Login::new(Arc::clone(&config), Arc::clone(&http));
        Catalog::new(config, http, Arc::new(login))
    }

    fn response(status: u16, text: &str) -> Response {
        Response { status, text: text.to_owned() }
    }

    const INSTANCES: &str = r#"[
        {"ip":"10.0.0.1","port":1,"weight":1.0,"healthy":true,"enabled":false,"clusterName":"DEFAULT","metadata":{}},
        {"ip":"10.0.0.1","port":2,"weight":1.0,"healthy":true,"enabled":true,"clusterName":"DEFAULT","metadata":{}}]"#;

    #[test]
    fn read_list_supports_versions_2_and_3() {
        let expected = States::from([(([10, 0, 0, 1], 1).into(), false), (([10, 0, 0, 1], 2).into(), true)]);
        for text in [
            format!(r#"{{"code":0,"message":"success","data":{INSTANCES}}}"#),
            format!(r#"{{"code":0,"message":"success","data":{{"instances":{INSTANCES},"count":2}}}}"#),
        ] {
            assert_eq!(catalog().read_list(&response(200, &text), &Hosts::new()).unwrap(), Some(expected.clone()));
        }
        let none = r#"{"code":0,"message":"success","data":{"count":0}}"#;
        assert_eq!(catalog().read_list(&response(200, none), &Hosts::new()).unwrap(), Some(States::new()));
        let unknown = r#"{"code":30000,"message":"server error","data":"service a@@b is not found!"}"#;
        assert_eq!(catalog().read_list(&response(404, unknown), &Hosts::new()).unwrap(), Some(States::new()));
    }

    #[test]
    fn host_names_are_queried_with_their_addresses() {
        let hosts = Hosts::from([("some.host".to_owned(), vec![[10, 0, 0, 2].into(), [10, 0, 0, 3].into()])]);
        let list =
            r#"{"code":0,"data":[{"ip":"some.host","port":1,"enabled":false},{"ip":"other","port":1,"enabled":true}]}"#;
        let expected = States::from([(([10, 0, 0, 2], 1).into(), false), (([10, 0, 0, 3], 1).into(), false)]);
        assert_eq!(catalog().read_list(&response(200, list), &hosts).unwrap(), Some(expected));

        let addresses = BTreeSet::from([([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 1).into()]);
        let instances: Vec<_> = Wanted { addresses, hosts }.instances().into_iter().map(|(_, host)| host).collect();
        assert_eq!(instances, ["10.0.0.1", "10.0.0.2", "some.host"]);
    }

    #[test]
    fn read_list_distinguishes_missing_paths_from_faults() {
        for text in ["", r#"{"timestamp":"now","status":404,"error":"Not Found"}"#] {
            assert_eq!(catalog().read_list(&response(404, text), &Hosts::new()).unwrap(), None);
        }
        assert_eq!(catalog().read_list(&response(410, "use another API"), &Hosts::new()).unwrap(), None);
        for (status, text) in [(200, "<html>"), (500, "caused: fault"), (200, r#"{"code":0,"data":"text"}"#)] {
            assert_eq!(
                catalog().read_list(&response(status, text), &Hosts::new()).unwrap_err().code(),
                Code::Unavailable,
                "{text}"
            );
        }
    }

    #[test]
    fn read_instance_supports_r_nacos() {
        assert!(matches!(read_instance(&response(200, r#"{"ip":"a","enabled":false}"#)), Ok(Some(false))));
        assert!(matches!(read_instance(&response(500, "error")), Ok(None)));
        // The official servers omit `enabled`.
        assert!(read_instance(&response(200, r#"{"ip":"a"}"#)).is_err());
        assert!(read_instance(&response(404, "")).is_err());
    }
}
