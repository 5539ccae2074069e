//! [`Fleet`]: nodes as processes, each in a network namespace.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rpc_im::client::{gate, health};
use rustix::process::Signal;
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

use super::{NODE, network::Network, network::path};
use crate::{im_history, process};

/// Nodes as processes, each in a network namespace. Dropping this value kills them.
///
/// All methods panic on failure.
pub struct Fleet {
    /// The network.
    pub network: Network,
    nodes: Vec<Node>,
    files: tempfile::TempDir,
}

struct Node {
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Fleet {
    /// Creates the network of `count` nodes, and no node yet.
    pub fn new(count: usize) -> Self {
        let network = Network::create(count);
        let files = tempfile::tempdir().expect("a directory can be created");
        fs::write(files.path().join("secret"), "secret of all nodes of this test").expect("a file can be written");
        let nodes = (0..count).map(|number| {
            let (host, path) = (network.node(number), |name: &str| files.path().join(name).display().to_string());
            let arguments = [
                ("--listen", format!("{host}:{CLIENT_PORT}")),
                ("--rpc", format!("{host}:{}", Self::RPC_PORT)),
                ("--registry", format!("local:{}", path("registry"))),
                ("--name", number.to_string()),
                ("--secret", path("secret")),
            ];
            let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            let arguments = arguments.chain(["--dev-login".to_owned()]).collect();
            Node { arguments, log: files.path().join(format!("log-{number}")), process: None }
        });
        let nodes = nodes.collect();
        Self { network, nodes, files }
    }

    /// Starts all nodes with further arguments, and waits until each sees all. Node 0 starts first.
    pub async fn start(&mut self, arguments: impl Fn(usize) -> Vec<(&'static str, String)>) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.arguments.extend(arguments(number).into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        }
        for number in 0..self.nodes.len() {
            self.start_node(number).await;
        }
        self.until_ready().await;
    }

    /// Starts nodes of which node 0 has the store and the directory.
    pub async fn start_embedded(&mut self) {
        self.start_embedded_in(&self.file("store")).await;
    }

    /// Starts nodes of which node 0 has the store in this file, and the directory.
    pub async fn start_embedded_in(&mut self, store: &Path) {
        let node = format!("node://{}:{}", self.network.node(0), Self::RPC_PORT);
        let of_node = |number| if number == 0 { store.display().to_string() } else { node.clone() };
        self.start(|number| vec![("--store", of_node(number))]).await;
    }

    /// Returns the path of a file of the fleet.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Returns the URL of the registry that lists the nodes.
    pub fn registry(&self) -> String {
        format!("local:{}", self.file("registry").display())
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the addresses of all nodes for clients.
    pub fn addresses(&self) -> Vec<im_history::Node> {
        let address = |number| {
            let host = self.network.node(number);
            let (base, url) = (format!("http://{host}:{CLIENT_PORT}"), format!("ws://{host}:{CLIENT_PORT}/ws"));
            im_history::Node { base, url }
        };
        (0..self.nodes.len()).map(address).collect()
    }

    /// Starts a node that does not run. It may not be ready yet.
    pub async fn start_node(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        assert!(node.process.is_none(), "node {number} runs already");
        let log = File::options().create(true).append(true).open(&node.log).expect("a log can be written");
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", path(number)))
            .arg(env::var_os(NODE).expect("`isolated` started this process"))
            .args(&node.arguments)
            .env("RUST_LOG", env::var("RUST_LOG").unwrap_or_else(|_| "warn,rpc_im=info".to_owned()))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file can be cloned"))
            .stderr(log);
        node.process = Some(process::start(command));
    }

    /// Kills a node with SIGKILL.
    pub async fn kill(&mut self, number: usize) {
        let mut process = self.nodes[number].process.take().expect("the node runs");
        process.kill().await.expect("a running process can be killed");
    }

    /// Kills a node with SIGKILL, and starts it again.
    pub async fn restart(&mut self, number: usize) {
        self.kill(number).await;
        self.start_node(number).await;
    }

    /// Suspends a node with SIGSTOP.
    pub fn pause(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Resumes a node with SIGCONT.
    pub fn resume(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    /// Waits until each node accepts logins and sees all nodes.
    pub async fn until_ready(&self) {
        self.until_ready_among(&(0..self.nodes.len()).collect::<Vec<_>>()).await;
    }

    /// Waits until each of these nodes accepts logins and sees exactly these nodes.
    pub async fn until_ready_among(&self, numbers: &[usize]) {
        for number in numbers {
            self.until_sees(*number, numbers).await;
        }
    }

    /// Waits until a node accepts logins and sees exactly these nodes, itself included.
    pub async fn until_sees(&self, number: usize, others: &[usize]) {
        let addresses = self.addresses();
        let mut wanted: Vec<_> = others.iter().map(|other| addresses[*other].url.clone()).collect();
        wanted.sort();
        let base = &addresses[number].base;
        let mut seen = None;
        let ready = async {
            loop {
                if let (Ok(true), Ok(nodes)) = (health(base).await, gate(base).await) {
                    let nodes = seen.insert(nodes);
                    nodes.sort();
                    if *nodes == wanted {
                        return;
                    }
                }
                sleep(POLL).await;
            }
        };
        if timeout(READY_TIME, ready).await.is_err() {
            panic!("node {number} is not ready after {READY_TIME:?}: it sees {seen:?}, expected {wanted:?}");
        }
    }

    /// Waits until a node is ready to accept logins, or is not.
    pub async fn until_health(&self, number: usize, is_ready: bool) {
        let base = &self.addresses()[number].base;
        let changed = async {
            while health(base).await.ok() != Some(is_ready) {
                sleep(POLL).await;
            }
        };
        timeout(READY_TIME, changed).await.unwrap_or_else(|_| panic!("the health of node {number} is not {is_ready}"));
    }

    /// Returns the log of a node.
    pub fn log(&self, number: usize) -> String {
        fs::read_to_string(&self.nodes[number].log).unwrap_or_default()
    }

    fn signal(&self, number: usize, signal: Signal) {
        let process = self.nodes[number].process.as_ref().expect("the node runs");
        process::send(process.id().expect("the process has not been waited for"), signal);
    }

    /// The port for other nodes.
    pub const RPC_PORT: u16 = 9101;
}

impl Drop for Fleet {
    /// After a failed test, prints the last log lines of the nodes, or keeps the logs in `MSNB_KEEP_LOGS`.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for number in 0..self.nodes.len() {
            if let Some(kept) = env::var_os("MSNB_KEEP_LOGS") {
                keep(&kept, &self.nodes[number].log);
            }
            let log = self.log(number);
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- node {number}:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
        }
    }
}

fn keep(directory: &OsString, log: &Path) {
    let _ = fs::create_dir_all(directory);
    let name = log.file_name().expect("a log has a name");
    let _ = fs::copy(log, Path::new(directory).join(name));
}

const CLIENT_PORT: u16 = 9001;
/// The interval at which a node is asked for its state.
const POLL: Duration = Duration::from_millis(50);
/// The limit for a node to become ready.
const READY_TIME: Duration = Duration::from_secs(60);
/// The number of log lines of each node that are printed after a failed test.
const LAST_LINES: usize = 25;
