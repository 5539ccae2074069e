//! [`Nodes`]: the nodes of an IM cluster as processes that tests kill, pause, drain and restart; and their [`Directory`].

use std::{
    fmt,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use rpc_im::client::{gate, health};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::{sleep, timeout},
};

use crate::{im_edge::metric, im_history, in_time, process, redis::RedisServer, relay::free_address};

/// The session directory of a cluster.
pub enum Directory {
    /// The directory in the memory of the storing node.
    Embedded,
    /// The directory in Redis.
    Redis(RedisServer),
}

/// Nodes with one secret, and with a client port each. Dropping this value kills them.
///
/// Unless the arguments name a store, node 0 has the store and the directory.
///
/// All methods panic on failure.
pub struct Nodes {
    nodes: Vec<Node>,
    _files: tempfile::TempDir,
}

/// One node, running or stopped. A restart uses the same ports and the same store.
struct Node {
    arguments: Vec<String>,
    listen: SocketAddr,
    log: PathBuf,
    process: Option<Running>,
}

/// A process that has reported its addresses.
struct Running {
    process: Child,
    /// Kept open: a process ends by SIGPIPE when it writes to a closed pipe.
    output: Lines<BufReader<ChildStdout>>,
}

/// Runs a case with each directory, both concurrently. Without a Redis server it reports the skip, and runs the embedded one.
pub async fn with_each_directory<F: Future<Output = ()>>(case: impl Fn(Directory) -> F) {
    let with_redis = async {
        if let Some(server) = RedisServer::start().await {
            case(Directory::Redis(server)).await;
        }
    };
    tokio::join!(case(Directory::Embedded), with_redis);
}

impl Directory {
    /// Starts `count` nodes with this directory, as [`Nodes::start`] does.
    pub async fn nodes(&self, count: usize, registry: &str, arguments: &[&str]) -> Nodes {
        match self {
            Self::Embedded => Nodes::start(count, registry, arguments).await,
            Self::Redis(server) => {
                let url = server.url();
                Nodes::start(count, registry, &[arguments, &["--directory", &url]].concat()).await
            }
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded directory",
            Self::Redis(_) => "directory in Redis",
        })
    }
}

impl Nodes {
    /// Starts `count` nodes that discover each other in `registry`, with additional arguments; waits until each sees all.
    pub async fn start(count: usize, registry: &str, arguments: &[&str]) -> Self {
        let registries: Vec<_> = (0..count).map(|_| (free_address(), registry.to_owned())).collect();
        Self::start_on(registries, arguments).await
    }

    /// Starts one node for each pair of RPC address and registry URL.
    pub async fn start_on(registries: Vec<(SocketAddr, String)>, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().expect("a directory can be made");
        let secret = files.path().join("secret");
        fs::write(&secret, "secret of all nodes of this test").expect("a file can be written");
        let storing_node = registries.first().expect("a cluster has a node").0;
        let mut nodes = Vec::new();
        for (number, (rpc, registry)) in registries.into_iter().enumerate() {
            let listen = free_address();
            let path = |name: &str| files.path().join(name).display().to_string();
            let mut all: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let has_store = all.iter().any(|argument| argument == "--store");
            for (name, value) in [
                ("--listen", listen.to_string()),
                ("--rpc", rpc.to_string()),
                ("--registry", registry),
                ("--name", (number + 1).to_string()),
                ("--store", if number == 0 { path("store") } else { format!("node://{storing_node}") }),
                ("--secret", path("secret")),
            ] {
                if name != "--store" || !has_store {
                    all.extend([name.to_owned(), value]);
                }
            }
            all.push("--dev-login".to_owned());
            let log = files.path().join(format!("log-{number}"));
            nodes.push(Node { arguments: all, listen, log, process: None });
        }
        let mut all = Self { nodes, _files: files };
        for number in 0..all.nodes.len() {
            all.start_node(number).await;
        }
        all.until_ready().await;
        all
    }

