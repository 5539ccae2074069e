//! [`Command`]: a typed line.

use rpc_im::envelope::{MemberChange, Names, SetRole};

/// A typed line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// A message to the current recipient.
    Text(String),
    /// Selects a user as recipient.
    To(String),
    /// Selects the conversation with this number.
    In(usize),
    /// Lists the conversations.
    List,
    /// Creates a group.
    Group {
        name: String,
        members: Vec<String>,
        open: bool,
    },
    /// Prints up to this many earlier messages.
    History(u32),
    /// Replaces the text of a message.
    Edit(u64, String),
    /// Removes the text of a message.
    Recall(u64),
    /// Prints the members of the current conversation.
    Members,
    /// Changes the members of the current group.
    Change(MemberChange),
    /// Joins an open group.
    Join(String),
    Quit,
}

impl Command {
    /// Parses a line; returns `None` for an empty one.
    ///
    /// # Errors
    ///
    /// Returns the usage of the command, or the list of commands.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(None);
        }
        let Some(line) = line.strip_prefix('/') else { return Ok(Some(Self::Text(line.to_owned()))) };
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let words: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
        let command = match (name, words.as_slice()) {
            ("quit", []) => Some(Self::Quit),
            ("list", []) => Some(Self::List),
            ("to", [user]) => Some(Self::To(user.clone())),
            ("in", [number]) => number.parse().ok().map(Self::In),
            ("group" | "open", [group, members @ ..]) => {
                Some(Self::Group { name: group.clone(), members: members.to_vec(), open: name == "open" })
            }
            ("history", []) => Some(Self::History(HISTORY)),
            ("history", [count]) => count.parse().ok().map(Self::History),
            ("edit", [number, _, ..]) => number.parse().ok().map(|number| {
                let (_, text) = rest.trim_start().split_once(char::is_whitespace).unwrap_or_default();
                Self::Edit(number, text.trim().to_owned())
            }),
            ("recall", [number]) => number.parse().ok().map(Self::Recall),
            ("members", []) => Some(Self::Members),
            ("add", [_, ..]) => Some(Self::Change(MemberChange::Add(Names { users: words }))),
            ("remove", [user]) => Some(Self::Change(MemberChange::Remove(user.clone()))),
            ("role", [user, role]) if ["member", "admin", "owner"].contains(&role.as_str()) => {
                Some(Self::Change(MemberChange::SetRole(SetRole { user: user.clone(), role: role.clone() })))
            }
            ("leave", []) => Some(Self::Change(MemberChange::Leave(true))),
            ("join", [id]) => Some(Self::Join(id.clone())),
            _ => None,
        };
        command.map(Some).ok_or_else(|| {
            let usage = USAGES.iter().find(|usage| usage[1..].split(' ').next() == Some(name));
            usage.copied().unwrap_or(COMMANDS)
        })
    }
}

/// The list of commands.
pub(crate) const COMMANDS: &str = "/to USER, /list, /in N, /group NAME USER…, /open NAME USER…, /join ID, /history [N], \
                                   /edit N TEXT, /recall N, /members, /add USER…, /remove USER, /role USER ROLE, \
                                   /leave, /quit";
const USAGES: [&str; 15] = [
    "/to USER",
    "/list",
    "/in N, with a number from /list",
    "/group NAME USER…",
    "/open NAME USER…, which creates a group that anyone with its id may join",
    "/join ID, with the id of an open group",
    "/history [N], with the number of messages",
    "/edit N TEXT, with the number before the message",
    "/recall N, with the number before the message",
    "/members",
    "/add USER…",
    "/remove USER",
    "/role USER ROLE, which is member, admin or owner",
    "/leave",
    "/quit",
];
/// The number of messages that `/history` prints without a number.
const HISTORY: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_to_commands() {
        let parse = |line| Command::parse(line).expect("the line is valid");
        assert_eq!(parse("  "), None);
        assert_eq!(parse(" hello  you "), Some(Command::Text("hello  you".into())));
        assert_eq!(parse("/edit 12 two  words"), Some(Command::Edit(12, "two  words".into())));
        assert_eq!(parse("/history"), Some(Command::History(HISTORY)));
        assert_eq!(parse("/history 5"), Some(Command::History(5)));
        let group = Command::Group { name: "g".into(), members: vec!["bo".into(), "cy".into()], open: true };
        assert_eq!(parse("/open g bo cy"), Some(group));
    }

    #[test]
    fn invalid_commands_report_their_usage() {
        assert_eq!(Command::parse("/edit 12"), Err("/edit N TEXT, with the number before the message"));
        assert_eq!(Command::parse("/role bo king"), Err("/role USER ROLE, which is member, admin or owner"));
        assert_eq!(Command::parse("/in x"), Err("/in N, with a number from /list"));
        assert_eq!(Command::parse("/unknown"), Err(COMMANDS));
    }
}
