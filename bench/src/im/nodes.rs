//! [`Nodes`]: nodes as child processes, with their memory and metrics.

use std::{
    env, fs, io,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, SystemTime},
};

use rpc_im::{
    auth::{Claims, Secret},
    client::{LoggedIn, gate, health},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{failure::Failure, resources::resident};

/// The options for starting nodes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cluster {
    /// The number of nodes.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// The registry of the nodes, such as nacos://host:8848; by default a directory on this machine.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// The directory for the message file of the first node; by default it keeps messages in memory.
    #[arg(long, value_name = "DIR")]
    store: Option<std::path::PathBuf>,
    /// Further arguments of im-node for each node.
    #[arg(last = true, value_name = "ARGUMENT")]
    further: Vec<String>,
}

/// Running nodes. Dropping this kills them.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    secret: Secret,
    directory: TempDir,
}

struct Node {
    process: Child,
    /// Kept open, because a process that writes to a closed pipe is killed.
    _output: Lines<BufReader<ChildStdout>>,
    port: u16,
    /// The address for other nodes.
    rpc: SocketAddr,
}

impl Cluster {
    /// Starts the nodes and waits until each has discovered all others.
    pub(crate) async fn start(&self) -> Result<Nodes, Failure> {
        let directory = tempfile::tempdir()?;
        let secret = rand::random::<[u8; Secret::MIN_LEN]>().map(|byte| b'a' + byte % 26);
        fs::write(directory.path().join("secret"), secret)?;
        let mut nodes = Nodes { nodes: Vec::new(), secret: Secret::new(&secret)?, directory };
        for number in 1..=self.nodes {
            let storing_node = nodes.nodes.first().map(|first| first.rpc);
            let node = self.start_one(number, &nodes.directory, storing_node).await?;
            nodes.nodes.push(node);
        }
        for number in 0..nodes.nodes.len() {
            let base = nodes.base(number);
            let ready = async {
                // The gate returns at most five nodes.
                while !(health(&base).await.unwrap_or(false)
                    && gate(&base).await.is_ok_and(|known| known.len() == nodes.nodes.len().min(5)))
                {
                    sleep(POLL_INTERVAL).await;
                }
            };
            timeout(NODE_TIMEOUT, ready)
                .await
                .map_err(|_| format!("node {} did not discover the others within {NODE_TIMEOUT:?}", number + 1))?;
        }
        Ok(nodes)
    }

    async fn start_one(
        &self,
        number: u16,
        directory: &TempDir,
        storing_node: Option<SocketAddr>,
    ) -> Result<Node, Failure> {
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut command = Command::new(env::current_exe()?);
        // Listen on all addresses of this machine: clients have only about 28 000 ports per address.
        command
            .args(["node", "--listen", "0.0.0.0:0", "--rpc", "127.0.0.1:0", "--dev-login"])
            .args(["--name", &number.to_string(), "--secret", &path("secret")])
            .arg("--registry")
            .arg(self.registry.clone().unwrap_or_else(|| format!("local:{}", path("registry"))));
        match (storing_node, &self.store) {
            // A store for all nodes.
            _ if self.further.iter().any(|argument| argument == "--store") => {}
            (Some(node), _) => {
                command.arg("--store").arg(format!("node://{node}"));
            }
            (None, Some(store)) => {
                fs::create_dir_all(store)?;
                command.arg("--store").arg(store.join(format!("messages-{}", std::process::id())));
            }
            (None, None) => {}
        }
        let mut process =
            command.args(&self.further).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = process.stdout.take().ok_or("a node process has no stdout")?;
        let mut output = BufReader::new(output).lines();
        // "node 1 serves clients on http://…/ and nodes on …"
        let line = timeout(NODE_TIMEOUT, output.next_line()).await??.ok_or("a node process ended at its start")?;
        let url = line.split(' ').nth(5).unwrap_or_default();
        let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse()?;
        let rpc = line.split(' ').next_back().unwrap_or_default().parse()?;
        Ok(Node { process, _output: output, port: address.port(), rpc })
    }
}

impl Nodes {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn base(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[number].port)
    }

    /// Returns the login of a user's device at a node, with a valid token.
    pub(crate) fn log_in(&self, number: usize, user: &str, device: &str) -> LoggedIn {
        let claims = Claims::lasting(user.to_owned(), device.to_owned(), "bench".to_owned(), SystemTime::now());
        let url = format!("ws://127.0.0.1:{}/ws", self.nodes[number].port);
        LoggedIn { token: claims.sign(&self.secret), nodes: vec![url] }
    }

    /// Returns the path of the file with the secret that signs tokens.
    pub(crate) fn secret_path(&self) -> std::path::PathBuf {
        self.directory.path().join("secret")
    }

    pub(crate) fn port(&self, number: usize) -> u16 {
        self.nodes[number].port
    }

    /// Returns the resident memory of all nodes, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        self.nodes.iter().map(|node| resident(&node.process.id().unwrap_or_default().to_string())).sum()
    }

    /// Returns the sum of a metric over all nodes.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64, Failure> {
        let mut sum = 0;
        for node in &self.nodes {
            let mut stream = TcpStream::connect(("127.0.0.1", node.port)).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: node\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
            sum += line
                .and_then(|line| line.rsplit(' ').next())
                .ok_or_else(|| format!("a node has no metric {name}"))?
                .parse::<u64>()?;
        }
        Ok(sum)
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(50);
const NODE_TIMEOUT: Duration = Duration::from_secs(60);
