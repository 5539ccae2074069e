//! [`Program`]: a process of any binary of the workspace, with its output and its log.

use std::{
    fs::File,
    path::Path,
    process::{ExitStatus, Output, Stdio},
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{
    in_time,
    process::{command, send, start},
};

/// A running process. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
#[derive(Debug)]
pub struct Program {
    process: Child,
    /// Kept open: a process that writes to a closed pipe fails.
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a binary with arguments and environment variables. Its stderr goes to the file `log`.
    pub async fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)], log: &Path) -> Self {
        let mut command = command(name, arguments).await;
        command.envs(variables.iter().copied()).env("NO_COLOR", "1");
        command.stderr(File::create(log).expect("the log file can be created"));
        let mut process = start(command);
        let output = process.stdout.take().expect("the output is a pipe");
        Self { process, output: BufReader::new(output).lines() }
    }

    /// Runs a binary to completion.
    pub async fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = command(name, arguments).await;
        command.envs(variables.iter().copied()).env("NO_COLOR", "1").stderr(Stdio::piped());
        in_time(start(command).wait_with_output()).await.expect("the process can be waited for")
    }

    /// Returns the next line of the output.
    pub async fn line(&mut self) -> String {
        in_time(self.output.next_line()).await.expect("the output is text").expect("the process has not ended")
    }

    /// Returns the first word after `mark` in the next line of the output, without punctuation at its end.
    pub async fn line_after(&mut self, mark: &str) -> String {
        let line = self.line().await;
        let (_, rest) = line.split_once(mark).unwrap_or_else(|| panic!("{line} does not contain {mark}"));
        rest.split([',', ' ']).next().unwrap_or_default().trim_end_matches('/').to_owned()
    }

    /// Sends SIGTERM, and waits for the end of the process.
    pub async fn terminate(mut self) -> ExitStatus {
        send(self.process.id().expect("the test has not waited for the process yet"), Signal::TERM);
        in_time(async {
            while let Ok(Some(_)) = self.output.next_line().await {}
            self.process.wait().await.expect("the process can be waited for")
        })
        .await
    }
}
