//! The `im-node` command: runs one node of the IM cluster.

use std::{
    io::{self, BufRead as _},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use rpc_cli::{Failure, log_to_stderr, shutdown_signal};
use rpc_im::{
    auth::{Secret, Users},
    command::{EngineArguments, NodeArguments},
    store::Transferred,
};

/// Runs a node of the IM cluster: clients connect by WebSocket, other nodes by RPC. Ctrl-C or SIGTERM drains the node.
#[derive(Debug, Parser)]
#[command(name = "im-node")]
struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Reads a password from standard input, prints the line for the --users file, and exits.
    #[arg(long, value_name = "USER")]
    hash: Option<String>,
    /// Gives each conversation of --store a new incarnation, and exits. Run it once after the store was restored from a
    /// backup, and before a node uses it, so that clients detect that they have another history.
    #[arg(long)]
    renew_incarnations: bool,
    /// Prints the token of administrators of the cluster with --secret as a line of a token file, and exits.
    #[arg(long, requires = "secret")]
    admin_token: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

/// A command other than running a node.
#[derive(Debug, Subcommand)]
enum Action {
    /// Writes all conversations of --store to a new file, and exits. No node uses the store meanwhile.
    Export {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        engines: EngineArguments,
    },
    /// Reads a file that `export` wrote, stores its conversations in --store, except those that exist, and exits. Each
    /// gets a new incarnation, so clients receive its whole history again. No node uses the store meanwhile.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        engines: EngineArguments,
    },
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(user) = arguments.hash {
        let password = io::stdin().lock().lines().next().ok_or("standard input has no password")??;
        println!("{}", Users::line(&user, &password));
        return Ok(());
    }
    if let (true, Some(secret)) = (arguments.admin_token, &arguments.node.secret) {
        println!("{}", Secret::read(secret)?.admin_token_line());
        return Ok(());
    }
    log_to_stderr("info");
    match arguments.action {
        None => {}
        Some(Action::Export { file, engines }) => {
            let Transferred { conversations, messages, skipped, .. } = engines.export(&file).await?;
            println!("exported {conversations} conversations with {messages} messages; {skipped} have no members");
            return Ok(());
        }
        Some(Action::Import { file, engines }) => {
            let Transferred { conversations, messages, skipped, .. } = engines.import(&file).await?;
            println!("imported {conversations} conversations with {messages} messages; {skipped} exist already");
            return Ok(());
        }
    }
    if arguments.renew_incarnations {
        let count = arguments.node.engines.renew_incarnations().await?;
        println!("{count} conversations have new incarnations");
        return Ok(());
    }
    let node = arguments.node.start().await?;
    let shutdown = shutdown_signal();
    println!("{node}");
    node.run_until(shutdown).await;
    println!("drained");
    Ok(())
}
