//! `im-bench`: measures the IM cluster and its memory per session, over WebSockets to nodes in child processes.
//!
//! | topic | module |
//! |---|---|
//! | starting nodes | `nodes` |
//! | message latency | `talk`, with one session in `talker` |
//! | memory of idle sessions | `idle` |
//! | statistics | `report` |
//!
//! The files that it shares with `msnb-bench` are one folder up.

#[path = "../failure.rs"]
mod failure;
mod idle;
mod nodes;
mod report;
#[path = "../resources.rs"]
mod resources;
mod talk;
mod talker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rpc_im::command::NodeArguments;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    failure::Failure,
    idle::{Hold, Idle},
    talk::Talk,
};

/// Measures the IM cluster: starts nodes as child processes and acts as their clients.
#[derive(Debug, Parser)]
#[command(name = "im-bench", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends messages at a constant rate and prints their latencies, counted from the scheduled time.
    Talk(Talk),
    /// Opens idle sessions and prints the memory per session.
    Idle(Idle),
    /// Runs one node.
    #[command(hide = true)]
    Node(Box<NodeArguments>),
    /// Holds idle sessions.
    #[command(hide = true)]
    Hold(Hold),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    resources::raise_limit();
    // Two worker threads per process on any machine, so that results of different machines are comparable.
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
