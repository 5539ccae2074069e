//! [`Server`]: a server in a process of its own, and the clients that are set on it, a process each; and how far they are.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{Failure, peers::Peer};

/// A server in a process of its own, killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    /// Where it listens, as it says.
    address: String,
}

impl Server {
    /// Starts this program with `command`, which serves on ports that are free and says where.
    pub(crate) fn launch(command: &str, arguments: &[impl AsRef<OsStr>]) -> Result<Self, Failure> {
        Self::start(this_program()?.arg(command).args(arguments))
    }

    /// Starts a command that says where it serves.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take();
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("the server has no output")?).read_line(&mut line)?;
        server.address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        if server.address.is_empty() {
            return Err(format!("{command:?} did not start").into());
        }
        Ok(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Lets it end in order.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let ended = self.process.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the server failed: {ended}").into()) }
    }

    /// Starts this program with `command`, which uses the server and says how that was.
    pub(crate) fn ask<T: DeserializeOwned>(
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
        // One that has ended already has nothing to be told.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program is called on the command line.
pub(crate) fn name(peer: Peer) -> String {
    peer.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A bar for so many runs.
pub(crate) fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    // The template is a constant; the default style is as good.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn this_program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}
