//! [`Catalog`]: which instances exist, and which of them an operator has disabled.
//!
//! Over gRPC a disabled instance is hidden from everybody, like one that does not exist. Only the HTTP interface distinguishes them, and it
//! differs between servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
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
    limits, listing,
    login::Login,
    url::Config,
};
use crate::address::HostPort;

/// Reads over HTTP which instances exist.
pub(super) struct Catalog {
    config: Arc<Config>,
    http: Arc<Http>,
    login: Arc<Login>,
}

/// Whether each instance that exists is enabled.
pub(super) type States = BTreeMap<SocketAddr, bool>;

/// The most instances that are asked for one by one, of a server which offers nothing else.
const MAX_SINGLE: usize = 64;

/// How many of them are asked for at once.
const AT_ONCE: usize = 8;

/// The longest that all servers together may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// The size of the one page that is asked for. Servers take larger ones than a service has instances.
const PAGE: &str = "100000";

impl Catalog {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>, login: Arc<Login>) -> Self {
        Self { config, http, login }
    }

    /// Asks one server after another, in random order, for the states of these instances. Those that do not exist are left out.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the user may not read them, `Unavailable` when no server answers within 3 s.
    pub(super) async fn states(&self, service: &ServiceId, addresses: &BTreeSet<SocketAddr>) -> Result<States, Error> {
        let unanswered =
            || Error::not_executed(Code::Unavailable, "no Nacos server says over HTTP which instances exist");
        timeout(ANSWER, self.ask_all(service, addresses)).await.unwrap_or_else(|_| Err(unanswered()))
    }

    async fn ask_all(&self, service: &ServiceId, addresses: &BTreeSet<SocketAddr>) -> Result<States, Error> {
        let mut last =
            Error::not_executed(Code::Unavailable, "no Nacos server has a path that says which instances exist");
        let mut servers: Vec<_> = self.config.servers.iter().collect();
        servers.shuffle(&mut rand::rng());
        for server in servers {
            match self.ask(server, service, addresses).await {
                Ok(Some(mut states)) => {
                    states.retain(|address, _| addresses.contains(address));
                    return Ok(states);
                }
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks one server in the way of its version; `None` when it offers none.
    async fn ask(
        &self,
        server: &HostPort,
        service: &ServiceId,
        addresses: &BTreeSet<SocketAddr>,
    ) -> Result<Option<States>, Error> {
        let name = limits::service(service)?;
        let group = &*self.config.group;
        // Version 3.
        let parameters = [("groupName", group), ("serviceName", &name)];
        let response = self.get(server, "/nacos/v3/admin/ns/instance/list", &parameters).await?;
        if let Some(states) = self.read_all(&response)? {
            return Ok(Some(states));
        }
        // Version 2 takes the group as a part of the name only.
        let grouped = format!("{group}@@{name}");
        let parameters = [("serviceName", &*grouped), ("pageNo", "1"), ("pageSize", PAGE)];
        let response = self.get(server, "/nacos/v2/ns/catalog/instances", &parameters).await?;
        if let Some(states) = self.read_all(&response)? {
            return Ok(Some(states));
        }
        // r-nacos.
        let single: Vec<_> = addresses.iter().take(MAX_SINGLE).copied().collect();
        let single = single.into_iter().map(|address| self.ask_single(server, &name, address));
        let answers: Vec<_> = stream::iter(single).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut states = States::new();
        for (address, answer) in answers {
            match answer {
                Ok(Some(enabled)) => _ = states.insert(address, enabled),
                Ok(None) => {}
                Err(NoSuchPath) => return Ok(None),
            }
        }
        Ok(Some(states))
    }

    async fn ask_single(
        &self,
        server: &HostPort,
        name: &str,
        address: SocketAddr,
    ) -> Result<(SocketAddr, Result<Option<bool>, NoSuchPath>), Error> {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let parameters = [("groupName", &*self.config.group), ("serviceName", name), ("ip", &ip), ("port", &port)];
        let response = self.get(server, "/nacos/v1/ns/instance", &parameters).await?;
        Ok((address, read_one(&response)))
    }

    async fn get(&self, server: &HostPort, path: &str, parameters: &[(&str, &str)]) -> Result<Response, Error> {
        let token = self.login.access_token();
        let mut all = vec![("namespaceId", &*self.config.namespace)];
        all.extend(token.as_deref().map(|token| ("accessToken", token)));
        all.extend(parameters);
        let response = self.http.get(&format!("http://{server}{path}"), &all).await?;
        match response.status {
            401 | 403 => {
                let user = self.config.username().unwrap_or("(none)");
                let message =
                    format!("Nacos does not allow the user `{user}` to read the instances of a service over HTTP");
                Err(Error::not_executed(Code::PermissionDenied, message))
            }
            _ => Ok(response),
        }
    }

    /// Reads a list of all instances; `None` when the server has no such path.
    fn read_all(&self, response: &Response) -> Result<Option<States>, Error> {
        let answer = serde_json::from_str::<All>(&response.text);
        match (response.status, answer) {
            (200, Ok(All { data: Data::Instances(instances) | Data::Page { instances }, .. })) => {
                let cluster = self.config.cluster.as_deref();
                let in_cluster = |entry: &&Entry| cluster.is_none() || entry.cluster_name.as_deref() == cluster;
                let state = |entry: &Entry| Some((listing::address(&entry.ip, entry.port)?, entry.enabled));
                let mut states = States::new();
                // An address that is listed twice is called if either entry may be.
                for (address, enabled) in instances.iter().filter(in_cluster).filter_map(state) {
                    *states.entry(address).or_default() |= enabled;
                }
                Ok(Some(states))
            }
            // With a code it is an answer: there is no such service.
            (404, Ok(All { code: Some(_), .. })) => Ok(Some(States::new())),
            (404 | 405 | 410 | 501, _) => Ok(None),
            (status, _) => {
                let message =
                    format!("a Nacos server answers a query for the instances of a service with status {status}");
                Err(Error::not_executed(Code::Unavailable, message))
            }
        }
    }
}

struct NoSuchPath;

/// Reads one instance of r-nacos: whether it is enabled, if it exists. The official servers leave that out.
fn read_one(response: &Response) -> Result<Option<bool>, NoSuchPath> {
    #[derive(Deserialize)]
    struct One {
        enabled: Option<bool>,
    }
    match (response.status, serde_json::from_str(&response.text)) {
        (200, Ok(One { enabled: Some(enabled) })) => Ok(Some(enabled)),
        (500, _) => Ok(None),
        _ => Err(NoSuchPath),
    }
}

#[derive(Deserialize)]
struct All {
    code: Option<i64>,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    ip: String,
    port: i32,
    enabled: bool,
    cluster_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    /// Version 3.
    Instances(Vec<Entry>),
    /// Version 2. Without instances the entry is left out.
    Page {
        #[serde(default)]
        instances: Vec<Entry>,
    },
    /// Not a list, as the explanation of an error.
    Other(serde::de::IgnoredAny),
}

impl Default for Data {
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
    fn lists_of_versions_2_and_3_are_understood() {
        let expected = States::from([(([10, 0, 0, 1], 1).into(), false), (([10, 0, 0, 1], 2).into(), true)]);
        for text in [
            format!(r#"{{"code":0,"message":"success","data":{INSTANCES}}}"#),
            format!(r#"{{"code":0,"message":"success","data":{{"instances":{INSTANCES},"count":2}}}}"#),
        ] {
            assert_eq!(catalog().read_all(&response(200, &text)).unwrap(), Some(expected.clone()));
        }
        let none = r#"{"code":0,"message":"success","data":{"count":0}}"#;
        assert_eq!(catalog().read_all(&response(200, none)).unwrap(), Some(States::new()));
        let unknown = r#"{"code":30000,"message":"server error","data":"service a@@b is not found!"}"#;
        assert_eq!(catalog().read_all(&response(404, unknown)).unwrap(), Some(States::new()));
    }

    #[test]
    fn missing_paths_and_faults_are_distinguished() {
        for text in ["", r#"{"timestamp":"now","status":404,"error":"Not Found"}"#] {
            assert_eq!(catalog().read_all(&response(404, text)).unwrap(), None);
        }
        assert_eq!(catalog().read_all(&response(410, "use another API")).unwrap(), None);
        for (status, text) in [(200, "<html>"), (500, "caused: fault"), (200, r#"{"code":0,"data":"text"}"#)] {
            assert_eq!(catalog().read_all(&response(status, text)).unwrap_err().code(), Code::Unavailable, "{text}");
        }
    }

    #[test]
    fn instances_of_r_nacos_are_understood() {
        assert!(matches!(read_one(&response(200, r#"{"ip":"a","enabled":false}"#)), Ok(Some(false))));
        assert!(matches!(read_one(&response(500, "error")), Ok(None)));
        // The official servers say nothing of it.
        assert!(read_one(&response(200, r#"{"ip":"a"}"#)).is_err());
        assert!(read_one(&response(404, "")).is_err());
    }
}
