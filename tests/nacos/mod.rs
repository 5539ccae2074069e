//! [`NacosServer`]: a real Nacos server for one test binary, which can be killed, restarted and paused.
//!
//! The server is r-nacos, which speaks Nacos' protocol and needs nothing but itself. It is the binary that `RNACOS_BIN` names, else
//! `target/tools/bin/rnacos` of the workspace, which is built when it is not there: once, and that takes minutes.

use std::{
    ffi::OsString,
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
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::process;

/// A server on two free ports of this machine, with data of its own. It ends when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct NacosServer {
    binary: PathBuf,
    http: u16,
    data: tempfile::TempDir,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

/// An instance as the server's HTTP interface lists it.
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
    /// What it says of itself.
    #[serde(default)]
    pub metadata: std::collections::BTreeMap<String, String>,
}

impl Listed {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        format!("{}:{}", self.ip, self.port).parse().expect("a listed instance has an address")
    }
}

/// The version that is built.
const VERSION: &str = "0.8.8";

/// The longest that a server may take to start, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(30);

/// The longest that one question over HTTP may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How far the gRPC port is above the HTTP port. Nacos' clients take it for granted.
const GRPC_OFFSET: u16 = 1000;

impl NacosServer {
    /// Starts a server, and returns once it serves.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server which knows one user and serves nobody else.
    pub async fn start_with_user(username: &str, password: &str) -> Self {
        let server = Self::start_with(&[
            ("RNACOS_ENABLE_OPEN_API_AUTH", "true"),
            ("RNACOS_INIT_ADMIN_USERNAME", username),
            ("RNACOS_INIT_ADMIN_PASSWORD", password),
            // Asking whether the user is there yet counts.
            ("RNACOS_API_LOGIN_ONE_MINUTE_LIMIT", "100000"),
        ])
        .await;
        // It makes its first user some time after it began to serve.
        let login = format!("/nacos/v1/auth/login?username={username}&password={password}");
        let known = async {
            while get(server.http, &login).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START, known).await.expect("the server makes its user");
        server
    }

    /// Chooses ports and a directory, without a process on them: a server that is [`restart`](Self::restart)ed later.
    pub async fn absent() -> Self {
        let binary = tokio::task::spawn_blocking(binary).await.expect("finding the server does not panic");
        let data = tempfile::tempdir().expect("a directory for the server's data can be made");
        Self { binary, http: free_ports(), data, environment: Vec::new(), process: None }
    }

    async fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut server = Self::absent().await;
        server.environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        // Ports that were free may have been taken meanwhile.
        for _ in 0..5 {
            match server.launch().await {
                Ok(()) => return server,
                Err(error) => eprintln!("r-nacos did not start on port {}: {error}", server.http),
            }
            server.kill();
            server.http = free_ports();
        }
        panic!("r-nacos did not start");
    }

    /// The URL for `rpc_registry::connect`, without parameters.
    pub fn url(&self) -> String {
        format!("nacos://127.0.0.1:{}", self.http)
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
        let service = service.to_string().replace(':', "%3A");
        let path = format!("/nacos/v1/ns/instance/list?serviceName={service}&groupName=DEFAULT_GROUP&healthyOnly=true");
        let body = timeout(ANSWER, get(self.http, &path)).await.expect("the server answers in time");
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
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        process::send(self.process.as_ref().expect("the server was started").id(), signal);
    }

    async fn launch(&mut self) -> io::Result<()> {
        let log = File::create(self.data.path().join("log"))?;
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("RNACOS_HTTP_PORT", self.http.to_string())
            .env("RNACOS_GRPC_PORT", (self.http + GRPC_OFFSET).to_string())
            .env("RNACOS_HTTP_CONSOLE_PORT", "0")
            .env("RNACOS_SDK_HOST", "127.0.0.1")
            .env("RNACOS_DATA_DIR", self.data.path().join("data"))
            // Else the first metadata of an address sticks for ever.
            .env("RNACOS_NAMING_INSTANCE_METADATA_PERSISTENCE_ENABLE", "false")
            .env("RUST_LOG", "warn")
            .envs(self.environment.iter().cloned())
            .current_dir(self.data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(command.spawn()?);
        timeout(START, self.serves()).await.map_err(|_| self.failure("it does not serve"))?
    }

    /// Returns once the server serves, or fails once the process has ended.
    async fn serves(&mut self) -> io::Result<()> {
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, self.http + GRPC_OFFSET));
        loop {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                return Err(self.failure(&format!("it ended with {status}")));
            }
            if get(self.http, "/health").await.is_ok() && TcpStream::connect(grpc).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
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

/// The body of a successful answer.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // Version 1.0, so that the answer is in one piece and ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("the answer is {head}"))),
    }
}

/// An HTTP port that is free together with its gRPC port.
///
/// Below the range from which systems choose by themselves, so that no client's socket takes one before the server does.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..1000)
        .map(|_| rand::random_range(12_000..31_000))
        .find(|port| free(*port) && free(port + GRPC_OFFSET))
        .expect("two ports are free")
}

/// Finds the server, or builds it.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("RNACOS_BIN") {
        return named.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    let tools = workspace.join("target/tools");
    let binary = tools.join("bin/rnacos");
    if !binary.is_file() {
        fs::create_dir_all(&tools).expect("a directory for tools can be made");
        // Other test binaries may want it at the same time; one builds it and the others wait.
        let lock = File::create(tools.join("rnacos.lock")).expect("a file to lock can be made");
        lock.lock().expect("a file can be locked");
        if !binary.is_file() {
            build(&tools);
        }
    }
    binary
}

/// Builds the server into `tools`/bin.
fn build(tools: &Path) {
    eprintln!("building r-nacos {VERSION} into {}: this takes minutes, once", tools.display());
    let scratch = tools.join("build");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["install", "rnacos", "--version", VERSION, "--locked", "--debug", "--root"])
        .arg(tools)
        .env("CARGO_TARGET_DIR", &scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        .stdin(Stdio::null())
        .status()
        .expect("cargo runs");
    // It is large, and not needed again.
    let _ = fs::remove_dir_all(&scratch);
    assert!(status.success(), "r-nacos cannot be built; RNACOS_BIN may name a binary instead");
}
