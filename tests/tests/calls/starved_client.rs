//! Clients whose process cannot write its log, has no file descriptors left, or was suspended.

use std::{
    fs::{File, OpenOptions},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use rpc_server::{Server, ServerConfig};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tests::{in_time, probe::Probe, relay::free_address, serving::Serving};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A process of `tests-caller`. Dropping it kills the process.
struct Caller {
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Caller {
    fn start(address: SocketAddr, log: &str, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tests-caller"));
        command.arg(address.to_string()).env("RUST_LOG", log).env("NO_COLOR", "1").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, commands, answers: BufReader::new(answers).lines() }
    }

    async fn send(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    async fn answer(&mut self) -> String {
        in_time(self.answers.next_line()).await.unwrap().expect("the process runs")
    }

    /// Repeats a call until it succeeds: the first one may be sent while the connection closes.
    async fn until_ok(&mut self) {
        in_time(async { while self.ask("wait").await != "ok" {} }).await;
    }

    async fn ask(&mut self, command: &str) -> String {
        self.send(command).await;
        self.answer().await
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().unwrap().try_into().unwrap()).unwrap()
    }
}

async fn server_on(address: SocketAddr) -> Serving {
    Serving::start_on(Server::builder().service(Probe::default().server()), address).await
}

/// A subscriber that writes to stderr panics when it cannot.
async fn loses_lines_only(stderr: impl Into<Stdio>) {
    let address = free_address();
    let serving = server_on(address).await;
    let mut caller = Caller::start(address, "trace", stderr);
    caller.until_ok().await;
    serving.kill().await;
    let serving = server_on(address).await;
    caller.until_ok().await;
    // A drain logs in the connection's task.
    serving.kill().await;
    let mut draining = server_on(address).await;
    caller.until_ok().await;
    draining.stop();
    draining.ended().await.unwrap();
    let _serving = server_on(address).await;
    caller.until_ok().await;
}

#[tokio::test]
async fn client_with_full_log_disk_loses_only_lines() {
    loses_lines_only(OpenOptions::new().write(true).open("/dev/full").unwrap()).await;
}

#[tokio::test]
async fn client_with_closed_log_pipe_loses_only_lines() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    loses_lines_only(writer).await;
}

#[tokio::test]
async fn client_without_file_descriptors_keeps_its_provider() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let address = free_address();
    let serving = server_on(address).await;
    let mut caller = Caller::start(address, "warn", File::create(log.path()).unwrap());
    assert_eq!(caller.ask("wait").await, "ok");
    // Open descriptors stay open; the hard limit permits the end of the shortage.
    let limit = getrlimit(Resource::Nofile);
    prlimit(Some(caller.pid()), Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    serving.kill().await;
    let _serving = server_on(address).await;
    in_time(async { while !caller.ask("call").await.contains("Too many open files") {} }).await;
    in_time(async {
        loop {
            let counts = caller.ask("counts").await;
            let (failures, evictions) = counts.split_once(' ').unwrap();
            assert_eq!(evictions, "0");
            if failures.parse::<u32>().unwrap() >= 3 {
                return;
            }
            caller.ask("call").await;
        }
    })
    .await;
    prlimit(Some(caller.pid()), Resource::Nofile, limit).unwrap();
    assert_eq!(caller.ask("wait").await, "ok");
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.matches("lacks a resource").count(), 1, "{log}");
}

/// The server closes the connection of the suspended client. The call and the end of the connection await it together.
#[tokio::test]
async fn first_call_after_a_suspension_succeeds() {
    // The client pings more often, also on a loaded machine.
    let config = ServerConfig::default().with_read_idle(Duration::from_secs(1));
    let serving = Serving::probe(&Probe::default(), config).await;
    let mut caller = Caller::start(serving.address(), "warn", Stdio::inherit());
    for _ in 0..3 {
        assert_eq!(caller.ask("call").await, "ok");
        kill_process(caller.pid(), Signal::STOP).unwrap();
        serving.until_counted(|counts| counts.connections == 0).await;
        caller.send("call").await;
        kill_process(caller.pid(), Signal::CONT).unwrap();
        assert_eq!(caller.answer().await, "ok");
    }
}
