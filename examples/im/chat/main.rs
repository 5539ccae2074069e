//! A chat in the terminal: what one types goes to somebody, and what others say is printed.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    thread,
    time::Duration,
};

use clap::Parser;
use examples::{Failure, log_to_stderr, stopped_by_signal};
use rpc_im::{
    client::{Client, Event, login},
    envelope::{Conversation, Recipient},
};
use tokio::sync::mpsc;

/// A chat in the terminal, on whichever node of the cluster there is.
///
/// What one types goes to whom one talks with: /to USER, /group NAME USER USER…, /in N picks that. /list shows the conversations,
/// /quit ends.
#[derive(Debug, Parser)]
struct Args {
    /// Who one is.
    #[arg(long)]
    user: String,
    /// The password; with --dev-login at the nodes, any.
    #[arg(long, env = "IM_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,
    /// Any node, as http://host:port.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9001")]
    gate: String,
    /// The name of this device; another session of the same one ends.
    #[arg(long, default_value = "terminal")]
    device: String,
    /// Whom to talk with at first.
    #[arg(long, value_name = "USER")]
    to: Option<String>,
}

/// What the terminal knows.
struct Chat {
    me: String,
    client: Client,
    to: Option<Recipient>,
    conversations: Vec<Conversation>,
    sent: u64,
    /// Messages that are not known to be stored.
    unsettled: u64,
    /// Makes the ids of this run unlike those of another.
    run: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    log_to_stderr("warn");
    let logged_in = login(&args.gate, &args.user, &args.password, &args.device, "terminal").await?;
    let mut chat = Chat {
        me: args.user,
        client: Client::start(logged_in),
        to: args.to.map(Recipient::User),
        conversations: Vec::new(),
        sent: 0,
        unsettled: 0,
        run: rand::random(),
    };
    let mut lines = typed();
    let mut stop = std::pin::pin!(stopped_by_signal());
    loop {
        // Each may be dropped: the queues of lines and of events lose nothing.
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) if line.trim() != "/quit" => chat.handle_line(line.trim()).await,
                _ => break,
            },
            event = chat.client.next() => match event {
                Some(Event::Ended { reason }) => return Err(format!("the cluster has ended this session: {reason}").into()),
                Some(event) => chat.handle_event(event),
                None => break,
            },
            () = &mut stop => break,
        }
    }
    chat.settle().await;
    Ok(())
}

impl Chat {
    async fn handle_line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some("/to") => match words.next() {
                Some(user) => self.talk_with(Recipient::User(user.to_owned()), user),
                None => println!("  /to USER"),
            },
            Some("/group") => match (words.next(), words.map(str::to_owned).collect::<Vec<_>>()) {
                (Some(name), members) if !members.is_empty() => {
                    self.sent += 1;
                    self.client.create(format!("{:x}-{}", self.run, self.sent), name.to_owned(), members).await;
                }
                _ => println!("  /group NAME USER USER…"),
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
                        self.talk_with(Recipient::Conversation(conversation.conversation.clone()), &title);
                    }
                    None => println!("  /in N, as /list numbers them"),
                }
            }
            Some(word) if word.starts_with('/') => println!("  /to, /group, /in, /list, /quit"),
            Some(_) => match self.to.clone() {
                Some(to) => {
                    self.sent += 1;
                    self.unsettled += 1;
                    self.client.send(format!("{:x}-{}", self.run, self.sent), to, line.to_owned()).await;
                }
                None => println!("  with whom? /to USER"),
            },
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected { node } => println!("* on node {node}"),
            Event::Disconnected => println!("* the node is gone; looking for another"),
            Event::Message(push) => {
                if self.to.is_none() && push.from != self.me {
                    self.to = Some(Recipient::Conversation(push.conversation.clone()));
                }
                let known = self.conversations.iter().find(|known| known.conversation == push.conversation);
                let place = known.filter(|known| !known.name.is_empty()).map(|known| format!(" in {}", known.name));
                println!("{}{}: {}", push.from, place.unwrap_or_default(), push.body);
            }
            Event::Stored { .. } => self.unsettled -= 1,
            Event::Failed { reason, .. } => {
                self.unsettled = self.unsettled.saturating_sub(1);
                println!("* not sent: {reason}");
            }
            Event::Conversation(conversation) => {
                if conversation.id.is_some() {
                    let title = conversation.name.clone();
                    self.talk_with(Recipient::Conversation(conversation.conversation.clone()), &title);
                }
                self.conversations.retain(|known| known.conversation != conversation.conversation);
                self.conversations.push(conversation);
            }
            Event::Presence(presence) => {
                println!("* {} {}", presence.user, if presence.online { "is here" } else { "has gone" });
            }
            _ => {}
        }
    }

    /// Waits a moment for what was typed last.
    async fn settle(&mut self) {
        let settled = async {
            while self.unsettled > 0 {
                let Some(event) = self.client.next().await else { return };
                self.handle_event(event);
            }
        };
        if tokio::time::timeout(LAST_WORDS, settled).await.is_err() {
            println!("* the last messages may not have been sent");
        }
    }

    fn talk_with(&mut self, to: Recipient, title: &str) {
        println!("* with {title}");
        self.to = Some(to);
    }

    fn title(&self, conversation: &Conversation) -> String {
        if !conversation.name.is_empty() {
            return conversation.name.clone();
        }
        let others: Vec<_> = conversation.members.iter().filter(|member| **member != self.me).cloned().collect();
        others.join(", ")
    }
}

/// How long the last messages have.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The lines that are typed, until the end of the input.
fn typed() -> mpsc::Receiver<String> {
    let (typed, lines) = mpsc::channel(16);
    // Reading a terminal cannot be cancelled: its thread ends with the process.
    thread::spawn(move || {
        if io::stdin().is_terminal() {
            println!("* /to USER, /group NAME USER…, /list, /in N, /quit");
        }
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
