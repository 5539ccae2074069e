//! `msnb-bench`: how fast msnb is, measured through what every user has: the generated proxy, the ordinary client, the ordinary
//! server, their default configuration.
//!
//! | question | file |
//! |---|---|
//! | what is called? | `echo.rs` |
//! | how is it served? | `server.rs` |
//! | what keeps calls in flight, and what is counted? | `job.rs`, `callers.rs`, `pace.rs`, `tally.rs`, `latencies.rs` |
//! | how is it called through msnb? | `client.rs` |

mod callers;
mod client;
mod echo;
mod job;
mod latencies;
mod link;
mod pace;
mod process;
mod server;
mod summary;
mod tally;

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{job::Job, process::Usage};

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
    runtime.block_on(async {
        match command {
            Command::Server { address } => server::serve(address).await,
            Command::Client { address, job } => {
                client::run(address, &job, Usage::default()).await?.print();
                Ok(())
            }
        }
    })
}

/// Logs to stderr what `RUST_LOG` says, else warnings.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

const CLIENT_HELP: &str = "The line has calls, errors, secs, p50_us, p99_us, p999_us and cpu_s: calls with the right reply and \
others, both during the measured time; its length; latencies of all of them in microseconds; and the user and system time of this \
process during it. What the first error was is told on stderr.";
