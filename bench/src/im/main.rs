//! `im-bench`: how fast the IM cluster is, and what a session costs, measured through real WebSockets to nodes that are processes.
//!
//! | question | file |
//! |---|---|
//! | how are nodes started? | `nodes.rs` |
//! | how long does a message take? | `talk.rs`, with one session in `talker.rs` |
//! | what does a session cost that does nothing? | `idle.rs` |
//! | what is shown? | `report.rs` |
//!
//! What it shares with `msnb-bench` lies one folder up.

#[path = "../load/chart.rs"]
mod chart;
mod idle;
#[path = "../latencies.rs"]
#[expect(dead_code, reason = "shared with msnb-bench, which merges them")]
mod latencies;
mod nodes;
#[path = "../pace.rs"]
mod pace;
mod report;
#[path = "../resources.rs"]
mod resources;
mod talk;
mod talker;
#[path = "../timeline.rs"]
mod timeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rpc_im::command::NodeArguments;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    idle::{Hold, Idle},
    talk::Talk,
};

/// Measures the IM cluster: starts nodes, each a process, and is their clients.
#[derive(Debug, Parser)]
#[command(name = "im-bench", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lets sessions talk at a steady rate, and shows how long messages take from when they were to be sent.
    Talk(Talk),
    /// Opens sessions that do nothing, and shows what each costs.
    Idle(Idle),
    /// One node.
    #[command(hide = true)]
    Node(NodeArguments),
    /// Holds sessions that do nothing.
    #[command(hide = true)]
    Hold(Hold),
}

/// What may go wrong in a tool whose only answer is to say so.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    resources::raise_limit();
    // Two workers for each process, whatever the machine has: figures of different machines stay alike.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(args.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("im-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Talk(talk) => talk.run().await,
        Command::Idle(idle) => idle.run().await,
        Command::Hold(hold) => hold.run().await,
        Command::Node(arguments) => {
            let mut terminate = signal(SignalKind::terminate())?;
            let node = arguments.start().await?;
            println!("{node}");
            node.run_until(async { terminate.recv().await.unwrap_or_default() }).await;
            Ok(())
        }
    }
}
