//! [`Cluster`]: nodes as processes of this program.

use std::{env, fmt::Write as _, fs, process::Stdio, time::Duration};

use examples::Failure;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Nodes as processes, with what they share in a directory that goes when this is dropped. So do they.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    _directory: TempDir,
}

/// A node that runs.
pub(crate) struct Node {
    process: Child,
    /// Kept: a process whose output nobody takes dies of it.
    _output: Lines<BufReader<ChildStdout>>,
    name: String,
    url: String,
}

impl Cluster {
    /// Starts so many nodes, the first at `port`.
    pub(crate) async fn start(count: u16, port: u16) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("im-").tempdir()?;
        let mut secret = String::new();
        for byte in rand::random::<[u8; 32]>() {
            write!(secret, "{byte:02x}")?;
        }
        fs::write(directory.path().join("secret"), secret)?;
        let mut nodes = Vec::new();
        for number in 0..count {
            let port = if port == 0 { 0 } else { port.checked_add(number).ok_or("there is no such port")? };
            nodes.push(Node::start(&directory, number, port).await?);
        }
        Ok(Self { nodes, _directory: directory })
    }

    /// Those that run.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Kills the node of that name, as a crash would.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let place = self.nodes.iter().position(|node| node.name == name).ok_or("there is no such node")?;
        Ok(self.nodes.remove(place).process.kill().await?)
    }

    /// Ends all nodes in order.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            // Each drains when its input ends.
            drop(node.process.stdin.take());
        }
        for node in &mut self.nodes {
            if timeout(PATIENCE, node.process.wait()).await.is_err() {
                node.process.kill().await?;
            }
        }
        Ok(())
    }
}

impl Node {
    async fn start(directory: &TempDir, number: u16, port: u16) -> Result<Self, Failure> {
        let directory = directory.path();
        let mut process = Command::new(env::current_exe()?)
            .arg("node")
            .args(["--listen", &format!("127.0.0.1:{port}"), "--rpc", "127.0.0.1:0"])
            .args(["--id", &(number + 1).to_string(), "--dev-login"])
            .arg("--registry")
            .arg(format!("local:{}", directory.display()))
            .arg("--secret")
            .arg(directory.join("secret"))
            .arg("--store")
            .arg(directory.join(format!("messages-{}", number + 1)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("a node without output")?;
        let mut output = BufReader::new(output).lines();
        // "node 1 serves clients on http://…/ and nodes on …"
        let line = timeout(PATIENCE, output.next_line()).await??.ok_or("a node did not start")?;
        let mut words = line.split(' ');
        let (name, url) = (words.nth(1).unwrap_or_default().to_owned(), words.nth(3).unwrap_or_default().to_owned());
        Ok(Self { process, _output: output, name, url })
    }

    /// What the node is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its page is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// How long a node has to start, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
