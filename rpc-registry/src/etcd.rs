//! [`Etcd`]: etcd, over the JSON form of its API, version 3.
//!
//! | key | value |
//! |---|---|
//! | `<prefix>/msnb/<service>/<address>` | with a lease: JSON of a registration |
//! | `<prefix>/msnb/<service>/<address>~change` | without a lease: JSON of a change of an operator |
//!
//! Source: `rpc.swagger.json` in the repository of etcd, and "gRPC gateway" in its documentation. etcd's clients for gRPC
//! need the program `protoc` at compile time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use reqwest::{Client, Response};
use rpc_core::{Code, Error};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    address::HostPort,
    directory::{
        Directory,
        engine::{Changes, Engine, Failure, Session},
        entry::{Entry, Kind, MAX_ENTRIES},
    },
};

/// Providers in etcd 3.4 and later: `etcd://host:2379,host2:2379/prefix?username=&password=`.
///
/// A registration is a key with a lease: the cluster removes it when the provider deregisters, or 10 s after the provider's
/// process or network fails. The handle takes another lease when one ends, and registers again. While the cluster is
/// unreachable, watches keep their last list.
///
/// User and password are percent-encoded in the URL. TLS is not supported.
///
/// # Drop
///
/// Removes the registrations made through this handle and ends its watches.
pub struct Etcd(Directory<Cluster>);

/// The servers of a cluster.
struct Cluster {
    http: Client,
    servers: Vec<HostPort>,
    root: String,
    user: Option<(String, String)>,
}

/// A lease, and the server that granted it.
struct EtcdSession {
    http: Client,
    server: String,
    root: String,
    token: Option<String>,
    lease: String,
    /// When the server last confirmed the lease.
    confirmed: Mutex<Instant>,
}

/// The changes of keys after a revision.
struct KeyChanges {
    response: Response,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct KeptAlive {
    result: Option<TimeToLive>,
}

#[derive(Deserialize)]
struct TimeToLive {
    /// Absent if the lease does not exist any more.
    #[serde(rename = "TTL")]
    ttl: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Authenticated {
    token: String,
}

#[derive(Deserialize)]
struct Anything {}

impl Etcd {
    /// Connects in the background.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the URL is invalid.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O and time drivers enabled.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let EtcdUrl { servers, prefix, user } = EtcdUrl::parse(url)?;
        let http = Client::builder().connect_timeout(CONNECT_TIME).no_proxy().build().map_err(|cause| {
            Error::not_executed(Code::Internal, "cannot create the HTTP client for etcd").with_source(cause)
        })?;
        let hosts = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let url = format!("etcd://{hosts}{prefix}");
        let cluster = Cluster { http, servers: servers.clone(), root: format!("{prefix}/msnb"), user };
        Ok(Self(Directory::start(cluster, url, servers)))
    }
}

impl Engine for Cluster {
    type Session = EtcdSession;

    async fn connect(&self) -> Result<EtcdSession, Failure> {
        let mut failure = Failure::new("no server");
        for server in &self.servers {
            let mut session = EtcdSession {
                http: self.http.clone(),
                server: server.to_string(),
                root: self.root.clone(),
                token: None,
                lease: String::new(),
                confirmed: Mutex::new(Instant::now()),
            };
            match session.open(self.user.as_ref()).await {
                Ok(()) => return Ok(session),
                Err(error) => failure = Failure::new(format_args!("{server}: {error}")),
            }
        }
        Err(failure)
    }
}

impl EtcdSession {
    async fn open(&mut self, user: Option<&(String, String)>) -> Result<(), Failure> {
        if let Some((name, password)) = user {
            let answer: Authenticated =
                self.ask("auth/authenticate", &json!({ "name": name, "password": password })).await?;
            self.token = Some(answer.token);
        }
        let Granted { id } = self.ask("lease/grant", &json!({ "TTL": LEASE_TIME.as_secs() })).await?;
        self.lease = id;
        Ok(())
    }

