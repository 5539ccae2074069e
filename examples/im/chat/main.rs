//! A terminal client for the IM cluster: it sends typed lines and prints received messages.

/// Prints a line in which control characters are replaced, because names and messages of others could change the
/// terminal.
macro_rules! print_line {
    ($($argument:tt)*) => {
        println!("{}", $crate::printable(&format!($($argument)*)))
    };
}

mod chat;
mod command;
mod conversations;
mod events;

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    thread,
};

use clap::Parser;
use msnb::app::{Failure, log_to_stderr, shutdown_signal};
use rpc_im::client::{Client, Event, login};
use tokio::sync::mpsc;

use chat::Chat;
use command::{COMMANDS, Command};

/// A terminal client for the IM cluster.
///
/// Sends each typed line to the current recipient. Each message has a number, which /edit and /recall use. Other lines
/// that begin with a slash are commands; an unknown one prints the list of them.
#[derive(Debug, Parser)]
struct Args {
    /// The user name.
    #[arg(long)]
    user: String,
    /// The password; nodes with --dev-login accept any password.
    #[arg(long, env = "IM_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,
    /// The URL of any node, http://host:port.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9001")]
    gate: String,
    /// The name of this device; logging in ends another session of the same device.
    #[arg(long, default_value = "terminal")]
    device: String,
    /// The first recipient.
    #[arg(long, value_name = "USER")]
    to: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    log_to_stderr("warn");
    let logged_in = login(&args.gate, &args.user, &args.password, &args.device, "terminal").await?;
    let mut chat = Chat::new(args.user, Client::start(logged_in), args.to);
    let mut lines = read_lines();
    let mut shutdown = std::pin::pin!(shutdown_signal());
    loop {
        // All branches are cancel-safe: the queues of lines and of events lose nothing.
        tokio::select! {
            line = lines.recv() => match line.as_deref().map(Command::parse) {
                None | Some(Ok(Some(Command::Quit))) => break,
                Some(Ok(None)) => {}
                Some(Ok(Some(command))) => chat.execute(command).await,
                Some(Err(usage)) => println!("  usage: {usage}"),
            },
            event = chat.next() => match event {
                Some(Event::Ended { reason }) => return Err(format!("the cluster ended this session: {reason}").into()),
                Some(event) => chat.handle_event(event).await,
                None => break,
            },
            () = &mut shutdown => break,
        }
    }
    chat.wait_for_answers().await;
    Ok(())
}

/// Returns the typed lines until the end of the input.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    // Reading from a terminal cannot be cancelled, so the thread runs until the process ends.
    thread::spawn(move || {
        if io::stdin().is_terminal() {
            println!("* {COMMANDS}");
        }
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Replaces control characters by U+FFFD.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }).collect()
}