    /// Returns the base URL of each node, running or not: `http://host:port`.
    pub fn bases(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|number| self.base(number)).collect()
    }

    /// Returns the address of a node for other nodes.
    pub fn rpc(&self, number: usize) -> SocketAddr {
        let arguments = &self.nodes[number].arguments;
        let address = arguments.iter().skip_while(|argument| *argument != "--rpc").nth(1);
        address.and_then(|address| address.parse().ok()).expect("each node has the argument")
    }

    /// Returns the base URL of a node.
    pub fn base(&self, number: usize) -> String {
        format!("http://{}", self.nodes[number].listen)
    }

    /// Returns the addresses of all nodes for the clients of a history.
    pub fn addresses(&self) -> Vec<im_history::Node> {
        let address = |number| im_history::Node { base: self.base(number), url: self.websocket(number) };
        (0..self.nodes.len()).map(address).collect()
    }

    /// Returns the WebSocket URL that a node reports to clients.
    pub fn websocket(&self, number: usize) -> String {
        let Node { arguments, listen, .. } = &self.nodes[number];
        let argument = arguments.iter().skip_while(|argument| *argument != "--websocket").nth(1);
        argument.cloned().unwrap_or_else(|| format!("ws://{listen}/ws"))
    }

    /// Starts a stopped node, and waits until it listens. The other nodes may not see it yet.
    pub async fn start_node(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let arguments: Vec<_> = node.arguments.iter().map(String::as_str).collect();
        let log = File::options().create(true).append(true).open(&node.log).expect("a log can be written");
        let mut command = process::command("im-node", &arguments).await;
        command
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,rpc_im=debug".to_owned()))
            .env("NO_COLOR", "1")
            .stderr(log);
        let mut process = process::start(command);
        let mut output = BufReader::new(process.stdout.take().expect("the output is a pipe")).lines();
        let line = in_time(output.next_line()).await.expect("the output is text");
        assert!(
            line.is_some(),
            "the node ended before it listened: {}",
            fs::read_to_string(&node.log).unwrap_or_default()
        );
        node.process = Some(Running { process, output });
    }

    /// Kills a node with SIGKILL.
    pub async fn kill(&mut self, number: usize) {
        let Running { mut process, .. } = self.nodes[number].process.take().expect("the node runs");
        process.kill().await.expect("a running process can be killed");
    }

    /// Drains a node with SIGTERM, and waits until it has ended; returns its exit status.
    pub async fn drain(&mut self, number: usize) -> ExitStatus {
        self.signal(number, Signal::TERM);
        self.ended(number).await
    }

    /// Waits until a node has ended; returns its exit status.
    pub async fn ended(&mut self, number: usize) -> ExitStatus {
        let Running { mut process, mut output } = self.nodes[number].process.take().expect("the node runs");
        in_time(async {
            while let Ok(Some(_)) = output.next_line().await {}
            process.wait().await.expect("a child process can be waited for")
        })
        .await
    }

    /// Suspends a node with SIGSTOP: its connections stay open, but it does not respond.
    pub fn pause(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Resumes a suspended node with SIGCONT.
    pub fn resume(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    /// Waits until all running nodes accept logins and see exactly each other.
    pub async fn until_ready(&self) {
        let running: Vec<_> = self.running().collect();
        for number in &running {
            self.until_sees(*number, &running).await;
        }
    }

    /// Waits until a node accepts logins and sees exactly these nodes.
    pub async fn until_sees(&self, number: usize, others: &[usize]) {
        let mut wanted: Vec<_> = others.iter().map(|other| self.websocket(*other)).collect();
        wanted.sort();
        let mut seen = None;
        let sees = async {
            loop {
                if let (Ok(true), Ok(nodes)) = (health(&self.base(number)).await, gate(&self.base(number)).await) {
                    let nodes = seen.insert(nodes);
                    nodes.sort();
                    if *nodes == wanted {
                        return;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(Duration::from_secs(60), sees).await.is_err() {
            panic!("node {number} sees {seen:?} after 60 s, expected {wanted:?}");
        }
    }

    /// Waits until the running nodes have this many sessions in total.
    pub async fn until_sessions(&self, wanted: u64) {
        let mut last = 0;
        let counted = async {
            loop {
                last = 0;
                for number in self.running() {
                    last += self.metric(number, "im_sessions").await;
                }
                if last == wanted {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(Duration::from_secs(60), counted).await.is_err() {
            panic!("the nodes have {last} sessions after 60 s, expected {wanted}");
        }
    }

    /// Returns the value of a metric of a node.
    pub async fn metric(&self, number: usize, name: &str) -> u64 {
        let text =
            crate::nacos::http::get(self.nodes[number].listen.port(), "/metrics").await.expect("the node responds");
        metric(&text, name)
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].process.is_some())
    }

    fn signal(&self, number: usize, signal: Signal) {
        let running = self.nodes[number].process.as_ref().expect("the node runs");
        process::send(running.process.id().expect("the process has not been waited for"), signal);
    }
}

impl Drop for Nodes {
    /// After a failed test, prints the last log lines of the nodes.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(kept) = std::env::var_os("MSNB_KEEP_LOGS") {
            for (number, node) in self.nodes.iter().enumerate() {
                let _ = fs::create_dir_all(&kept);
                let _ = fs::copy(&node.log, PathBuf::from(&kept).join(format!("log-{number}")));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let log = fs::read_to_string(&node.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("DEBUG")).collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("--- node {number}, {}:\n{}", node.listen, last.join("\n"));
        }
    }
}

/// The number of log lines of each node that are printed after a failed test.
const LAST_LINES: usize = 25;
