//! [`Server`]: a server in a process of its own, and the clients that are set on it, a process each.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;
use serde::de::DeserializeOwned;

use super::figures::Figures;
use crate::{Failure, idle::Footprint, peers::Peer, summary::Summary};

/// A server in a process of its own, killed when this is dropped.
pub(crate) struct Server {
    peer: Peer,
    process: Child,
    address: String,
}

impl Server {
    /// Starts one on a port that is free.
    pub(crate) fn start(peer: Peer) -> Result<Self, Failure> {
        let mut process =
            this_program()?.args(["peer-server", &name(peer), "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take();
        let mut server = Self { peer, process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("the server has no output")?).read_line(&mut line)?;
        server.address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        if server.address.is_empty() {
            return Err(format!("the server of {} did not start", name(peer)).into());
        }
        Ok(server)
    }

    /// Lets a client do a job.
    pub(crate) fn work(&self, arguments: &[String]) -> Result<Figures, Failure> {
        let summary: Summary = self.client("peer-client", arguments)?;
        Ok(Figures::of_work(&summary))
    }

    /// Lets a client hold connections.
    pub(crate) fn hold(&self, conns: usize) -> Result<Figures, Failure> {
        let footprint: Footprint = self.client("peer-idle", &[format!("--conns={conns}")])?;
        Ok(Figures::of_idleness(footprint.server_bytes, footprint.client_bytes))
    }

    fn client<T: DeserializeOwned>(&self, command: &str, arguments: &[impl AsRef<OsStr>]) -> Result<T, Failure> {
        let output = this_program()?
            .args([command, &name(self.peer), &self.address, &format!("--server={}", self.process.id())])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the client of {} failed: {}", name(self.peer), output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already has nothing to be told.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program is called on the command line.
pub(crate) fn name(peer: Peer) -> String {
    peer.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn this_program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}
