//! Runs the `msnb-bench` binary: server and client in separate processes.

use std::{
    error::Error,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

/// A server process that is killed on drop.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut process = bench().args(["server", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        server.address = line.trim().rsplit(' ').next().ok_or("no address")?.to_owned();
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_msnb-bench"))
}

fn client(arguments: &[&str]) -> std::io::Result<Output> {
    bench().arg("client").args(arguments).output()
}

#[test]
fn client_prints_one_line_of_json() -> Outcome {
    let server = Server::start()?;
    let job = ["--conns", "3", "--inflight", "17", "--payload", "100", "--seconds", "1"];
    let output = client(&[&[server.address.as_str()], &job[..]].concat())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout)?;
    assert_eq!(line.lines().count(), 1, "{line}");
    let summary: Value = serde_json::from_str(&line)?;
    let keys: Vec<_> = summary.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
    assert_eq!(keys, ["calls", "cpu_s", "errors", "p50_us", "p999_us", "p99_us", "secs"]);
    assert_eq!(summary["errors"], 0);
    assert!(summary["calls"].as_u64() > Some(0), "{line}");
    assert_eq!(summary["secs"].as_f64(), Some(1.0));
    assert!(summary["p50_us"].as_f64() <= summary["p999_us"].as_f64(), "{line}");
    Ok(())
}

#[test]
fn open_loop_keeps_the_requested_rate() -> Outcome {
    let server = Server::start()?;
    let output = client(&[&server.address, "--inflight", "8", "--rate", "500", "--seconds", "1"])?;
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    let calls = summary["calls"].as_u64().ok_or("no calls")?;
    assert!((250..=550).contains(&calls), "{summary}");
    // Tasks that wait for their scheduled start must not delay the end.
    let start = Instant::now();
    assert!(client(&[&server.address, "--inflight", "100", "--rate", "1", "--seconds", "0.5"])?.status.success());
    assert!(start.elapsed() < Duration::from_secs(10));
    Ok(())
}

#[test]
fn compare_prints_tables_and_draws_bars() -> Outcome {
    let drawing = std::env::temp_dir().join(format!("msnb-bench-compare-{}.svg", std::process::id()));
    let jobs = ["--rounds", "1", "--seconds", "0.2", "--jobs", "1/8/32,idle/50", "--peers", "msnb,bare"];
    let output = bench().arg("compare").args(jobs).arg("--svg").arg(&drawing).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (out, drawn) = (String::from_utf8(output.stdout)?, std::fs::read_to_string(&drawing)?);
    std::fs::remove_file(&drawing)?;
    assert_eq!(out.matches("| msnb |").count(), 2, "{out}");
    assert_eq!(out.matches("| bare |").count(), 2, "{out}");
    assert_eq!(drawn.matches("<rect x=").count(), 4);
    Ok(())
}

#[test]
fn grow_prints_tables_and_draws_curves() -> Outcome {
    let drawing = std::env::temp_dir().join(format!("msnb-bench-grow-{}.svg", std::process::id()));
    let numbers = ["--axes", "services,providers", "--up-to", "10", "--rounds", "1", "--seconds", "0.2"];
    let output = bench().arg("grow").args(numbers).arg("--svg").arg(&drawing).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (out, drawn) = (String::from_utf8(output.stdout)?, std::fs::read_to_string(&drawing)?);
    std::fs::remove_file(&drawing)?;
    let points: Vec<&str> =
        out.lines().filter(|line| line.starts_with("| 1 |") || line.starts_with("| 10 |")).collect();
    assert_eq!(points.len(), 4, "{out}");
    assert!(points.iter().all(|point| point.ends_with("| 0 |")), "calls failed: {out}");
    assert_eq!(drawn.matches("<polyline").count(), 2);
    Ok(())
}

#[test]
fn server_exits_successfully_on_sigterm() -> Outcome {
    let mut server = Server::start()?;
    kill_process(Pid::from_child(&server.process), Signal::TERM)?;
    let signalled = Instant::now();
    let status = loop {
        match server.process.try_wait()? {
            Some(status) => break status,
            None if signalled.elapsed() > Duration::from_secs(10) => {
                return Err("the server did not end within 10 s".into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn client_reports_errors() -> Outcome {
    // A free port without a listener.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let output = client(&[&address, "--seconds", "1"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr)?.contains(&address));
    let output = client(&[&address, "--seconds", "0"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("more than 0"));
    Ok(())
}
