//! A terminal client for the IM cluster: it sends typed lines and prints received messages.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    thread,
    time::Duration,
};

use clap::Parser;
use rpc_cli::{Failure, log_to_stderr, shutdown_signal};
use rpc_im::{
    client::{Client, Event, login},
    envelope::{Conversation, Recipient},
};
use tokio::sync::mpsc;

/// A terminal client for the IM cluster.
///
/// Sends each typed line to the current recipient. Commands: /to USER, /group NAME USER USER… and /in N select the
/// recipient, /list shows the conversations, /quit exits.
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

/// The state of the client.
struct Chat {
    user: String,
    client: Client,
    to: Option<Recipient>,
    conversations: Vec<Conversation>,
    sent: u64,
    /// The number of sent messages without a confirmation.
    unconfirmed: u64,
    /// A random prefix that makes message ids unique across runs.
    run: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    log_to_stderr("warn");
    let logged_in = login(&args.gate, &args.user, &args.password, &args.device, "terminal").await?;
    let mut chat = Chat {
        user: args.user,
        client: Client::start(logged_in),
        to: args.to.map(Recipient::User),
        conversations: Vec::new(),
        sent: 0,
        unconfirmed: 0,
        run: rand::random(),
    };
    let mut lines = read_lines();
    let mut shutdown = std::pin::pin!(shutdown_signal());
    loop {
        // All branches are cancel-safe: the queues of lines and of events lose nothing.
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) if line.trim() != "/quit" => chat.handle_line(line.trim()).await,
                _ => break,
            },
            event = chat.client.next() => match event {
                Some(Event::Ended { reason }) => return Err(format!("the cluster ended this session: {reason}").into()),
                Some(event) => chat.handle_event(event),
                None => break,
            },
            () = &mut shutdown => break,
        }
    }
    chat.wait_for_confirmations().await;
    Ok(())
}

impl Chat {
    async fn handle_line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some("/to") => match words.next() {
                Some(user) => self.set_recipient(Recipient::User(user.to_owned()), user),
                None => println!("  usage: /to USER"),
            },
            Some("/group") => match (words.next(), words.map(str::to_owned).collect::<Vec<_>>()) {
                (Some(name), members) if !members.is_empty() => {
                    self.sent += 1;
                    self.client.create(format!("{:x}-{}", self.run, self.sent), name.to_owned(), members).await;
                }
                _ => println!("  usage: /group NAME USER USER…"),
            },
            Some("/list") => {
                for (number, conversation) in (1..).zip(&self.conversations) {
                    println!("  {number}: {} ({} messages)", self.title(conversation), conversation.seq);
                }
            }
            Some("/in") => {
                let number = words.next().and_then(|word| word.parse::<usize>().ok());
                match number.and_then(|number| self.conversations.get(number.checked_sub(1)?)) {
                    Some(conversation) => {
                        let title = self.title(conversation);
                        self.set_recipient(Recipient::Conversation(conversation.conversation.clone()), &title);
                    }
                    None => println!("  usage: /in N, with a number from /list"),
                }
            }
            Some(word) if word.starts_with('/') => println!("  commands: /to, /group, /in, /list, /quit"),
            Some(_) => match self.to.clone() {
                Some(to) => {
                    self.sent += 1;
                    self.unconfirmed += 1;
                    self.client.send(format!("{:x}-{}", self.run, self.sent), to, line.to_owned()).await;
                }
                None => println!("  no recipient; select one with /to USER"),
            },
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected { node } => println!("* connected to node {node}"),
            Event::Disconnected => println!("* disconnected; connecting to another node"),
            Event::Message(push) => {
                if self.to.is_none() && push.from != self.user {
                    self.to = Some(Recipient::Conversation(push.conversation.clone()));
                }
                let known = self.conversations.iter().find(|known| known.conversation == push.conversation);
                let group = known.filter(|known| !known.name.is_empty()).map(|known| format!(" in {}", known.name));
                println!("{}{}: {}", push.from, group.unwrap_or_default(), push.body);
            }
            Event::Stored { .. } => self.unconfirmed -= 1,
            Event::Failed { reason, .. } => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                println!("* not sent: {reason}");
            }
            Event::Conversation(conversation) => {
                if conversation.id.is_some() {
                    let title = conversation.name.clone();
                    self.set_recipient(Recipient::Conversation(conversation.conversation.clone()), &title);
                }
                self.conversations.retain(|known| known.conversation != conversation.conversation);
                self.conversations.push(conversation);
            }
            Event::Presence(presence) => {
                println!("* {} is {}", presence.user, if presence.online { "online" } else { "offline" });
            }
            _ => {}
        }
    }

    /// Waits up to 5 s for the confirmations of the last messages.
    async fn wait_for_confirmations(&mut self) {
        let confirmed = async {
            while self.unconfirmed > 0 {
                let Some(event) = self.client.next().await else { return };
                self.handle_event(event);
            }
        };
        if tokio::time::timeout(CONFIRMATION_TIMEOUT, confirmed).await.is_err() {
            println!("* the last messages may not have been sent");
        }
    }

    fn set_recipient(&mut self, to: Recipient, title: &str) {
        println!("* recipient: {title}");
        self.to = Some(to);
    }

    fn title(&self, conversation: &Conversation) -> String {
        if !conversation.name.is_empty() {
            return conversation.name.clone();
        }
        let others: Vec<_> = conversation.members.iter().filter(|member| **member != self.user).cloned().collect();
        others.join(", ")
    }
}

/// The time that the last messages have to be confirmed.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the typed lines until the end of the input.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    // Reading from a terminal cannot be cancelled, so the thread runs until the process ends.
    thread::spawn(move || {
        if io::stdin().is_terminal() {
            println!("* /to USER, /group NAME USER…, /list, /in N, /quit");
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
