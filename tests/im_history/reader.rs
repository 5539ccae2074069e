//! [`read_back`]: a new device of a user that reads the whole history.

use std::collections::BTreeMap;

use rpc_im::{
    client::Line,
    envelope::{ClientFrame, Position, ServerFrame, Sync},
};
use tokio::time::{Duration, sleep, timeout};

use super::{Place, Read};
use crate::im_line::{log_in, token};

/// Reads everything that a new device of a user receives by syncs.
///
/// # Panics
///
/// Panics if that takes longer than [`LIMIT`].
pub(super) async fn read_back(bases: &[String], node: &str, user: &str) -> Read {
    let reading = async {
        loop {
            let device = format!("reader-{:08x}", rand::random::<u32>());
            let token = token(bases, user, &device, "program").await;
            if let Ok(line) = log_in(node, &token).await
                && let Some(read) = read(line, user).await
            {
                return read;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let read = timeout(LIMIT, reading).await;
    read.unwrap_or_else(|_| panic!("a new device of {user} did not receive all messages from {node} within {LIMIT:?}"))
}

/// Syncs until the node has sent everything; `None` if a request fails.
async fn read(mut line: Line, user: &str) -> Option<Read> {
    let mut cursors = BTreeMap::new();
    let mut conversations = BTreeMap::new();
    let mut messages = Vec::new();
    let mut after = String::new();
    loop {
        let sync = Sync { cursors: cursors.clone(), after: after.clone(), ..Sync::default() };
        line.say(&ClientFrame::Sync(sync)).await.ok()?;
        let mut is_complete = true;
        let synced = loop {
            match line.next().await.ok()? {
                ServerFrame::Conversation(conversation) => {
                    conversations.insert(conversation.conversation, conversation.seq);
                }
                ServerFrame::Push(push) => {
                    let cursor = Position { incarnation: push.incarnation, seq: push.seq };
                    cursors.insert(push.conversation.clone(), cursor);
                    let place = Place { conversation: push.conversation, incarnation: push.incarnation, seq: push.seq };
                    messages.push((place, push.body));
                }
                ServerFrame::Lagging(_) => is_complete = false,
                ServerFrame::Synced(synced) => break synced,
                ServerFrame::Error(_) | ServerFrame::Kick(_) => return None,
                _ => {}
            }
        };
        if is_complete && !synced.more {
            let conversations = conversations.into_iter().collect();
            return Some(Read { user: user.to_owned(), conversations, messages });
        }
        after = if is_complete { synced.after } else { String::new() };
    }
}

/// The limit of reading everything back.
const LIMIT: Duration = Duration::from_secs(120);
