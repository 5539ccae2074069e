//! [`Server`]: a server in a child process, and clients in further child processes.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{failure::Failure, peers::Peer};

/// A server in a child process. Dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    /// The address that the server printed.
    address: String,
}

impl Server {
    /// Starts this program with the subcommand `command`, which serves on free ports and prints the address.
    pub(crate) fn launch(command: &str, arguments: &[impl AsRef<OsStr>]) -> Result<Self, Failure> {
        Self::start(this_program()?.arg(command).args(arguments))
    }

    /// Starts a command that prints the address on which it serves.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take();
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("the server process has no stdout")?).read_line(&mut line)?;
        server.address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        if server.address.is_empty() {
            return Err(format!("{command:?} printed no address").into());
        }
        Ok(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Terminates the server and waits for its graceful end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server failed: {status}").into()) }
    }

    /// Runs this program with the subcommand `command` as a client of the server, and parses its output.
    pub(crate) fn run_client<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<T, Failure> {
        let output = this_program()?
            .args([command, &self.address, &format!("--server={}", self.process.id())])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{command} failed: {}", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the name of a peer on the command line.
pub(crate) fn name(peer: Peer) -> String {
    peer.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Returns a progress bar for `runs` runs.
pub(crate) fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    // The template is a constant; if it were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn this_program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}
