//! A cluster of three nodes on this machine: a page to open in a browser, or a talk that plays by itself.

mod cluster;
mod demo;

use clap::{Parser, Subcommand};
use examples::{Failure, log_to_stderr, stopped_by_signal};
use rpc_im::command::NodeArguments;
use tokio::io::AsyncReadExt as _;

use cluster::Cluster;

/// Three nodes of the IM cluster on this machine, each a process, with nothing else to start. Prints where their pages are.
#[derive(Debug, Parser)]
struct Args {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    nodes: u16,
    /// The port of the first node for clients; the others have the next ones. 0: any that are free.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    port: u16,
    /// Plays a talk across the nodes, kills one of them in the middle of it, and ends.
    #[arg(long)]
    demo: bool,
    #[command(subcommand)]
    node: Option<Child>,
}

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
enum Child {
    /// One node; ends when its input does, so that none is left behind.
    #[command(hide = true)]
    Node(NodeArguments),
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    if let Some(Child::Node(arguments)) = args.node {
        return serve(arguments).await;
    }
    log_to_stderr("warn");
    if args.demo {
        // Any ports: the talk is the same.
        return demo::play(Cluster::start(args.nodes.max(3), 0).await?).await;
    }
    let cluster = Cluster::start(args.nodes, args.port).await?;
    println!("{} nodes; anybody may log in as anybody, with any password:", cluster.nodes().len());
    for node in cluster.nodes() {
        println!("  node {}: {}", node.name(), node.url());
    }
    if let Some(node) = cluster.nodes().first() {
        println!("In a terminal: cargo run -p im --bin im-chat -- --user ann --gate {}", node.url());
    }
    println!("Ctrl-C ends all of them.");
    stopped_by_signal().await;
    cluster.stop().await
}

async fn serve(arguments: NodeArguments) -> Result<(), Failure> {
    log_to_stderr("warn");
    let node = arguments.start().await?;
    println!("{node}");
    node.run_until(async {
        let mut parent = tokio::io::stdin();
        // Ctrl-C reaches the parent too, which then closes the input; whichever comes first.
        tokio::select! {
            () = stopped_by_signal() => {}
            _ = parent.read_u8() => {}
        }
    })
    .await;
    Ok(())
}
