//! Streams: a live feed, a file upload with a progress bar, and a chat.

mod client;
mod demo;
mod hash;
mod provide;
mod talk;
mod upload;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use msnb::{
    Server,
    app::{Failure, RegistryArgs, log_to_stderr},
};

use crate::client::client;

/// Streams of shop.Feed:1.0: prices, files and remarks.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
struct Args {
    /// Runs two providers and a consumer as processes, kills one provider and drains the other during a stream, and exits
    /// with status 0 only if no item is missing or repeated.
    #[arg(long)]
    demo: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves shop.Feed:1.0 until Ctrl-C or SIGTERM, then drains.
    Provide {
        #[command(flatten)]
        registry: RegistryArgs,
        /// The address to listen on; with port 0 the system chooses a free port.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// The directory for uploaded files.
        #[arg(long, value_name = "DIRECTORY", default_value = "uploads")]
        files: PathBuf,
        /// Answers also callers of gRPC, on the same port.
        #[cfg(feature = "grpc")]
        #[arg(long)]
        grpc: bool,
    },
    /// Prints the prices of a good, and continues at another provider when its own is lost.
    Watch {
        #[command(flatten)]
        registry: RegistryArgs,
        /// The good.
        #[arg(default_value = "tea")]
        good: String,
        /// The number of prices; without it, until Ctrl-C.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Uploads a file.
    Upload {
        #[command(flatten)]
        registry: RegistryArgs,
        /// The file.
        file: PathBuf,
    },
    /// Sends each line of the input as a remark, and prints the remarks of others.
    Talk {
        #[command(flatten)]
        registry: RegistryArgs,
        /// The name of the author.
        author: String,
        /// The room.
        #[arg(default_value = "lobby")]
        room: String,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let args = Args::parse();
    log_to_stderr("warn");
    if args.demo {
        return demo::run().await;
    }
    match args.command {
        #[cfg(feature = "grpc")]
        Some(Command::Provide { registry, listen, files, grpc }) => {
            let server = Server::builder();
            let server = if grpc { server.endpoint(msnb::grpc::Grpc::new()) } else { server };
            provide::run(server, &registry, listen, files).await?;
        }
        #[cfg(not(feature = "grpc"))]
        Some(Command::Provide { registry, listen, files }) => {
            provide::run(Server::builder(), &registry, listen, files).await?;
        }
        Some(Command::Watch { registry, good, count }) => {
            let report = watch::run(&client(&registry).await?, good, count).await?;
            println!("{report}");
            return Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Some(Command::Upload { registry, file }) => upload::run(&client(&registry).await?, &file).await?,
        Some(Command::Talk { registry, author, room }) => talk::run(&client(&registry).await?, room, author).await?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
