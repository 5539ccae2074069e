//! [`Talker`]: a session that sends messages and records the arrival of others' messages.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_im::{
    client::{Line, LineError, LoggedIn},
    envelope::{Auth, ClientFrame, Create, Encoding, Recipient, Send, ServerFrame, Sync, Synced},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{failure::Failure, report::Report};

/// A session that sends messages on request. Dropping it ends the session.
pub(crate) struct Talker {
    requests: mpsc::Sender<Instant>,
    _task: JoinSet<()>,
}

/// The state that all sessions share.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    /// The text of a message after its scheduled time.
    pub(crate) padding: String,
    pub(crate) report: Mutex<Report>,
}

impl Talker {
    /// Starts a session that sends to one recipient.
    pub(crate) fn start(line: Line, to: Recipient, shared: Arc<Shared>) -> Self {
        let (requests, due) = mpsc::channel(QUEUE_CAPACITY);
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = talk(line, to, due, &shared).await {
                shared.report().fail(error.to_string());
            }
        });
        Self { requests, _task: task }
    }

    /// Requests a message that is scheduled at `due`. Returns `false` if the queue of earlier requests is full.
    pub(crate) fn send(&self, due: Instant) -> bool {
        self.requests.try_send(due).is_ok()
    }
}

impl Shared {
    pub(crate) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens an authenticated connection.
pub(crate) async fn enter(logged_in: &LoggedIn) -> Result<Line, Failure> {
    let entering = async {
        let mut line = Line::connect(&logged_in.nodes[0], Encoding::Protobuf).await?;
        line.say(&ClientFrame::Auth(Auth { token: logged_in.token.clone() })).await?;
        match line.next().await? {
            ServerFrame::AuthOk(_) => Ok(line),
            ServerFrame::Error(error) => Err(Failure::from(error.message)),
            _ => Err(Failure::from("a node answered a login with an unexpected frame")),
        }
    };
    timeout(NODE_TIMEOUT, entering).await.map_err(|_| format!("no answer to a login within {NODE_TIMEOUT:?}"))?
}

/// Creates a conversation with these members and returns its id.
pub(crate) async fn create(line: &mut Line, members: Vec<String>) -> Result<String, Failure> {
    line.say(&ClientFrame::Create(Create { id: "group".to_owned(), name: "group".to_owned(), members, open: false }))
        .await?;
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
    timeout(NODE_TIMEOUT, created)
        .await
        .map_err(|_| format!("no answer to the creation of a conversation within {NODE_TIMEOUT:?}"))?
}

async fn talk(
    mut line: Line,
    to: Recipient,
    mut due: mpsc::Receiver<Instant>,
    shared: &Shared,
) -> Result<(), LineError> {
    loop {
        // Both branches are cancel-safe: neither the queue nor the connection loses data.
        let frame = tokio::select! {
            scheduled = due.recv() => {
                let Some(scheduled) = scheduled else { return Ok(()) };
                // The id is the scheduled time, which the message also carries for its recipients.
                let id = (scheduled - shared.start).as_nanos().to_string();
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
            ServerFrame::Synced(Synced { after, more: true, .. }) => {
                line.say(&ClientFrame::Sync(Sync { after, ..Sync::default() })).await?;
            }
            _ => {}
        }
    }
}

fn nanos(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_nanos)
}

/// The maximum number of requested messages that a session has not sent yet.
const QUEUE_CAPACITY: usize = 64;
const NODE_TIMEOUT: Duration = Duration::from_secs(60);
