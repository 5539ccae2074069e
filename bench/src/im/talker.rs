//! [`Talker`]: one session that says what it is told to, and notes when what others said arrives.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_im::{
    client::{Line, LineError, LoggedIn},
    envelope::{Auth, ClientFrame, Create, Encoding, Recipient, Send, ServerFrame, Sync},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{Failure, report::Report};

/// One session that says what it is told to.
pub(crate) struct Talker {
    says: mpsc::Sender<Instant>,
    _task: JoinSet<()>,
}

/// What all talkers share.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    /// What a message says besides when it was to be sent.
    pub(crate) padding: String,
    pub(crate) report: Mutex<Report>,
}

impl Talker {
    /// Speaks on a line, to one recipient. It ends when it is dropped.
    pub(crate) fn begin(line: Line, to: Recipient, shared: Arc<Shared>) -> Self {
        let (says, due) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = talk(line, to, due, &shared).await {
                shared.report().fail(error.to_string());
            }
        });
        Self { says, _task: task }
    }

    /// Lets it say something that was to be said at `due`; false when it has not said what it was told to before.
    pub(crate) fn say(&self, due: Instant) -> bool {
        self.says.try_send(due).is_ok()
    }
}

impl Shared {
    pub(crate) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that is let in.
pub(crate) async fn enter(logged_in: &LoggedIn) -> Result<Line, Failure> {
    let entering = async {
        let mut line = Line::connect(&logged_in.nodes[0], Encoding::Protobuf).await?;
        line.say(&ClientFrame::Auth(Auth { token: logged_in.token.clone() })).await?;
        match line.next().await? {
            ServerFrame::AuthOk(_) => Ok(line),
            ServerFrame::Error(error) => Err(Failure::from(error.message)),
            _ => Err(Failure::from("a login is not answered")),
        }
    };
    timeout(PATIENCE, entering).await.map_err(|_| "a node lets nobody in")?
}

/// Begins a conversation with these; gives its name.
pub(crate) async fn create(line: &mut Line, members: Vec<String>) -> Result<String, Failure> {
    line.say(&ClientFrame::Create(Create { id: "group".to_owned(), name: "group".to_owned(), members })).await?;
    let created = async {
        loop {
            match line.next().await? {
                ServerFrame::Conversation(conversation) if conversation.id.is_some() => {
                    return Ok(conversation.conversation);
                }
                ServerFrame::Error(error) => return Err(Failure::from(error.message)),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, created).await.map_err(|_| "a conversation is not begun")?
}

async fn talk(
    mut line: Line,
    to: Recipient,
    mut due: mpsc::Receiver<Instant>,
    shared: &Shared,
) -> Result<(), LineError> {
    loop {
        // Either may be dropped: neither the queue nor the line loses anything.
        let frame = tokio::select! {
            said = due.recv() => {
                let Some(said) = said else { return Ok(()) };
                // When it was to be sent is its id, and what others know of it.
                let id = (said - shared.start).as_nanos().to_string();
                let body = format!("{id} {}", shared.padding);
                line.say(&ClientFrame::Send(Send { id, to: Some(to.clone()), body })).await?;
                continue;
            }
            frame = line.next() => frame?,
        };
        let now = Instant::now() - shared.start;
        match frame {
            ServerFrame::SendAck(ack) => {
                if let Some(due) = nanos(&ack.id) {
                    shared.report().stored(now, due);
                }
            }
            ServerFrame::Push(push) => {
                if let Some(due) = push.body.split(' ').next().and_then(nanos) {
                    shared.report().arrived(now, due);
                }
            }
            ServerFrame::Error(error) => shared.report().fail(error.message),
            ServerFrame::Lagging(_) => {
                shared.report().lagged += 1;
                line.say(&ClientFrame::Sync(Sync::default())).await?;
            }
            _ => {}
        }
    }
}

fn nanos(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_nanos)
}

/// What one session may have been told to say and not said yet.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
