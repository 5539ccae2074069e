//! [`Nodes`]: the nodes of an IM cluster as processes that tests kill, pause, end and start again; and their [`Directory`].

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

use crate::{im_edge::metric, in_time, process, redis::RedisServer, relay::free_address};

/// Who knows which user is where.
pub enum Directory {
    /// The nodes themselves.
    Embedded,
    /// A Redis.
    Redis(RedisServer),
}

/// Nodes whose clients and stores are their own, and whose secret is the same. They are killed when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct Nodes {
    nodes: Vec<Node>,
    _files: tempfile::TempDir,
}

/// One node, which may not run at the moment. It is started again on its ports, with its store.
struct Node {
    arguments: Vec<String>,
    listen: SocketAddr,
    log: PathBuf,
    process: Option<Running>,
}

/// A process that has said that it listens.
struct Running {
    process: Child,
    /// Kept: a process whose output nobody takes dies of it.
    output: Lines<BufReader<ChildStdout>>,
}

/// Runs a case with each directory, both at the same time; without a Redis it says so, and runs with the other one.
pub async fn with_each_directory<F: Future<Output = ()>>(case: impl Fn(Directory) -> F) {
    let with_redis = async {
        if let Some(server) = RedisServer::start().await {
            case(Directory::Redis(server)).await;
        }
    };
    tokio::join!(case(Directory::Embedded), with_redis);
}

impl Directory {
    /// Starts so many nodes that have this directory and find each other in `registry`, as [`Nodes::start`] does.
    pub async fn nodes(&self, count: usize, registry: &str, arguments: &[&str]) -> Nodes {
        match self {
            Self::Embedded => Nodes::start(count, registry, arguments).await,
            Self::Redis(server) => {
                let url = server.url();
                Nodes::start(count, registry, &[arguments, &["--redis", &url]].concat()).await
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
    /// Starts so many nodes that find each other in `registry`, with further arguments for each; returns once each sees all.
    pub async fn start(count: usize, registry: &str, arguments: &[&str]) -> Self {
        let registries: Vec<_> = (0..count).map(|_| (free_address(), registry.to_owned())).collect();
        Self::start_on(registries, arguments).await
    }

    /// Starts nodes, each with the address where it listens for others and the registry in which it finds them.
    pub async fn start_on(registries: Vec<(SocketAddr, String)>, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().expect("a directory can be made");
        let secret = files.path().join("secret");
        fs::write(&secret, "the same for all nodes of this test").expect("a file can be written");
        let mut nodes = Vec::new();
        for (number, (rpc, registry)) in registries.into_iter().enumerate() {
            let listen = free_address();
            let path = |name: &str| files.path().join(name).display().to_string();
            let mut all: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            for (name, value) in [
                ("--listen", listen.to_string()),
                ("--rpc", rpc.to_string()),
                ("--registry", registry),
                ("--id", (number + 1).to_string()),
                ("--store", path(&format!("store-{number}"))),
                ("--secret", path("secret")),
            ] {
                all.extend([name.to_owned(), value]);
            }
            all.push("--dev-login".to_owned());
            let log = files.path().join(format!("log-{number}"));
            nodes.push(Node { arguments: all, listen, log, process: None });
        }
        let mut all = Self { nodes, _files: files };
        for number in 0..all.nodes.len() {
            all.begin(number).await;
        }
        all.until_whole().await;
        all
    }

    /// Where clients find each node: `http://host:port`, whether it runs or not.
    pub fn bases(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|number| self.base(number)).collect()
    }

    /// Where clients find this node.
    pub fn base(&self, number: usize) -> String {
        format!("http://{}", self.nodes[number].listen)
    }

    /// What this node tells clients to be its WebSocket address.
    pub fn websocket(&self, number: usize) -> String {
        let Node { arguments, listen, .. } = &self.nodes[number];
        let told = arguments.iter().skip_while(|argument| *argument != "--websocket").nth(1);
        told.cloned().unwrap_or_else(|| format!("ws://{listen}/ws"))
    }

    /// Starts a node that does not run; returns once it listens. The others may not see it yet.
    pub async fn begin(&mut self, number: usize) {
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
        assert!(line.is_some(), "a node ends before it listens: {}", fs::read_to_string(&node.log).unwrap_or_default());
        node.process = Some(Running { process, output });
    }

    /// Ends a node at once, as a crash would.
    pub async fn kill(&mut self, number: usize) {
        let Running { mut process, .. } = self.nodes[number].process.take().expect("the node runs");
        process.kill().await.expect("a process takes a signal");
    }

    /// Asks a node to leave in order, by SIGTERM, and waits until it has; says how it ended.
    pub async fn end(&mut self, number: usize) -> ExitStatus {
        self.signal(number, Signal::TERM);
        let Running { mut process, mut output } = self.nodes[number].process.take().expect("the node runs");
        in_time(async {
            while let Ok(Some(_)) = output.next_line().await {}
            process.wait().await.expect("a process that was started ends")
        })
        .await
    }

    /// Stops a node without ending it: its connections stay open and nothing answers.
    pub fn pause(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    /// Waits until all nodes that run see each other and nobody else, and take logins.
    pub async fn until_whole(&self) {
        let running: Vec<_> = self.running().collect();
        for number in &running {
            self.until_sees(*number, &running).await;
        }
    }

    /// Waits until a node takes logins and sees these nodes and nobody else.
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
            panic!("node {number} is to see {wanted:?}, and last saw {seen:?}");
        }
    }

    /// Waits until the nodes that run have so many sessions together.
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
            panic!("there are to be {wanted} sessions, and there are {last}");
        }
    }

    /// The number that a node has under this name in its metrics.
    pub async fn metric(&self, number: usize, name: &str) -> u64 {
        let text =
            crate::nacos::http::get(self.nodes[number].listen.port(), "/metrics").await.expect("the node answers");
        metric(&text, name)
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].process.is_some())
    }

    fn signal(&self, number: usize, signal: Signal) {
        let running = self.nodes[number].process.as_ref().expect("the node runs");
        process::send(running.process.id().expect("it was not waited for"), signal);
    }
}

impl Drop for Nodes {
    /// After a failure, says what the nodes said last.
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

/// How much of a node's log is shown after a failure.
const LAST_LINES: usize = 25;
