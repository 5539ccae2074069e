//! An IM cluster on this machine, with a page for browsers or a scripted conversation.

mod cluster;
mod demo;

use clap::{Parser, Subcommand};
use msnb::app::{Failure, log_to_stderr, shutdown_signal};
use rpc_im::command::NodeArguments;
use tokio::io::AsyncReadExt as _;

use cluster::Cluster;

/// Runs a cluster of IM nodes on this machine, each in its own process, without other servers. Prints the URLs of their
/// pages.
#[derive(Debug, Parser)]
struct Args {
    /// The number of nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    nodes: u16,
    /// The client port of the first node; the other nodes use the following ports. With 0 each node uses a free port.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    port: u16,
    /// Runs a scripted conversation across the nodes, kills one of them during it, and exits.
    #[arg(long)]
    demo: bool,
    #[command(subcommand)]
    node: Option<Child>,
}

/// The subcommand with which this program starts its child processes.
#[derive(Debug, Subcommand)]
enum Child {
    /// Runs one node. It exits when its input ends, so that no node outlives its parent.
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
        // The conversation does not depend on the ports, so use free ones.
        return demo::run(Cluster::start(args.nodes.max(3), 0).await?).await;
    }
    let cluster = Cluster::start(args.nodes, args.port).await?;
    println!("{} nodes; log in with any user name and any password:", cluster.nodes().len());
    for node in cluster.nodes() {
        println!("  node {}: {}", node.name(), node.url());
    }
    if let Some(node) = cluster.nodes().first() {
        println!("terminal client: cargo run -p im --bin im-chat -- --user ann --gate {}", node.url());
    }
    let shutdown = shutdown_signal();
    println!("press Ctrl-C to stop all nodes");
    shutdown.await;
    cluster.stop().await
}

async fn serve(arguments: NodeArguments) -> Result<(), Failure> {
    log_to_stderr("warn");
    let node = arguments.start().await?;
    let mut shutdown = std::pin::pin!(shutdown_signal());
    println!("{node}");
    node.run_until(async {
        let mut parent = tokio::io::stdin();
        // Ctrl-C also reaches the parent, which then closes the input: the first of both events ends the node.
        tokio::select! {
            () = &mut shutdown => {}
            _ = parent.read_u8() => {}
        }
    })
    .await;
    Ok(())
}
