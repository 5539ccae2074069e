//! [`Cluster`]: nodes as child processes.

use std::{env, fmt::Write as _, fs, net::SocketAddr, process::Stdio, time::Duration};

use msnb::app::Failure;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Node processes with a temporary directory for their registry, secret and messages. Dropping it kills the processes
/// and removes the directory.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    directory: TempDir,
}

/// A running node.
pub(crate) struct Node {
    process: Child,
    /// Kept open, because a process that writes to a closed pipe is killed.
    _output: Lines<BufReader<ChildStdout>>,
    arguments: Arguments,
    name: String,
    url: String,
    /// The address for other nodes.
    rpc: SocketAddr,
}

/// The arguments with which a node starts; with port 0 the system chooses the port.
#[derive(Clone)]
struct Arguments {
    number: u16,
    /// The port for clients.
    port: u16,
    /// The port for other nodes.
    rpc: u16,
    store: String,
}

impl Cluster {
    /// Starts `count` nodes: the first listens on `port`, the others on the following ports.
    pub(crate) async fn start(count: u16, port: u16) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("im-").tempdir()?;
        let mut secret = String::new();
        for byte in rand::random::<[u8; 32]>() {
            write!(secret, "{byte:02x}")?;
        }
        fs::write(directory.path().join("secret"), secret)?;
        let mut nodes = Vec::<Node>::new();
        for number in 0..count {
            let port = if port == 0 { 0 } else { port.checked_add(number).ok_or("the port number exceeds 65535")? };
            let store = match nodes.first() {
                None => directory.path().join("messages").display().to_string(),
                Some(storing) => format!("node://{}", storing.rpc),
            };
            let arguments = Arguments { number, port, rpc: 0, store };
            nodes.push(Node::start(&directory, arguments).await?);
        }
        Ok(Self { nodes, directory })
    }

    /// Returns the running nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Kills the node with this name, which simulates a crash.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let index = self.nodes.iter().position(|node| node.name == name).ok_or("no node has this name")?;
        Ok(self.nodes.remove(index).process.kill().await?)
    }

    /// Kills the node that has the store, starts it again on the same ports, and returns its name.
    pub(crate) async fn restart_storing_node(&mut self) -> Result<String, Failure> {
        let mut storing = self.nodes.remove(0);
        storing.process.kill().await?;
        let port = storing.url.trim_end_matches('/').rsplit(':').next().unwrap_or_default().parse()?;
        let arguments = Arguments { port, rpc: storing.rpc.port(), ..storing.arguments };
        self.nodes.insert(0, Node::start(&self.directory, arguments).await?);
        Ok(storing.name)
    }

    /// Drains all nodes and waits for their end.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            // A node drains when its input ends.
            drop(node.process.stdin.take());
        }
        for node in &mut self.nodes {
            if timeout(PROCESS_TIMEOUT, node.process.wait()).await.is_err() {
                node.process.kill().await?;
            }
        }
        Ok(())
    }
}

impl Node {
    async fn start(directory: &TempDir, arguments: Arguments) -> Result<Self, Failure> {
        let directory = directory.path();
        let Arguments { number, port, rpc, store } = arguments.clone();
        let mut process = Command::new(env::current_exe()?)
            .arg("node")
            .args(["--listen", &format!("127.0.0.1:{port}"), "--rpc", &format!("127.0.0.1:{rpc}")])
            .args(["--name", &(number + 1).to_string(), "--dev-login"])
            .arg("--registry")
            .arg(format!("local:{}", directory.display()))
            .arg("--secret")
            .arg(directory.join("secret"))
            .args(["--store", &store])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("a node process has no stdout")?;
        let mut output = BufReader::new(output).lines();
        // "node 1 serves clients on http://…/ and nodes on …"
        let line = timeout(PROCESS_TIMEOUT, output.next_line()).await??.ok_or("a node process ended at its start")?;
        let mut words = line.split(' ');
        let (name, url) = (words.nth(1).unwrap_or_default().to_owned(), words.nth(3).unwrap_or_default().to_owned());
        let rpc = words.nth(3).unwrap_or_default().parse()?;
        Ok(Self { process, _output: output, arguments, name, url, rpc })
    }

    /// Returns the name of the node.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL of the node's page.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// The time a node has to start or to end.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);
