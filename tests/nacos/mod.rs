//! [`NacosServer`]: a real Nacos server for one test, which can be killed, restarted, paused and administered.

mod cluster;
pub(crate) mod http;
mod official;
mod r_nacos;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rpc_core::ServiceId;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

pub use self::cluster::NacosCluster;
use self::official::Line;
use crate::process;

/// A program that serves Nacos' protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// r-nacos, written in Rust. It needs only what the tests need, so it is always there.
    RNacos,
    /// The official server 2.3.2. It needs Java 17 and Maven.
    Official2,
    /// The official server 3.1.0. It needs Java 17 and Maven.
    Official3,
}

/// A server on free ports of this machine, with data of its own. It ends when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct NacosServer {
    kind: Kind,
    http: u16,
    data: tempfile::TempDir,
    auth: bool,
    members: Vec<u16>,
    process: Option<Child>,
}

/// An instance as a server's HTTP interface lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Listed {
    /// Its IP address.
    pub ip: String,
    /// Its port.
    pub port: u16,
    /// Its weight.
    pub weight: f64,
    /// Whether Nacos believes that it lives.
    pub healthy: bool,
    /// Whether an operator allows it to be called.
    pub enabled: bool,
    /// Its metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Listed {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        format!("{}:{}", self.ip, self.port).parse().expect("a listed instance has an address")
    }
}

/// How far the gRPC port is above the HTTP port. Nacos' clients take it for granted.
const GRPC_OFFSET: u16 = 1000;

/// The ports of an official server relative to its HTTP port: raft, HTTP, gRPC for clients, gRPC for members. r-nacos uses two of them.
const PORTS: [i32; 4] = [-1000, 0, 1000, 1001];

impl Kind {
    /// Whether such a server can run on this machine. If it cannot, prints a line that begins with `SKIPPED` and says why.
    pub fn is_available(self) -> bool {
        let missing = match self {
            Self::RNacos => None,
            Self::Official2 | Self::Official3 => official::unavailable(),
        };
        if let Some(missing) = &missing {
            eprintln!("SKIPPED with {self:?}: {missing}; Debian has the packages openjdk-17-jdk-headless and maven");
        }
        missing.is_none()
    }

    fn line(self) -> Option<Line> {
        match self {
            Self::RNacos => None,
            Self::Official2 => Some(Line::Two),
            Self::Official3 => Some(Line::Three),
        }
    }

    /// The longest that a server may take to start, on a machine that is busy with other tests.
    fn start(self) -> Duration {
        Duration::from_secs(if self == Self::RNacos { 30 } else { 240 })
    }

    /// The name and password of the user that a server with authentication knows.
    fn user(self) -> (&'static str, &'static str) {
        match self {
            Self::RNacos => ("bo", "hunter2"),
            // Line 2 has this user from the start, and line 3 takes no other name for its first one.
            Self::Official2 | Self::Official3 => ("nacos", "nacos"),
        }
    }
}

impl NacosServer {
    /// Starts an r-nacos server, and returns once it serves.
    pub async fn start() -> Self {
        Self::start_kind(Kind::RNacos).await
    }

    /// Starts a server of this kind, which must be [available](Kind::is_available), and returns once it serves.
    pub async fn start_kind(kind: Kind) -> Self {
        Self::start_with(kind, false).await
    }

    /// Starts a server which serves nobody but the user of [`credentials`](Self::credentials).
    pub async fn start_with_user(kind: Kind) -> Self {
        Self::start_with(kind, true).await
    }

    /// Chooses ports and a directory, without a process on them: a server that is [`restart`](Self::restart)ed later.
    pub fn absent(kind: Kind) -> Self {
        let data = tempfile::tempdir().expect("a directory for the server's data can be made");
        Self { kind, http: free_ports(), data, auth: false, members: Vec::new(), process: None }
    }

    async fn start_with(kind: Kind, auth: bool) -> Self {
        let mut server = Self::absent(kind);
        server.auth = auth;
        // Ports that were free may have been taken meanwhile.
        for _ in 0..5 {
            match server.launch().await {
                Ok(()) => return server,
                Err(error) => eprintln!("{kind:?} did not start on port {}: {error}", server.http),
            }
            server.kill();
            server.http = free_ports();
        }
        panic!("{kind:?} did not start");
    }

    /// The URL for `rpc_registry::connect`, without parameters.
    pub fn url(&self) -> String {
        format!("nacos://127.0.0.1:{}", self.http)
    }