    /// Sends a request and returns the start of its answer.
    async fn send(&self, method: &str, body: &impl Serialize) -> Result<Response, Failure> {
        let body = serde_json::to_vec(body).map_err(Failure::new)?;
        let url = format!("http://{}/v3/{method}", self.server);
        let mut request = self.http.post(url).header("Content-Type", "application/json").body(body);
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let answer = timeout(ANSWER_TIME, request.send()).await;
        let answer = answer.map_err(|_| unanswered(method))?.map_err(|error| Failure::new(error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = timeout(ANSWER_TIME, answer.text()).await.map_err(|_| unanswered(method))?.unwrap_or_default();
        let end = text.floor_char_boundary(MAX_CAUSE.min(text.len()));
        Err(Failure::new(format_args!("{method} was answered with {status}: {}", text[..end].trim())))
    }

    /// Sends a request and returns its answer.
    async fn ask<T: DeserializeOwned>(&self, method: &str, body: &impl Serialize) -> Result<T, Failure> {
        let answer = self.send(method, body).await?;
        let bytes = timeout(ANSWER_TIME, answer.bytes()).await.map_err(|_| unanswered(method))?;
        let bytes = bytes.map_err(|error| Failure::new(error.without_url()))?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(format_args!("{method}: {error}")))
    }

    fn key(&self, service: &str, name: &str) -> String {
        format!("{}/{service}/{name}", self.root)
    }

    /// Returns the keys that start with `prefix`.
    async fn range(&self, prefix: &str, keys_only: bool) -> Result<Range, Failure> {
        let (key, range_end) = bounds(prefix);
        let limit = if keys_only { 0 } else { MAX_ENTRIES };
        self.ask("kv/range", &json!({ "key": key, "range_end": range_end, "keys_only": keys_only, "limit": limit }))
            .await
    }

    async fn keep_alive(&self) -> Result<(), Failure> {
        let kept: KeptAlive = self.ask("lease/keepalive", &json!({ "ID": self.lease })).await?;
        if kept.result.and_then(|result| result.ttl).is_none() {
            return Err(Failure::new("the lease has expired"));
        }
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }
}

impl Session for EtcdSession {
    type Changes = KeyChanges;

    async fn put(&self, service: &str, entry: &Entry) -> Result<(), Failure> {
        let lease = if entry.kind == Kind::Provider { &*self.lease } else { "0" };
        let key = BASE64.encode(self.key(service, &entry.name()).as_bytes());
        let value = BASE64.encode(entry.data.as_bytes());
        let _: Anything = self.ask("kv/put", &json!({ "key": key, "value": value, "lease": lease })).await?;
        Ok(())
    }

    async fn remove(&self, service: &str, entry: &Entry) -> Result<(), Failure> {
        let key = BASE64.encode(self.key(service, &entry.name()).as_bytes());
        let _: Anything = self.ask("kv/deleterange", &json!({ "key": key })).await?;
        Ok(())
    }

    async fn list(&self, service: &str) -> Result<(Vec<Entry>, KeyChanges), Failure> {
        let prefix = self.key(service, "");
        let Range { header, kvs } = self.range(&prefix, false).await?;
        let revision: u64 = header.revision.parse().map_err(Failure::new)?;
        let (key, range_end) = bounds(&prefix);
        let watch = json!({ "create_request": {
            "key": key, "range_end": range_end, "start_revision": (revision + 1).to_string(), "progress_notify": true,
        }});
        let response = self.send("watch", &watch).await?;
        let entries = kvs.iter().filter_map(|kv| {
            let name = decode(&kv.key)?;
            Entry::parse(std::str::from_utf8(&name).ok()?.strip_prefix(&prefix)?, &decode(&kv.value)?)
        });
        Ok((entries.collect(), KeyChanges { response }))
    }

    async fn services(&self) -> Result<Vec<String>, Failure> {
        let prefix = format!("{}/", self.root);
        let keys = self.range(&prefix, true).await?.kvs;
        let mut services: Vec<String> = keys
            .iter()
            .filter_map(|kv| {
                let key = String::from_utf8(decode(&kv.key)?).ok()?;
                let (service, name) = key.strip_prefix(&prefix)?.split_once('/')?;
                Entry::parse(name, b"{}").filter(|entry| entry.kind == Kind::Provider)?;
                Some(service.to_owned())
            })
            .collect();
        services.sort();
        services.dedup();
        Ok(services)
    }

    async fn ended(&self) -> Failure {
        loop {
            let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            sleep(KEEP_ALIVE_INTERVAL.saturating_sub(confirmed.elapsed())).await;
            if let Err(failure) = self.keep_alive().await {
                return failure;
            }
        }
    }

