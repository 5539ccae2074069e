//! The instances of a service with all their properties, and changes of an operator, over HTTP.
//!
//! The path depends on the server: line 3, line 2, or r-nacos, which has no list with disabled instances.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rand::seq::SliceRandom as _;
use rpc_core::{Code, Error, Instance};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{catalog::Catalog, http::Response, listing};
use crate::{InstanceChange, address::HostPort};

/// The time that all servers together have to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The time in which a server applies a change that it has accepted.
const APPLICATION_TIME: Duration = Duration::from_secs(3);

/// The interval between two checks whether a change is applied.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The page size of the only requested page.
const PAGE_SIZE: &str = "100000";

/// The path of an instance in line 2 and r-nacos.
const INSTANCE: &str = "/nacos/v1/ns/instance";

/// The path of an instance in line 3.
const INSTANCE_3: &str = "/nacos/v3/admin/ns/instance";

/// An instance as a server lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    ip: String,
    port: i32,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default = "yes")]
    healthy: bool,
    #[serde(default = "yes")]
    enabled: bool,
    cluster_name: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Entry {
    /// Returns the instance; `None` for a host name, which only the consumers resolve.
    fn instance(&self) -> Option<Instance> {
        let instance =
            Instance::new(listing::address(&self.ip, self.port)?).with_weight(self.weight).with_enabled(self.enabled);
        let metadata = self.metadata.iter().filter(|(key, _)| *key != listing::WEIGHT);
        Some(metadata.fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        listing::address(&self.ip, self.port) == Some(address)
    }
}

impl Catalog {
    /// Returns the healthy instances of a service; `None` if no server has a list with disabled instances.
    pub(super) async fn inventory(&self, service: &str) -> Result<Option<Vec<Instance>>, Error> {
        let answers = async {
            let mut failure = None;
            for server in self.shuffled() {
                match self.entries(server, service).await {
                    Ok(found) => return Ok(found.map(|(_, entries)| entries)),
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(None), Err)
        };
        let Some(entries) = in_time(answers).await? else { return Ok(None) };
        let cluster = self.config.cluster.as_deref();
        let is_wanted =
            |entry: &&Entry| entry.healthy && cluster.is_none_or(|c| entry.cluster_name.as_deref() == Some(c));
        let mut instances: Vec<_> = entries.iter().filter(is_wanted).filter_map(Entry::instance).collect();
        instances.sort_by_key(Instance::address);
        instances.dedup_by_key(|instance| instance.address());
        Ok(Some(instances))
    }

    /// Changes an instance, and returns it with the change; `None` if it does not exist.
    pub(super) async fn change(
        &self,
        service: &str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> Result<Option<Instance>, Error> {
        let answers = async {
            let mut failure = None;
            for server in self.shuffled() {
                match self.change_at(server, service, address, change).await {
                    Ok(changed) => return Ok(changed),
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(None), Err)
        };
        in_time(answers).await
    }

    async fn change_at(
        &self,
        server: &HostPort,
        service: &str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> Result<Option<Instance>, Error> {
        let (path, entry) = self.find(server, service, address).await?;
        let Some(mut wanted) = entry else { return Ok(None) };
        wanted.enabled = change.enabled.unwrap_or(wanted.enabled);
        wanted.weight = change.weight.unwrap_or(wanted.weight);
        self.update(server, path, service, &wanted).await?;
        // An official server applies a change after it has accepted it. The next change must not read the old properties.
        let begun = Instant::now();
        loop {
            let (_, listed) = self.find(server, service, address).await?;
            let is_applied = |entry: &Entry| (entry.enabled, entry.weight) == (wanted.enabled, wanted.weight);
            if listed.as_ref().is_none_or(is_applied) || begun.elapsed() > APPLICATION_TIME {
                return Ok(listed.unwrap_or(wanted).instance());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns an instance with the path that changes it.
    async fn find(
        &self,
        server: &HostPort,
        service: &str,
        address: SocketAddr,
    ) -> Result<(&'static str, Option<Entry>), Error> {
        Ok(match self.entries(server, service).await? {
            Some((path, entries)) => (path, entries.into_iter().find(|entry| entry.is_at(address))),
            None => (INSTANCE, self.entry(server, service, address).await?),
        })
    }

    fn shuffled(&self) -> Vec<&HostPort> {
        let mut servers: Vec<_> = self.config.servers.iter().collect();
        servers.shuffle(&mut rand::rng());
        servers
    }

    /// Returns all instances with the path that changes them; `None` if the server has no such list.
    async fn entries(&self, server: &HostPort, service: &str) -> Result<Option<(&'static str, Vec<Entry>)>, Error> {
        let parameters = [("groupName", &*self.config.group), ("serviceName", service)];
        let response = self.get(server, "/nacos/v3/admin/ns/instance/list", &parameters).await?;
        if let Some(entries) = read_entries(&response)? {
            return Ok(Some((INSTANCE_3, entries)));
        }
        // Line 2 accepts the group only as a part of the name.
        let grouped = format!("{}@@{service}", self.config.group);
        let parameters = [("serviceName", &*grouped), ("pageNo", "1"), ("pageSize", PAGE_SIZE)];
        let response = self.get(server, "/nacos/v2/ns/catalog/instances", &parameters).await?;
        Ok(read_entries(&response)?.map(|entries| (INSTANCE, entries)))
    }

    /// Returns one instance of r-nacos; `None` if it does not exist.
    async fn entry(&self, server: &HostPort, service: &str, address: SocketAddr) -> Result<Option<Entry>, Error> {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let parameters = [("groupName", &*self.config.group), ("serviceName", service), ("ip", &ip), ("port", &port)];
        let response = self.get(server, INSTANCE, &parameters).await?;
        match (response.status, serde_json::from_str(&response.text)) {
            (200, Ok(entry)) => Ok(Some(entry)),
            (404 | 500, _) => Ok(None),
            (status, _) => Err(unexpected("a query for an instance", status)),
        }
    }

    /// Writes all properties of an instance, because a server sets those that a request omits to their defaults.
    async fn update(&self, server: &HostPort, path: &str, service: &str, entry: &Entry) -> Result<(), Error> {
        let (port, weight, enabled) = (entry.port.to_string(), entry.weight.to_string(), entry.enabled.to_string());
        let metadata = serde_json::to_string(&entry.metadata).expect("a map of texts is serializable");
        let cluster = entry.cluster_name.as_deref().unwrap_or("DEFAULT");
        let token = self.login.access_token();
        let token: Vec<_> = token.as_deref().map(|token| ("accessToken", token)).into_iter().collect();
        let form = [
            ("namespaceId", &*self.config.namespace),
            ("groupName", &self.config.group),
            ("serviceName", service),
            ("clusterName", cluster),
            ("ip", &entry.ip),
            ("port", &port),
            ("weight", &weight),
            ("enabled", &enabled),
            ("healthy", "true"),
            ("metadata", &metadata),
            ("ephemeral", "true"),
        ];
        let response = self.http.put(&format!("http://{server}{path}"), &token, &form).await?;
        match response.status {
            200 => Ok(()),
            401 | 403 => {
                let user = self.config.username().unwrap_or("(none)");
                let message = format!("Nacos denies the user `{user}` to change the instances of a service");
                Err(Error::not_executed(Code::PermissionDenied, message))
            }
            status => Err(unexpected("the change of an instance", status)),
        }
    }
}

async fn in_time<T>(answers: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(TIMEOUT, answers).await.unwrap_or_else(|_| {
        let message = format!("no answer from a Nacos server to an HTTP request within {TIMEOUT:?}");
        Err(Error::not_executed(Code::Unavailable, message))
    })
}

/// Reads a list of all instances; `None` if the server does not have the path.
fn read_entries(response: &Response) -> Result<Option<Vec<Entry>>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        code: Option<i64>,
        #[serde(default)]
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Data {
        /// Line 3.
        Entries(Vec<Entry>),
        /// Line 2. Without instances, the server omits the field.
        Page {
            #[serde(default)]
            instances: Vec<Entry>,
        },
        /// Not a list, such as the text of an error.
        Other(serde::de::IgnoredAny),
    }
    impl Default for Data {
        fn default() -> Self {
            Self::Other(serde::de::IgnoredAny)
        }
    }
    match (response.status, serde_json::from_str(&response.text)) {
        (200, Ok(Answer { data: Data::Entries(entries) | Data::Page { instances: entries }, .. })) => Ok(Some(entries)),
        // A status 404 with a code is an answer: the service does not exist.
        (404, Ok(Answer { code: Some(_), .. })) => Ok(Some(Vec::new())),
        (404 | 405 | 410 | 501, _) => Ok(None),
        (status, _) => Err(unexpected("a query for the instances of a service", status)),
    }
}

fn unexpected(request: &str, status: u16) -> Error {
    Error::not_executed(Code::Unavailable, format!("a Nacos server answered {request} with status {status}"))
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, text: &str) -> Result<Option<Vec<Entry>>, Error> {
        read_entries(&Response { status, text: text.to_owned() })
    }

    #[test]
    fn lists_of_lines_2_and_3_are_read() {
        let list = r#"[{"ip":"10.0.0.1","port":1,"weight":2.0,"healthy":true,"enabled":false,"clusterName":"DEFAULT",
            "metadata":{"protocol":"msnb"}},{"ip":"some.host","port":2}]"#;
        for text in [format!(r#"{{"code":0,"data":{list}}}"#), format!(r#"{{"code":0,"data":{{"instances":{list}}}}}"#)]
        {
            let entries = read(200, &text).unwrap().unwrap();
            let instance = Instance::new(([10, 0, 0, 1], 1).into()).with_weight(2.0).with_enabled(false);
            assert_eq!(entries[0].instance(), Some(instance.with_metadata("protocol", "msnb")));
            assert_eq!(entries[1].instance(), None);
        }
        assert_eq!(read(404, r#"{"code":30000,"data":"service a@@b is not found!"}"#).unwrap(), Some(Vec::new()));
        assert_eq!(read(404, "").unwrap(), None);
        assert_eq!(read(500, "fault").unwrap_err().code(), Code::Unavailable);
    }
}
