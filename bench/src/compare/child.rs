//! [`Server`]: a server in a child process, and clients in further child processes.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

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

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.process), signal)?)
    }

    /// Writes a line to the standard input of the server, which its command must have made a pipe.
    pub(crate) fn send(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.process.stdin.as_mut().ok_or("the server process has no stdin")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// Kills the process, which may have ended already, and waits for its end.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Terminates the server and waits for its graceful end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM)?;
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
        // A destructor cannot report an error.
        let _ = self.kill();
    }
}

/// Returns the name of a peer on the command line.
pub(crate) fn name(peer: impl ValueEnum) -> String {
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

pub(crate) fn this_program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}
