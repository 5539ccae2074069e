//! The command `msnb`, which lists, describes, calls, compares and pings services.
//!
//! | topic | module |
//! |---|---|
//! | one subcommand each | `ls`, `describe`, `call`, `check`, `export`, `ping`, `press`, `watch` |
//! | the server or registry that a command asks | `target` |
//! | a contract as Rust, and as a request body to fill in | `contract` |
//! | exit codes, and errors that say how to fix the problem | `command_error` |
//! | load on a method, and its latencies | `load` |
//! | writing to stdout, which may be closed early | `output`, `printable` |
//!
//! `docs/CLI.md` documents the commands, their output and the exit codes.

mod call;
mod check;
mod command_error;
mod contract;
mod describe;
mod duration;
mod export;
mod load;
mod ls;
mod output;
mod ping;
mod press;
mod printable;
mod provider;
mod route;
mod target;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rpc_cli::log_to_stderr;
use tokio::runtime::Builder;

use crate::command_error::{CommandError, Exit};

/// Lists, describes, calls, compares and pings msnb services.
///
/// Exit codes: 0 success; 1 `check` found a break, `ping` lost a reply, or a call of `press` failed; 2 invalid input; 3 the service's own error;
/// 4 another error of the server; 5 unreachable, no provider, or out of time; 130 interrupted;
/// 141 the reader of stdout has ended.
#[derive(Debug, Parser)]
#[command(name = "msnb", version, max_term_width = 120)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(ls::Ls),
    Describe(describe::Describe),
    Call(call::Call),
    Check(check::Check),
    Export(export::Export),
    Ping(ping::Ping),
    Press(press::Press),
    Watch(watch::Watch),
}

fn main() -> ExitCode {
    let Args { command } = Args::parse();
    log_to_stderr("error");
    let mut builder = match command {
        // A load needs more than one processor.
        Command::Press(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            CommandError::input(format!("cannot start the runtime: {error}")).print();
            return Exit::Input.into();
        }
    };
    let exit = runtime.block_on(run(command));
    // A thread that waits for stdin must not hold up the end of the program.
    runtime.shutdown_background();
    exit.into()
}

async fn run(command: Command) -> Exit {
    let (json, result) = match command {
        Command::Ls(command) => (command.json, command.run().await),
        Command::Describe(command) => (command.json, command.run().await),
        Command::Call(command) => (command.json, command.run().await),
        Command::Check(command) => (command.is_json(), command.run().await),
        Command::Export(command) => (false, command.run().await),
        Command::Ping(command) => (command.json, command.run().await),
        Command::Press(command) => (command.json, command.run().await),
        Command::Watch(command) => (command.json, command.run().await),
    };
    match result {
        Ok(exit) => exit,
        Err(error) => {
            if error.exit() == Exit::ClosedPipe {
                // Other programs also end silently when their reader does.
            } else if json {
                // If stdout cannot be written, the exit code still reports the failure.
                let _ = output::json(&error.document());
            } else {
                error.print();
            }
            error.exit()
        }
    }
}
