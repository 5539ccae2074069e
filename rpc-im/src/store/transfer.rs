//! [`Transfer`]: exports all conversations of a store to a file, and imports them into another store.
//!
//! The file has a JSON value in each line, see `Line`. An imported conversation has a new incarnation, because it is
//! another history than that of the first store once either of them continues.

use std::io::{self, BufRead, Read as _, Write};

use rpc_core::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Member, Message, MessageKind, MessageStore, PageRequest, Range, StoreError};

/// A store whose conversations can be exported and imported. No node uses the store meanwhile.
pub trait Transfer: MessageStore {
    /// Returns up to `limit` conversations after the id `after`, in the order of their ids.
    fn all_conversations(
        &self,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ExportedConversation>, StoreError>>;

    /// Stores a part of an imported conversation; returns false if the conversation exists already.
    fn import(&self, part: ImportPart) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// A conversation without its members and messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedConversation {
    /// The id.
    pub id: String,
    /// Whether it is a group, and not the conversation of two users.
    pub is_group: bool,
    /// Whether users may join by themselves.
    pub open: bool,
    /// The display name.
    pub name: String,
    /// The sequence number of the first message that was not removed.
    pub first: u64,
    /// The sequence number of the last message, or 0.
    pub last: u64,
    /// Grows with each change of the members.
    pub version: u64,
}

/// A part of an imported conversation. A conversation exists once its last part is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum ImportPart {
    /// The beginning of the conversation with this id. Removes the parts of an interrupted import.
    Begin(String),
    /// Members of the conversation with this id.
    Members(String, Vec<Member>),
    /// Messages of the conversation with this id.
    Messages(String, Vec<Message>),
    /// The end of the conversation, with the number of its members and the time of its last message.
    End(ExportedConversation, u64, u64),
}

/// The numbers of transferred conversations and messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// The conversations.
    pub conversations: u64,
    /// Their messages.
    pub messages: u64,
    /// The conversations that were not transferred: on export those without members, on import those that exist.
    pub skipped: u64,
}

/// An error of [`export`] or [`import`].
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file cannot be read or written.
    #[error("cannot use the file")]
    Io(#[from] io::Error),
    /// The store failed.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// A line of the file is invalid.
    #[error("line {0} of the file is invalid: {1}")]
    Line(u64, String),
    /// The file ends early.
    #[error("the file is incomplete")]
    Incomplete,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first line: the version of the format.
    Format(u32),
    /// The beginning of a conversation, which the lines until the next one belong to.
    Conversation(ExportedConversation),
    Members(Vec<Member>),
    /// Consecutive messages in ascending order.
    Messages(Vec<Message>),
    /// The last line: the numbers of conversations and messages.
    End(u64, u64),
}

/// Writes all conversations of a store.
///
/// # Errors
///
/// Returns an error if the store or the output fails.
pub async fn export(store: &dyn Transfer, out: &mut (dyn Write + Send)) -> Result<Transferred, TransferError> {
    let mut transferred = Transferred::default();
    let mut write = |line: &Line| {
        let mut text = serde_json::to_vec(line).map_err(io::Error::from)?;
        text.push(b'\n');
        out.write_all(&text)
    };
    write(&Line::Format(FORMAT))?;
    let mut after = String::new();
    loop {
        let page = store.all_conversations(after, CONVERSATIONS_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id.clone();
        for conversation in page {
            let mut members = store.members(conversation.id.clone(), String::new(), MEMBERS_PAGE).await?.members;
            let Some(reader) = members.first().map(|member| member.user.clone()) else {
                transferred.skipped += 1;
                continue;
            };
            write(&Line::Conversation(conversation.clone()))?;
            while let Some(last) = members.last() {
                let after = last.user.clone();
                write(&Line::Members(members))?;
                members = store.members(conversation.id.clone(), after, MEMBERS_PAGE).await?.members;
            }
            let mut cursor = conversation.first - 1;
            while cursor < conversation.last {
                let page = PageRequest {
                    range: Range::After(cursor),
                    max_messages: MESSAGES_PAGE,
                    max_bytes: MESSAGES_PAGE_BYTES,
                };
                let messages = store.read(conversation.id.clone(), reader.clone(), page).await?.messages;
                let Some(last) = messages.last() else { break };
                cursor = last.seq;
                transferred.messages += messages.len() as u64;
                write(&Line::Messages(messages))?;
            }
            transferred.conversations += 1;
        }
    }
    write(&Line::End(transferred.conversations, transferred.messages))?;
    out.flush()?;
    Ok(transferred)
}

/// Reads conversations, and stores those that do not exist. An interrupted import can be repeated.
///
/// # Errors
///
/// Returns an error if the store or the input fails, or if the input is invalid or incomplete. The conversations before
/// the error are stored.
pub async fn import(store: &dyn Transfer, input: &mut (dyn BufRead + Send)) -> Result<Transferred, TransferError> {
    let mut import = Import { store, current: None, read: (0, 0), transferred: Transferred::default() };
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let mut limited = (&mut *input).take(MAX_LINE);
        if limited.read_line(&mut text)? == 0 {
            break;
        }
        if !text.ends_with('\n') {
            return Err(if text.len() as u64 == MAX_LINE {
                TransferError::Line(number, format!("it is longer than {MAX_LINE} bytes"))
            } else {
                TransferError::Incomplete
            });
        }
        let line = serde_json::from_str(&text).map_err(|error| TransferError::Line(number, error.to_string()))?;
        let is_first = number == 1;
        match line {
            Line::Format(FORMAT) if is_first => {}
            Line::Format(version) if is_first => {
                return Err(TransferError::Line(1, format!("format {version} is unknown, expected {FORMAT}")));
            }
            _ if is_first => return Err(TransferError::Line(1, "the file is no export".to_owned())),
            Line::End(conversations, messages) => {
                import.complete().await.map_err(|error| error.at(number))?;
                if import.read != (conversations, messages) {
                    return Err(TransferError::Incomplete);
                }
                return Ok(import.transferred);
            }
            line => import.handle(line).await.map_err(|error| error.at(number))?,
        }
    }
    Err(TransferError::Incomplete)
}

