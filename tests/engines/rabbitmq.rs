//! [`RabbitMqServer`]: a real RabbitMQ, which a test can kill and restart.
//!
//! The environment variable `RABBITMQ_BIN` names the start script; the default is that of the Debian package.

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{log_to, skip, until_serving};
use crate::{process, relay::free_address};

/// A server on a free port of this machine, with an Erlang port mapper of its own. Dropping it kills both.
///
/// Every method panics on failure, because a test cannot continue.
pub struct RabbitMqServer {
    binary: OsString,
    address: SocketAddr,
    distribution: SocketAddr,
    mapper_address: SocketAddr,
    data: tempfile::TempDir,
    /// The leader of a process group.
    process: Option<Child>,
    mapper: Option<Child>,
}

impl RabbitMqServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no RabbitMQ.
    pub async fn start() -> Option<Self> {
        let binary = std::env::var_os("RABBITMQ_BIN").unwrap_or_else(|| BINARY.into());
        if !Path::new(&binary).exists() {
            skip("RabbitMQ", &format!("{} does not exist", binary.display()), "rabbitmq-server");
            return None;
        }
        let data = tempfile::tempdir().expect("the data directory can be created");
        let (address, distribution, mapper_address) = (free_address(), free_address(), free_address());
        let mut mapper = Command::new(PORT_MAPPER);
        mapper
            .args(["-address", &mapper_address.ip().to_string(), "-port", &mapper_address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mapper = match mapper.spawn() {
            Ok(mapper) => mapper,
            Err(error) => {
                skip("RabbitMQ", &format!("`{PORT_MAPPER}` does not start ({error})"), "erlang-base");
                return None;
            }
        };
        let mut server =
            Self { binary, address, distribution, mapper_address, data, process: None, mapper: Some(mapper) };
        // Otherwise the start script starts a mapper that outlives the test.
        until_serving(async || TcpStream::connect(mapper_address).await.is_ok()).await;
        server.restart().await;
        Some(server)
    }

    /// Returns the URL with the default user and password.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the server like a crash.
    pub fn kill(&mut self) {
        if let Some(process) = &self.process {
            let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("the process id is valid");
            kill_process_group(group, Signal::KILL).expect("cannot kill the server");
        }
        process::kill(&mut self.process);
    }

    /// Kills the server if it runs, starts it with its data on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let address = self.address;
        // Other processes of the group may end later.
        until_serving(async || TcpStream::connect(address).await.is_err()).await;
        let directory = self.data.path();
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory)
            .env("ERL_EPMD_PORT", self.mapper_address.port().to_string())
            .env("ERL_EPMD_ADDRESS", self.mapper_address.ip().to_string())
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.address.port()))
            .env("RABBITMQ_NODE_IP_ADDRESS", self.address.ip().to_string())
            .env("RABBITMQ_NODE_PORT", self.address.port().to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", directory.join("data"))
            .env("RABBITMQ_LOG_BASE", directory.join("logs"))
            .env("RABBITMQ_CONF_ENV_FILE", directory.join("environment"))
            .env("RABBITMQ_CONFIG_FILE", directory.join("configuration"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("plugins"))
            .env("RABBITMQ_PID_FILE", directory.join("pid"))
            // The start script executes the server instead of starting a child.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .current_dir(directory)
            .process_group(0);
        log_to(&mut command, directory);
        self.process = Some(command.spawn().expect("the server starts"));
        until_serving(async || {
            let Ok(mut stream) = TcpStream::connect(address).await else { return false };
            // The answer to the protocol header is a frame of type 1.
            let mut kind = [0];
            stream.write_all(b"AMQP\0\0\x09\x01").await.is_ok()
                && stream.read_exact(&mut kind).await.is_ok()
                && kind == [1]
        })
        .await;
    }
}

impl Drop for RabbitMqServer {
    fn drop(&mut self) {
        self.kill();
        process::kill(&mut self.mapper);
    }
}

const BINARY: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const PORT_MAPPER: &str = "epmd";
