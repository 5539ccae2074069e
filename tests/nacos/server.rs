//! [`NacosServer`]: a real Nacos server, which a test can kill, restart, pause and administer.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
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

use super::{
    http,
    kind::ServerKind,
    listed::ListedInstance,
    official::{self, Line},
    ports::{GRPC_OFFSET, free_ports},
    r_nacos,
};
use crate::process;

/// A server on free ports of this machine, with its own data directory. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct NacosServer {
    pub(super) kind: ServerKind,
    /// The HTTP port.
    pub(super) http: u16,
    data: tempfile::TempDir,
    /// Whether clients must log in.
    auth: bool,
    /// The HTTP ports of all members of the cluster; empty for a single server.
    pub(super) members: Vec<u16>,
    pub(super) process: Option<Child>,
}

impl NacosServer {
    /// Starts an r-nacos server, and waits until it serves.
    pub async fn start() -> Self {
        Self::start_kind(ServerKind::RNacos).await
    }

    /// Starts a server of an [available](ServerKind::is_available) kind, and waits until it serves.
    pub async fn start_kind(kind: ServerKind) -> Self {
        Self::start_with(kind, false).await
    }

    /// Starts a server that accepts only the user of [`credentials`](Self::credentials).
    pub async fn start_with_user(kind: ServerKind) -> Self {
        Self::start_with(kind, true).await
    }

    /// Selects ports and a directory for a server without a process, which [`restart`](Self::restart) starts.
    pub fn stopped(kind: ServerKind) -> Self {
        let data = tempfile::tempdir().expect("the server's data directory can be created");
        Self { kind, http: free_ports(), data, auth: false, members: Vec::new(), process: None }
    }

    async fn start_with(kind: ServerKind, auth: bool) -> Self {
        let mut server = Self::stopped(kind);
        server.auth = auth;
        // Another process may have taken a port since the search.
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

    /// Returns the URL for `rpc_registry::connect`, without parameters.
    pub fn url(&self) -> String {
        format!("nacos://127.0.0.1:{}", self.http)
    }

    /// Returns the name and password of the only user of a server that [`start_with_user`](Self::start_with_user) started.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        self.kind.user()
    }

    /// Kills the process like a crash. [`restart`](Self::restart) starts it again.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Kills the process if it runs, starts it on the same ports with the same data, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch().await.expect("the server starts on its ports");
    }

    /// Suspends the process: its connections stay open, but it does not respond.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a suspended process.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns the healthy and enabled instances of a service in the default group, sorted by address.
    pub async fn instances(&self, service: &ServiceId) -> Vec<ListedInstance> {
        #[derive(Deserialize)]
        struct List {
            hosts: Vec<ListedInstance>,
        }
        let service = service.to_string();
        let parameters = [("serviceName", &*service), ("groupName", GROUP), ("healthyOnly", "true")];
        let body = http::request("GET", self.http, "/nacos/v1/ns/instance/list", &parameters).await;
        let body = body.expect("the server answers");
        let List { mut hosts } = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        hosts.retain(|host| host.healthy && host.enabled);
        hosts.sort_by_key(ListedInstance::address);
        hosts
    }

    /// Waits without a limit until `wanted` accepts the [`instances`](Self::instances) of a service; returns them.
    pub async fn wait_for(
        &self,
        service: &ServiceId,
        wanted: impl Fn(&[ListedInstance]) -> bool,
    ) -> Vec<ListedInstance> {
        loop {
            let listed = self.instances(service).await;
            if wanted(&listed) {
                return listed;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Sets weight, metadata and the enabled flag of an instance, as an operator does in the console.
    pub async fn administer(&self, service: &ServiceId, instance: &ListedInstance) {
        self.send("PUT", service, instance).await;
    }

    /// Registers an instance as another program does. Its IP address may be a host name.
    pub async fn register(&self, service: &ServiceId, instance: &ListedInstance) {
        self.send("POST", service, instance).await;
    }

    /// Publishes a configuration in the default group, as an operator does in the console.
    pub async fn publish(&self, data_id: &str, content: &str) {
        self.configure("POST", data_id, Some(content)).await;
    }

    /// Removes a configuration.
    pub async fn unpublish(&self, data_id: &str) {
        self.configure("DELETE", data_id, None).await;
    }

    async fn configure(&self, method: &str, data_id: &str, content: Option<&str>) {
        let (path, group) = match self.kind {
            ServerKind::RNacos | ServerKind::Official2 => ("/nacos/v1/cs/configs", "group"),
            ServerKind::Official3 => ("/nacos/v3/admin/cs/config", "groupName"),
        };
        let mut parameters = vec![("dataId", data_id), (group, GROUP)];
        parameters.extend(content.map(|content| ("content", content)));
        http::request(method, self.http, path, &parameters).await.expect("the server accepts the request");
    }

    async fn send(&self, method: &str, service: &ServiceId, instance: &ListedInstance) {
        let service = service.to_string();
        let port = instance.port.to_string();
        let weight = instance.weight.to_string();
        let enabled = instance.enabled.to_string();
        let metadata = serde_json::to_string(&instance.metadata).expect("metadata is serializable");
        let path = match self.kind {
            ServerKind::RNacos | ServerKind::Official2 => "/nacos/v1/ns/instance",
            ServerKind::Official3 => "/nacos/v3/admin/ns/instance",
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
        http::request(method, self.http, path, &parameters).await.expect("the server accepts the request");
    }

    fn signal(&self, signal: Signal) {
        process::send(self.process.as_ref().expect("the server runs").id(), signal);
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    ///
    /// Returns an error with the server's log if the process ends or does not serve in time.
    pub(super) async fn launch(&mut self) -> io::Result<()> {
        let (kind, http, directory) = (self.kind, self.http, self.data.path().to_owned());
        let (auth, members) = (self.auth, self.members.clone());
        // The call may build or download the program.
        let command = tokio::task::spawn_blocking(move || match kind.line() {
            None => r_nacos::command(http, &directory, auth.then(|| kind.user())),
            Some(line) => official::command(line, http, &directory, auth, &members),
        });
        let mut command: Command = command.await.expect("the command of the server is available");
        let log = File::create(self.data.path().join("log"))?;
        command.current_dir(self.data.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn()?);
        timeout(kind.start_timeout(), self.until_ready())
            .await
            .map_err(|_| self.failure("the server does not serve in time"))?
    }

    /// Waits until the server serves; returns an error if the process ends first.
    async fn until_ready(&mut self) -> io::Result<()> {
        loop {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                return Err(self.failure(&format!("the server ended with {status}")));
            }
            if self.is_ready().await {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
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
        if self.kind == ServerKind::Official3 {
            // Line 3 has no user before this request. After a restart it has one, and rejects the request.
            let _ = http::request("POST", self.http, "/nacos/v3/auth/user/admin", &[("password", password)]).await;
        }
        let login = self.kind.line().map_or("/nacos/v1/auth/login", Line::login);
        // Servers accept logins some time after they begin to serve.
        http::request("POST", self.http, login, &[("username", username), ("password", password)]).await.is_ok()
    }

    fn failure(&self, problem: &str) -> io::Error {
        let log = fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        io::Error::other(format!("{problem}; log of the server: {log}"))
    }
}

impl Drop for NacosServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The group of services whose URL names none.
const GROUP: &str = "DEFAULT_GROUP";

/// The interval between two polls of a server.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
