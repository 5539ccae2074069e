//! The web page in real browsers.
//!
//! With `MSNB_PICTURES=dir`, the tests write screenshots to a directory.

mod chat;
mod groups;
mod messages;
mod readable;

use serde_json::{Value, json};
use tests::{
    browser::{Browser, Screen},
    im_nodes::Nodes,
};

pub(super) const DESKTOP: Screen = Screen { width: 1180, height: 760, is_dark: false };
const PHONE: Screen = Screen { width: 390, height: 780, is_dark: false };

/// The displayed message bodies, in order.
const BODIES: &str = "[...document.querySelectorAll('#messages .message:not(.recalled) .bubble')]\
                      .map(bubble => bubble.textContent)";
/// The number of displayed messages that were recalled.
const RECALLED: &str = "document.querySelectorAll('#messages .recalled').length";
/// The displayed lines about the conversation, in order.
const NOTES: &str = "[...document.querySelectorAll('#messages .note')].map(note => note.textContent)";
/// The number of the node to which the page is connected; empty without a connection.
const NODE: &str = "document.querySelector('#status').dataset.node";
/// The number of unread messages of the first conversation.
const UNREAD: &str = "document.querySelector('#conversations .count')?.firstChild.textContent";
/// The delivery state of the last message.
const STATE: &str = "[...document.querySelectorAll('#messages .message')].at(-1)?.dataset.state";

/// A cluster whose nodes discover each other in a directory.
struct Cluster {
    nodes: Nodes,
    _registry: tempfile::TempDir,
}

impl Cluster {
    async fn start(count: usize) -> Self {
        let registry = tempfile::tempdir().expect("the directory can be created");
        let nodes = Nodes::start(count, &format!("local:{}", registry.path().display()), &[]).await;
        Self { nodes, _registry: registry }
    }

    /// Opens the page of a node in a new browser, and signs in. Returns `None` without a browser.
    async fn sign_in(&self, node: usize, user: &str) -> Option<Browser> {
        let mut browser = Browser::start().await?;
        browser.show_on(DESKTOP).await;
        browser.open(&self.nodes.base(node)).await;
        sign_in(&mut browser, user).await;
        Some(browser)
    }
}

pub(super) async fn sign_in(browser: &mut Browser, user: &str) {
    browser.until("document.activeElement.id === 'user'").await;
    browser.write(user).await;
    browser.press("Tab").await;
    browser.write("any password").await;
    browser.press("Enter").await;
    browser.until(NODE).await;
}

async fn sign_out(browser: &mut Browser) {
    browser.click("#leave").await;
    browser.until("document.activeElement.id === 'user'").await;
    browser.evaluate("document.querySelector('#user').value = ''").await;
}

/// Opens the conversation with a user.
async fn open_chat_with(browser: &mut Browser, user: &str) {
    browser.click("#new").await;
    browser.until("document.activeElement.id === 'members'").await;
    browser.write(user).await;
    browser.press("Enter").await;
    until_title(browser, user).await;
}

/// Opens the first conversation of the list.
async fn open_first(browser: &mut Browser) {
    browser.click("#conversations button").await;
    browser.until("document.querySelector('#conversations button').ariaCurrent === 'true'").await;
}

async fn until_title(browser: &mut Browser, title: &str) {
    browser.until(&format!("document.querySelector('#peer-name').textContent === {}", json!(title))).await;
}

async fn send_message(browser: &mut Browser, body: &str) {
    browser.click("#compose").await;
    browser.write(body).await;
    browser.press("Enter").await;
}

async fn until_messages(browser: &mut Browser, bodies: &[impl AsRef<str>]) {
    let bodies: Vec<_> = bodies.iter().map(AsRef::as_ref).collect();
    browser.until(&format!("JSON.stringify({BODIES}) === JSON.stringify({})", json!(bodies))).await;
}

async fn until_note(browser: &mut Browser, text: &str) {
    browser.until(&format!("{NOTES}.some(note => note.includes({}))", json!(text))).await;
}

/// Opens the menu of the message with this body, and returns the texts of its items.
async fn open_message_menu(browser: &mut Browser, body: &str) -> Value {
    let rows = "[...document.querySelectorAll('#messages .message:not(.pending)')]";
    let find = format!("{rows}.find(row => row.querySelector('.bubble').textContent === {})", json!(body));
    browser.until(&find).await;
    browser.evaluate(&format!("{find}.querySelector('.more').click()")).await;
    browser.evaluate("[...document.querySelectorAll('#menu button')].map(item => item.textContent)").await
}

/// Selects an item of the open menu.
async fn select(browser: &mut Browser, item: &str) {
    browser.until("document.querySelector('#menu').matches(':popover-open')").await;
    let items = "[...document.querySelectorAll('#menu button')]";
    browser.evaluate(&format!("{items}.find(item => item.textContent === {}).click()", json!(item))).await;
}

/// Selects an item of the menu of the message with this body.
async fn select_for_message(browser: &mut Browser, body: &str, item: &str) {
    open_message_menu(browser, body).await;
    select(browser, item).await;
}

/// Agrees to the displayed question.
async fn agree(browser: &mut Browser) {
    browser.until("document.querySelector('#confirm').open").await;
    browser.click("#confirm-yes").await;
}

/// Closes browsers, after a check that their consoles are empty.
pub(super) async fn close<const N: usize>(browsers: [Browser; N]) {
    for browser in browsers {
        assert_eq!(browser.problems(), Vec::<String>::new(), "the console is empty");
        browser.close().await;
    }
}
