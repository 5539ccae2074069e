//! `msnb-bench`: measures msnb through the public API: the generated proxy, the client and the server with default
//! configuration.
//!
//! | topic | module |
//! |---|---|
//! | the contract of all calls | `echo` |
//! | server and client of msnb | `server`, `client` |
//! | load generation | `job`, `callers`, and the crate `loadgen` |
//! | statistics | `stats`, `summary` |
//! | comparison with other frameworks | `peers`, `compare` |
//! | scaling along one dimension | `grow` |
//! | instructions per call | `instructions` |
//! | items per second and memory of streams, and of a long upload | `streams` |
//! | routing while providers fail | `route` |
//! | faults of a provider, for each framework | `faults` |
//! | cost of idle connections | `idle`, `resources` |
//! | the error type | `failure` |

mod callers;
mod client;
mod compare;
mod echo;
mod failure;
mod faults;
mod grow;
mod idle;
mod instructions;
mod job;
mod link;
mod peers;
mod process;
mod resources;
mod route;
mod server;
mod stats;
mod streams;
mod summary;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    callers::Repeats,
    compare::Compare,
    failure::Failure,
    faults::{FaultServer, Faults},
    grow::{FleetClient, FleetServer, Grow},
    instructions::Instructions,
    job::Job,
    peers::Peer,
    process::Usage,
    route::{Route, RouteProvider},
    streams::{StreamJob, StreamPeer, Streams, Upload},
};

/// Measures the performance of msnb.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves bench.Echo:1.0 until SIGTERM, on two worker threads.
    Server {
        /// The address to listen on; with port 0 the system chooses a free port. The first line of output has the
        /// address.
        address: SocketAddr,
        /// Answers also callers of gRPC.
        #[cfg(feature = "compare")]
        #[arg(long)]
        grpc: bool,
    },
    /// Keeps calls of bench.Echo:1.0 in flight and prints one line of JSON.
    ///
    /// The measurement starts after one second of warm-up. Every reply is verified.
    #[command(after_help = CLIENT_HELP)]
    Client {
        /// The address of `msnb-bench server`.
        address: SocketAddr,
        #[command(flatten)]
        job: Job,
    },
    /// Measures msnb and other frameworks with the same workloads and prints tables.
    ///
    /// Server and client are separate processes with two worker threads each. `bare` echoes frames without an RPC
    /// framework, and shows the limit of the machine.
    Compare(Compare),
    /// Measures msnb along one dimension: connections, calls in flight, payload, services, methods or providers.
    Grow(Grow),
    /// Counts the instructions of a call at the client and at the server; requires valgrind.
    Instructions(Instructions),
    /// Measures the share of each provider and the latencies while providers fail and recover.
    Route(Route),
    /// Serves with faults that the standard input sets.
    #[command(hide = true)]
    RouteProvider(RouteProvider),
    /// Counts the calls that faults of a provider fail or delay, for msnb and other frameworks.
    Faults(Faults),
    /// Serves with a duration of calls that the standard input sets.
    #[command(hide = true)]
    FaultServer(FaultServer),
    /// Measures the items per second of streams and the memory of idle streams, and prints tables.
    Streams(Streams),
    /// Serves the streams of a peer.
    #[command(hide = true)]
    StreamServer { peer: StreamPeer, address: SocketAddr },
    /// Reads the streams of a peer.
    #[command(hide = true)]
    StreamClient {
        address: SocketAddr,
        #[arg(long)]
        peer: StreamPeer,
        #[command(flatten)]
        job: StreamJob,
    },
    /// Uploads to the streams of msnb.
    #[command(hide = true)]
    StreamUpload {
        address: SocketAddr,
        #[command(flatten)]
        upload: Upload,
    },
    /// Serves the echo service of a peer.
    #[command(hide = true)]
    PeerServer { peer: Peer, address: SocketAddr },
    /// Calls the echo service of a peer.
    #[command(hide = true)]
    PeerClient {
        address: SocketAddr,
        #[arg(long)]
        peer: Peer,
        /// The process id of the server.
        #[arg(long)]
        server: Option<u32>,
        #[command(flatten)]
        job: Job,
    },
    /// Holds idle connections to the echo service of a peer.
    #[command(hide = true)]
    PeerIdle {
        address: SocketAddr,
        #[arg(long)]
        peer: Peer,
        /// The process id of the server.
        #[arg(long)]
        server: u32,
        #[arg(long)]
        conns: usize,
    },
    /// Makes a fixed number of calls.
    #[command(hide = true)]
    CountedClient {
        address: SocketAddr,
        #[arg(long)]
        peer: Peer,
        #[command(flatten)]
        repeats: Repeats,
    },
    /// Serves many echo services on many addresses.
    #[command(hide = true)]
    FleetServer(FleetServer),
    /// Calls many echo services.
    #[command(hide = true)]
    FleetClient(FleetClient),
}

fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("msnb-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    // Two worker threads on any machine, so that results of different machines are comparable.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        #[cfg(feature = "compare")]
        Command::Server { address, grpc: true } => runtime.block_on(server::serve_grpc(address)),
        Command::Server { address, .. } => runtime.block_on(server::serve(address)),
        Command::Client { address, job } => {
            print(&runtime.block_on(Peer::Msnb.run(address, &job, Usage::default()))?)
        }
        Command::Compare(compare) => compare.run(),
        Command::Grow(grow) => grow.run(),
        Command::FleetServer(server) => runtime.block_on(server.run()),
        Command::FleetClient(client) => print(&runtime.block_on(client.run())?),
        Command::Instructions(instructions) => instructions.run(),
        Command::CountedClient { address, peer, repeats } => runtime.block_on(peer.repeat(address, repeats)),
        Command::Faults(faults) => runtime.block_on(faults.run()),
        Command::FaultServer(server) => runtime.block_on(server.run()),
        Command::Route(route) => runtime.block_on(route.run()),
        Command::RouteProvider(provider) => runtime.block_on(provider.run()),
        Command::Streams(streams) => streams.run(),
        Command::StreamServer { peer, address } => runtime.block_on(peer.serve(address)),
        Command::StreamClient { address, peer, job } => print(&runtime.block_on(peer.run(address, &job))?),
        Command::StreamUpload { address, upload } => print(&runtime.block_on(upload.run(address))?),
        Command::PeerServer { peer, address } => {
            resources::raise_limit();
            runtime.block_on(until_terminated(peer.serve(address)))
        }
        Command::PeerClient { peer, address, server, job } => {
            print(&runtime.block_on(peer.run(address, &job, Usage { server }))?)
        }
        Command::PeerIdle { peer, address, server, conns } => {
            print(&runtime.block_on(idle::measure(peer, address, conns, server))?)
        }
    }
}

/// Runs a server until it ends, or until SIGTERM.
async fn until_terminated(serving: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Cancel-safe: the process ends when one of the two completes.
    tokio::select! {
        ended = serving => ended,
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints one line of JSON.
fn print(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Logs to stderr, filtered by `RUST_LOG`; the default is level warn.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

const CLIENT_HELP: &str = "The line has the fields calls and errors (calls with a correct reply, and all others), secs (the duration of \
the measurement), p50_us, p99_us and p999_us (latencies of all these calls in microseconds) and cpu_s (user and system time of this \
process). All refer to the measured time. The first error is printed to stderr.";