/// The state of an import.
struct Import<'a> {
    store: &'a dyn Transfer,
    current: Option<Current>,
    /// The numbers of conversations and messages in the file so far.
    read: (u64, u64),
    transferred: Transferred,
}

/// The conversation that is being imported.
struct Current {
    conversation: ExportedConversation,
    exists: bool,
    members: u64,
    last: u64,
    last_time: u64,
}

impl Import<'_> {
    async fn handle(&mut self, line: Line) -> Result<(), TransferError> {
        if let Line::Conversation(conversation) = line {
            self.complete().await?;
            if conversation.first == 0 || conversation.last.saturating_add(1) < conversation.first {
                return Err(invalid("the sequence numbers of the conversation are invalid"));
            }
            let exists = !self.store.import(ImportPart::Begin(conversation.id.clone())).await?;
            let last = conversation.first - 1;
            self.current = Some(Current { conversation, exists, members: 0, last, last_time: 0 });
            self.read.0 += 1;
            return Ok(());
        }
        let current = self.current.as_mut().ok_or_else(|| invalid("no conversation has begun"))?;
        let id = current.conversation.id.clone();
        let part = match line {
            Line::Members(members) => {
                current.members += members.len() as u64;
                ImportPart::Members(id, members)
            }
            Line::Messages(mut messages) => {
                for message in &mut messages {
                    if message.seq != current.last + 1 {
                        return Err(invalid("a message is missing or repeated"));
                    }
                    (current.last, current.last_time) = (message.seq, current.last_time.max(message.time));
                    if message.kind() == MessageKind::Edit {
                        // A store keeps the text of an edit at its target.
                        message.body.clear();
                    }
                }
                self.read.1 += messages.len() as u64;
                self.transferred.messages += if current.exists { 0 } else { messages.len() as u64 };
                ImportPart::Messages(id, messages)
            }
            Line::Format(_) | Line::Conversation(_) | Line::End(..) => return Err(invalid("the line is misplaced")),
        };
        if !current.exists {
            self.store.import(part).await?;
        }
        Ok(())
    }

    /// Completes the conversation whose lines have been read.
    async fn complete(&mut self) -> Result<(), TransferError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let Current { conversation, exists, members, last, last_time } = current;
        if last != conversation.last {
            return Err(invalid("the conversation before it has too few or too many messages"));
        }
        if exists {
            self.transferred.skipped += 1;
        } else {
            self.store.import(ImportPart::End(conversation, members, last_time)).await?;
            self.transferred.conversations += 1;
        }
        Ok(())
    }
}

impl TransferError {
    /// Adds the number of the line to an error of its content.
    fn at(self, number: u64) -> Self {
        match self {
            Self::Line(_, reason) => Self::Line(number, reason),
            error => error,
        }
    }
}

fn invalid(reason: &str) -> TransferError {
    TransferError::Line(0, reason.to_owned())
}

/// The version of the format.
const FORMAT: u32 = 1;
/// The maximum length of a line that is read: 64 MiB, more than the longest page of messages with all characters escaped.
const MAX_LINE: u64 = 64 << 20;
/// The number of conversations in one read.
const CONVERSATIONS_PAGE: usize = 256;
/// The number of members in one line.
const MEMBERS_PAGE: usize = 1000;
/// The maximum number of messages in one line.
const MESSAGES_PAGE: usize = 256;
/// The maximum number of bytes of the messages in one line, unless one message is longer: 1 MiB.
const MESSAGES_PAGE_BYTES: usize = 1 << 20;