    async fn close(&self) {
        let _ = self.ask::<Anything>("lease/revoke", &json!({ "ID": self.lease })).await;
    }
}

impl Changes for KeyChanges {
    async fn changed(mut self) -> Result<(), Failure> {
        let mut line = Vec::new();
        loop {
            let chunk = self.response.chunk().await.map_err(|error| Failure::new(error.without_url()))?;
            let Some(chunk) = chunk else { return Err(Failure::new("the watch ended")) };
            for byte in chunk {
                if byte != b'\n' {
                    if line.len() == MAX_LINE {
                        // Whatever it says, the list may have changed.
                        return Ok(());
                    }
                    line.push(byte);
                    continue;
                }
                if is_change(&line)? {
                    return Ok(());
                }
                line.clear();
            }
        }
    }
}

/// Returns whether a message of a watch reports a change.
fn is_change(line: &[u8]) -> Result<bool, Failure> {
    let message: Value = serde_json::from_slice(line).map_err(Failure::new)?;
    let result = &message["result"];
    if let Some(error) = message.get("error") {
        return Err(Failure::new(error));
    }
    // A watch is cancelled if its revision was compacted; the next list has another revision.
    Ok(result["canceled"] == true || result["events"].as_array().is_some_and(|events| !events.is_empty()))
}

/// Returns the bounds of the keys that start with `prefix`, which ends with a slash, in base64.
fn bounds(prefix: &str) -> (String, String) {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // A slash, which is not the highest byte.
        *last += 1;
    }
    (BASE64.encode(prefix.as_bytes()), BASE64.encode(&end))
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    BASE64.decode(base64.as_bytes()).ok()
}

fn unanswered(method: &str) -> Failure {
    Failure::new(format_args!("{method} was not answered within {ANSWER_TIME:?}"))
}

/// The parts of a URL.
#[derive(Debug, PartialEq)]
struct EtcdUrl {
    servers: Vec<HostPort>,
    /// Without a slash at its end.
    prefix: String,
    user: Option<(String, String)>,
}

impl EtcdUrl {
    fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || {
            let message = "invalid etcd URL, expected `etcd://host:2379,host2:2379/prefix?username=&password=`";
            Error::not_executed(Code::InvalidArgument, message)
        };
        let rest = text.strip_prefix("etcd://").ok_or_else(invalid)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains(['@', '#']) || rest.contains(char::is_whitespace) {
            return Err(invalid());
        }
        let (hosts, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let servers = hosts.split(',').map(|host| HostPort::parse(host, Some(PORT))).collect::<Result<_, _>>()?;
        let (mut username, mut password) = (None, None);
        for (key, value) in url::form_urlencoded::parse(parameters.replace('+', "%2B").as_bytes()) {
            match &*key {
                "username" => username = Some(value.into_owned()),
                "password" => password = Some(value.into_owned()),
                _ => return Err(invalid()),
            }
        }
        let user = match (username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            _ => return Err(invalid()),
        };
        Ok(Self { servers, prefix: prefix.trim_end_matches('/').to_owned(), user })
    }
}

const PORT: u16 = 2379;
/// The time after which the cluster removes the registrations of a process that does not answer.
const LEASE_TIME: Duration = Duration::from_secs(10);
/// The time between two confirmations of the lease.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// The time limit of a request.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// The longest message of a watch that is parsed, in bytes; a longer one counts as a change.
const MAX_LINE: usize = 1 << 20;
/// The longest part of an error of the server in a message, in bytes.
const MAX_CAUSE: usize = 256;

crate::directory::delegate!(Etcd);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_hosts_a_prefix_and_a_user() {
        let parsed = EtcdUrl::parse("etcd://a,b:1/x/?username=u&password=p%26").unwrap();
        let servers: Vec<_> = parsed.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["a:2379", "b:1"]);
        assert_eq!((&*parsed.prefix, parsed.user), ("/x", Some(("u".to_owned(), "p&".to_owned()))));
        for bad in ["etcd:a", "etcd://", "etcd://u@a", "etcd://a?username=u", "etcd://a?x=y", "etcd://a:0"] {
            assert_eq!(EtcdUrl::parse(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn bounds_contain_the_keys_below_a_prefix() {
        let (start, end) = bounds("/msnb/a:1/");
        assert_eq!((decode(&start).unwrap(), decode(&end).unwrap()), (b"/msnb/a:1/".to_vec(), b"/msnb/a:10".to_vec()));
    }

    #[test]
    fn only_events_are_changes() {
        assert!(is_change(br#"{"result":{"header":{},"events":[{"kv":{}}]}}"#).unwrap());
        assert!(is_change(br#"{"result":{"canceled":true}}"#).unwrap());
        assert!(!is_change(br#"{"result":{"header":{},"created":true}}"#).unwrap());
        assert!(is_change(br#"{"error":{"message":"x"}}"#).is_err());
        assert!(is_change(b"x").is_err());
    }
}
