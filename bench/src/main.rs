//! `msnb-bench`: how fast msnb is, measured through what every user has: the generated proxy, the ordinary client, the ordinary
//! server, their default configuration.
//!
//! | question | file |
//! |---|---|
//! | what is called? | `echo.rs` |
//! | how is it served? | `server.rs` |
//! | what keeps calls in flight, and what is counted? | `job.rs`, `callers.rs`, `pace.rs`, `tally.rs`, `latencies.rs`; over time `timeline.rs` |
//! | how is it called through msnb? | `client.rs` |
//! | with what is it compared, and how? | `peers/`, `compare/` |
//! | how does it change as something grows? | `grow/` |
//! | how many instructions does a call take? | `instructions.rs` |
//! | how is a service loaded of which only the name is known? | `load/` |
//! | what does a connection cost that does nothing? | `idle.rs`, `resources.rs` |

mod callers;
mod client;
mod compare;
mod echo;
mod grow;
mod idle;
mod instructions;
mod job;
mod latencies;
mod link;
mod load;
mod pace;
mod peers;
mod process;
mod resources;
mod server;
mod summary;
mod tally;
mod timeline;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::{
    compare::Compare,
    grow::{CrowdClient, CrowdServer, Grow},
    instructions::{CountedClient, Instructions},
    job::Job,
    load::Load,
    peers::Peer,
    process::Usage,
};

/// Measures msnb.
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
        /// The address to listen on; port 0 lets the system choose, and the first line printed says which.
        address: SocketAddr,
    },
    /// Keeps calls of bench.Echo:1.0 in flight and prints one line of JSON.
    ///
    /// One second is warm-up; then the seconds asked for are measured. Every reply is checked.
    #[command(after_help = CLIENT_HELP)]
    Client {
        /// Where `msnb-bench server` listens.
        address: SocketAddr,
        #[command(flatten)]
        job: Job,
    },
    /// Sets msnb and other frameworks to the same jobs, in turn, and prints tables.
    ///
    /// Server and client are a process each, with two workers each. `bare` is no framework: it sends frames back without any
    /// call, and shows what the machine has to give.
    Compare(Compare),
    /// Measures msnb as one number grows: connections, calls in flight, payload, services, methods, providers.
    Grow(Grow),
    /// Counts the instructions of a call at either end; needs valgrind.
    Instructions(Instructions),
    /// Calls a method of any service and shows how long that takes.
    ///
    /// The arguments are JSON, so the service's own types are not needed.
    Load(Load),
    /// Serves the echo of any of those that are compared.
    #[command(hide = true)]
    PeerServer { peer: Peer, address: SocketAddr },
    /// Calls the echo of any of those that are compared.
    #[command(hide = true)]
    PeerClient {
        address: SocketAddr,
        #[arg(long)]
        peer: Peer,
        /// The server's process.
        #[arg(long)]
        server: Option<u32>,
        #[command(flatten)]
        job: Job,
    },
    /// Holds connections to the echo of any of those that are compared.
    #[command(hide = true)]
    PeerIdle {
        address: SocketAddr,
        #[arg(long)]
        peer: Peer,
        /// The server's process.
        #[arg(long)]
        server: u32,
        #[arg(long)]
        conns: usize,
    },
    /// Makes a number of calls.
    #[command(hide = true)]
    CountedClient(CountedClient),
    /// Serves many echoes at many addresses.
    #[command(hide = true)]
    CrowdServer(CrowdServer),
    /// Calls many echoes.
    #[command(hide = true)]
    CrowdClient(CrowdClient),
}

/// What may go wrong in a tool whose only answer is to say so.
type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    // Two workers on either side, whatever the machine has: figures of different machines stay alike.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        Command::Server { address } => runtime.block_on(server::serve(address)),
        Command::Client { address, job } => {
            print(&runtime.block_on(Peer::Msnb.run(address, &job, Usage::default()))?)
        }
        Command::Compare(compare) => compare.run(),
        Command::Grow(grow) => grow.run(),
        Command::CrowdServer(server) => runtime.block_on(server.run()),
        Command::CrowdClient(client) => print(&runtime.block_on(client.run())?),
        Command::Instructions(instructions) => instructions.run(),
        Command::CountedClient(client) => runtime.block_on(client.run()),
        Command::Load(load) => runtime.block_on(load.run()),
        Command::PeerServer { peer, address } => {
            resources::raise_limit();
            runtime.block_on(peer.serve(address))
        }
        Command::PeerClient { peer, address, server, job } => {
            print(&runtime.block_on(peer.run(address, &job, Usage { server }))?)
        }
        Command::PeerIdle { peer, address, server, conns } => {
            print(&runtime.block_on(idle::measure(peer, address, conns, server))?)
        }
    }
}

/// Prints one line of JSON.
fn print(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Logs to stderr what `RUST_LOG` says, else warnings.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

const CLIENT_HELP: &str = "The line has calls, errors, secs, p50_us, p99_us, p999_us and cpu_s: calls with the right reply and \
others, both during the measured time; its length; latencies of all of them in microseconds; and the user and system time of this \
process during it. What the first error was is told on stderr.";
