//! [`Program`]: a process of any binary of the workspace, with its output and its log.

use std::{
    fs::File,
    path::Path,
    process::{Command, ExitStatus, Output, Stdio},
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    in_time,
    process::{binary, command, prepared, send, start},
};

/// A running process. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
#[derive(Debug)]
pub struct Program {
    process: Child,
    input: Option<ChildStdin>,
    /// Kept open: a process that writes to a closed pipe fails.
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a binary with arguments and environment variables. Its stderr goes to the file `log`.
    pub async fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)], log: &Path) -> Self {
        Self::start_with(Stdio::null(), name, arguments, variables, log).await
    }

    /// Starts a binary whose input the test writes.
    pub async fn start_interactive(name: &str, arguments: &[&str], log: &Path) -> Self {
        Self::start_with(Stdio::piped(), name, arguments, &[], log).await
    }

    /// Starts a binary under limits, which are commands of a shell such as `ulimit -n 256`.
    pub async fn start_limited(limits: &str, name: &str, arguments: &[&str], log: &Path) -> Self {
        let program = command(name, arguments).await;
        let mut limited = prepared(Command::new("sh"));
        limited.env("RUST_LOG", "warn").args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
        limited.arg(program.get_program()).args(program.get_args());
        Self::run_with(Stdio::null(), limited, log)
    }

    async fn start_with(input: Stdio, name: &str, arguments: &[&str], variables: &[(&str, &str)], log: &Path) -> Self {
        let mut command = command(name, arguments).await;
        command.envs(variables.iter().copied());
        Self::run_with(input, command, log)
    }

    fn run_with(input: Stdio, mut command: Command, log: &Path) -> Self {
        command.stdin(input).env("NO_COLOR", "1");
        command.stderr(File::create(log).expect("the log file can be created"));
        let mut process = start(command);
        let output = process.stdout.take().expect("the output is a pipe");
        let input = process.stdin.take();
        Self { process, input, output: BufReader::new(output).lines() }
    }

    /// Writes a line to the input of a program that was started by [`start_interactive`](Self::start_interactive).
    pub async fn write_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is a pipe");
        in_time(input.write_all(format!("{line}\n").as_bytes())).await.expect("the program reads its input");
    }

    /// Waits for a line of the output that contains `text`, and returns it.
    pub async fn line_with(&mut self, text: &str) -> String {
        let mut lines = Vec::new();
        let found = in_time(async {
            while let Some(line) = self.output.next_line().await.expect("the output is text") {
                if line.contains(text) {
                    return Some(line);
                }
                lines.push(line);
            }
            None
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("the program ended without a line with {text}: {lines:?}"))
    }

    /// Returns the path of a binary.
    pub async fn path(name: &str) -> &'static Path {
        binary(name).await
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

    /// Closes the input of a program that was started by [`start_interactive`](Self::start_interactive).
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Sends SIGTERM, and waits for the end of the process.
    pub async fn terminate(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().await.0
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for the end of the process.
    pub async fn interrupt(self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait().await.0
    }

    /// Waits for the end of the process, and returns its status and the rest of its output.
    pub async fn wait(mut self) -> (ExitStatus, Vec<String>) {
        in_time(async {
            let mut lines = Vec::new();
            while let Ok(Some(line)) = self.output.next_line().await {
                lines.push(line);
            }
            (self.process.wait().await.expect("the process can be waited for"), lines)
        })
        .await
    }

    fn signal(&self, signal: Signal) {
        send(self.process.id().expect("the test has not waited for the process yet"), signal);
    }
}