    /// The name and password of the one user whom a server that was [started with a user](Self::start_with_user) serves.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        self.kind.user()
    }

    /// Ends the process as a crash would. It may be [`restart`](Self::restart)ed.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Starts the process on the same ports with the same data, after it was killed if it lives; and returns once it serves.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch().await.expect("the server starts again on its ports");
    }

    /// Stops the process without ending it: its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The healthy and enabled instances of a service in the default group, by address, as the server lists them over HTTP.
    pub async fn instances(&self, service: &ServiceId) -> Vec<Listed> {
        #[derive(Deserialize)]
        struct List {
            hosts: Vec<Listed>,
        }
        let service = service.to_string();
        let parameters = [("serviceName", &*service), ("groupName", GROUP), ("healthyOnly", "true")];
        let body = http::request("GET", self.http, "/nacos/v1/ns/instance/list", &parameters).await;
        let body = body.expect("the server answers");
        let List { mut hosts } = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        hosts.retain(|host| host.healthy && host.enabled);
        hosts.sort_by_key(Listed::address);
        hosts
    }

    /// Waits until `wanted` is true of what [`instances`](Self::instances) returns. There is no end: a test has its own.
    pub async fn wait_for(&self, service: &ServiceId, wanted: impl Fn(&[Listed]) -> bool) -> Vec<Listed> {
        loop {
            let listed = self.instances(service).await;
            if wanted(&listed) {
                return listed;
            }
            sleep(POLL).await;
        }
    }

    /// Changes an instance as an operator does in the console: its weight, its metadata, and whether it may be called.
    pub async fn administer(&self, service: &ServiceId, instance: &Listed) {
        let service = service.to_string();
        let port = instance.port.to_string();
        let weight = instance.weight.to_string();
        let enabled = instance.enabled.to_string();
        let metadata = serde_json::to_string(&instance.metadata).expect("text is JSON");
        let path = match self.kind {
            Kind::RNacos | Kind::Official2 => "/nacos/v1/ns/instance",
            Kind::Official3 => "/nacos/v3/admin/ns/instance",
        };
        let parameters = [
            ("serviceName", &*service),
            ("groupName", GROUP),
            ("clusterName", "DEFAULT"),
            ("ip", &instance.ip),
            ("port", &port),
            ("weight", &weight),
            ("enabled", &enabled),
            ("metadata", &metadata),
            ("ephemeral", "true"),
        ];
        http::request("PUT", self.http, path, &parameters).await.expect("the server takes the change");
    }

    fn signal(&self, signal: Signal) {
        process::send(self.process.as_ref().expect("the server was started").id(), signal);
    }

    async fn launch(&mut self) -> io::Result<()> {
        let (kind, http, directory) = (self.kind, self.http, self.data.path().to_owned());
        let (auth, members) = (self.auth, self.members.clone());
        // Finding the program may build or fetch it.
        let command = tokio::task::spawn_blocking(move || match kind.line() {
            None => r_nacos::command(http, &directory, auth.then(|| kind.user())),
            Some(line) => official::command(line, http, &directory, auth, &members),
        });
        let mut command: Command = command.await.expect("finding the server does not panic");
        let log = File::create(self.data.path().join("log"))?;
        command.current_dir(self.data.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn()?);
        timeout(kind.start(), self.serves()).await.map_err(|_| self.failure("it does not serve"))?
    }

    /// Returns once the server serves, or fails once the process has ended.
    async fn serves(&mut self) -> io::Result<()> {
        loop {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                return Err(self.failure(&format!("it ended with {status}")));
            }
            if self.is_ready().await {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, self.http + GRPC_OFFSET));
        let readiness = self.kind.line().map_or("/health", Line::readiness);
        if http::get(self.http, readiness).await.is_err() || TcpStream::connect(grpc).await.is_err() {
            return false;
        }
        if !self.auth {
            return true;
        }
        let (username, password) = self.credentials();
        if self.kind == Kind::Official3 {
            // It has no user until it is given one. It has one after a restart, and says so.
            let _ = http::request("POST", self.http, "/nacos/v3/auth/user/admin", &[("password", password)]).await;
        }
        let login = self.kind.line().map_or("/nacos/v1/auth/login", Line::login);
        // Servers know their users some time after they began to serve.
        http::request("POST", self.http, login, &[("username", username), ("password", password)]).await.is_ok()
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        io::Error::other(format!("{what}; it said: {log}"))
    }
}

impl Drop for NacosServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The group that services are in unless a URL says otherwise.
const GROUP: &str = "DEFAULT_GROUP";

/// The pause between two questions to a server.
const POLL: Duration = Duration::from_millis(50);

/// An HTTP port that is free together with the other ports of a server.
///
/// Below the range from which systems choose by themselves, so that no client's socket takes one before the server does.
fn free_ports() -> u16 {
    let free = |port: i32| u16::try_from(port).is_ok_and(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    (0..1000)
        .map(|_| rand::random_range(12_000..31_000))
        .find(|http| PORTS.iter().all(|offset| free(i32::from(*http) + offset)))
        .expect("the ports of a server are free")
}

/// The directory for the programs that tests fetch or build.
fn tools() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    let tools = workspace.join("target/tools");
    fs::create_dir_all(&tools).expect("a directory for tools can be made");
    tools
}
