//! The terminal client, as its users observe it.

use tests::{im_nodes::Nodes, program::Program};

/// A cluster of two nodes, and a directory for the logs of clients.
struct Terminals {
    nodes: Nodes,
    files: tempfile::TempDir,
}

impl Terminals {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("the directory can be created");
        let nodes = Nodes::start(2, &format!("local:{}", files.path().display()), &[]).await;
        Self { nodes, files }
    }

    /// Starts a client with a device of its own, and waits until it is connected.
    async fn connect(&self, node: usize, user: &str, device: &str) -> Program {
        let log = self.files.path().join(format!("log-{user}-{device}"));
        let arguments = ["--user", user, "--device", device, "--gate", &self.nodes.base(node)];
        let mut client = Program::start_interactive("im-chat", &arguments, &log).await;
        client.line_with("* connected to node").await;
        client
    }
}

#[tokio::test]
async fn terminal_shows_messages_and_receipts() {
    let terminals = Terminals::start().await;
    let mut ann = terminals.connect(0, "ann", "one").await;
    let mut bo = terminals.connect(1, "bo", "one").await;
    ann.write_line("/to bo").await;
    ann.write_line("hello").await;
    ann.line_with("[1] stored").await;
    bo.line_with("[1] ann: hello").await;
    ann.line_with("[1] read by bo").await;
    bo.write_line("hello ann").await;
    ann.line_with("[2] bo: hello ann").await;
}

#[tokio::test]
async fn terminal_counts_unread_messages() {
    let terminals = Terminals::start().await;
    let mut ann = terminals.connect(0, "ann", "one").await;
    let mut bo = terminals.connect(1, "bo", "one").await;
    bo.write_line("/to cy").await;
    bo.line_with("* recipient: cy").await;
    ann.write_line("/to bo").await;
    ann.write_line("one").await;
    ann.write_line("two").await;
    bo.line_with("[2] ann: two").await;
    bo.write_line("/list").await;
    bo.line_with("1: ann (2 messages, 2 unread)").await;
    bo.write_line("/in 1").await;
    bo.write_line("/list").await;
    bo.line_with("1: ann (2 messages, 0 unread)").await;
    ann.line_with("[2] read by bo").await;
}

#[tokio::test]
async fn terminal_edits_recalls_and_prints_history() {
    let terminals = Terminals::start().await;
    let mut ann = terminals.connect(0, "ann", "one").await;
    let mut bo = terminals.connect(1, "bo", "one").await;
    ann.write_line("/to bo").await;
    for (text, stored) in [("helo", "[1] stored"), ("a secret", "[2] stored")] {
        ann.write_line(text).await;
        ann.line_with(stored).await;
    }
    ann.write_line("/edit 1 hello").await;
    bo.line_with("[3] ann edited message 1: hello").await;
    ann.write_line("/recall 2").await;
    bo.line_with("[4] ann recalled message 2").await;
    ann.line_with("[2] read by bo").await;
    // Another device prints the messages that the user has sent only on request.
    let mut other = terminals.connect(0, "ann", "other").await;
    // The answer to a sync ends with the users who are online.
    other.line_with("* bo is online").await;
    other.write_line("/in 1").await;
    other.line_with("* recipient: bo").await;
    other.write_line("/history 4").await;
    other.line_with("[1] ann: hello (edited)").await;
    other.line_with("[2] ann: (recalled)").await;
}

#[tokio::test]
async fn terminal_changes_members_of_group() {
    let terminals = Terminals::start().await;
    let mut ann = terminals.connect(0, "ann", "one").await;
    let mut bo = terminals.connect(1, "bo", "one").await;
    ann.write_line("/open Team cy").await;
    let group = ann.line_with("* group g-").await;
    let id = group.trim_start_matches("* group ");
    bo.write_line(&format!("/join {id}")).await;
    bo.line_with("* recipient: Team").await;
    ann.line_with("[1] bo in Team joined").await;
    ann.write_line("/role bo admin").await;
    bo.line_with("[2] ann in Team made bo admin").await;
    bo.write_line("/remove cy").await;
    ann.line_with("[3] bo in Team removed cy").await;
    ann.write_line("/members").await;
    ann.line_with("ann: owner").await;
    ann.line_with("bo: admin").await;
    bo.write_line("/leave").await;
    bo.line_with("* you left the group").await;
    ann.line_with("[4] bo in Team left").await;
}
