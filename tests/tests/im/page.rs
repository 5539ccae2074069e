//! The web page in real browsers: users on two nodes chat, also after a node is killed.
//!
//! With `MSNB_PICTURES=dir`, the tests write screenshots to a directory.

use serde_json::json;
use tests::{
    browser::{Browser, Screen},
    im_nodes::Nodes,
};

const DESKTOP: Screen = Screen { width: 1180, height: 760, is_dark: false };
const PHONE: Screen = Screen { width: 390, height: 780, is_dark: false };

/// The displayed message bodies, in order.
const BODIES: &str = "[...document.querySelectorAll('#messages .bubble')].map(bubble => bubble.textContent)";
/// The sequence numbers of the displayed messages.
const SEQUENCE_NUMBERS: &str =
    "[...document.querySelectorAll('#messages .message')].map(message => Number(message.dataset.seq))";
/// The number of the node to which the page is connected; empty without a connection.
const NODE: &str = "document.querySelector('#status').dataset.node";

async fn sign_in(browser: &mut Browser, user: &str) {
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

async fn send_message(browser: &mut Browser, body: &str) {
    browser.click("#compose").await;
    browser.write(body).await;
    browser.press("Enter").await;
}

async fn until_messages(browser: &mut Browser, bodies: &[String]) {
    browser.until(&format!("JSON.stringify({BODIES}) === JSON.stringify({})", json!(bodies))).await;
}

/// Returns the texts whose contrast to their background is below 4.5 to 1.
async fn low_contrast_texts(browser: &mut Browser) -> String {
    browser.evaluate(LOW_CONTRAST_TEXTS).await.to_string()
}

/// Checks the contrast, the width and the accessible names of the page, in light and dark.
async fn assert_readable(browser: &mut Browser, name: &str, screen: Screen) {
    for is_dark in [false, true] {
        browser.show_on(Screen { is_dark, ..screen }).await;
        browser.screenshot(&format!("{name}{}", if is_dark { "-dark" } else { "" })).await;
        assert_eq!(low_contrast_texts(browser).await, "[]", "{name}, dark: {is_dark}");
        let scrolls = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.evaluate(scrolls).await, json!(false), "{name} is wider than its screen");
    }
    assert_eq!(browser.unnamed_elements().await, Vec::<String>::new(), "{name}");
    browser.show_on(screen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_continue_chat_after_node_is_killed() {
    let Some(mut ann) = Browser::start().await else { return };
    let Some(mut bo) = Browser::start().await else { return };
    let registry = tempfile::tempdir().expect("the directory can be created");
    let mut nodes = Nodes::start(3, &format!("local:{}", registry.path().display()), &[]).await;
    ann.show_on(DESKTOP).await;
    bo.show_on(PHONE).await;

    ann.open(&nodes.base(0)).await;
    assert_readable(&mut ann, "sign-in", DESKTOP).await;
    sign_in(&mut ann, "ann").await;
    assert_readable(&mut ann, "empty", DESKTOP).await;
    bo.open(&nodes.base(1)).await;
    assert_readable(&mut bo, "phone-sign-in", PHONE).await;
    sign_in(&mut bo, "bo").await;
    let node = ann.evaluate(NODE).await;
    // The gate may select the same node again.
    while bo.evaluate(NODE).await == node {
        sign_out(&mut bo).await;
        sign_in(&mut bo, "bo").await;
    }

    // Ann creates the conversation with the keyboard only.
    ann.evaluate("document.querySelector('#new').focus()").await;
    ann.press("Enter").await;
    ann.until("document.querySelector('#begin').open && document.activeElement.id === 'members'").await;
    assert_readable(&mut ann, "begin", DESKTOP).await;
    ann.write("bo").await;
    ann.press("Enter").await;
    ann.until("document.activeElement.id === 'compose'").await;
    let mut bodies = Vec::new();
    let mut next = |body: &str| {
        bodies.push(body.to_owned());
        bodies.clone()
    };
    let all = next("Hello bo, are you there? <b>not bold</b>");
    send_message(&mut ann, all.last().expect("the list has messages")).await;
    until_messages(&mut ann, &all).await;
    bo.until("document.querySelector('#conversations .count')?.textContent === '1'").await;
    assert_readable(&mut bo, "phone-list", PHONE).await;
    bo.click("#conversations button").await;
    until_messages(&mut bo, &all).await;
    for (number, text) in
        ["Yes, on another node.", "I see which one below.", "And it works? 😀"].into_iter().enumerate()
    {
        let all = next(text);
        send_message(if number % 2 == 0 { &mut bo } else { &mut ann }, text).await;
        until_messages(&mut ann, &all).await;
        until_messages(&mut bo, &all).await;
    }

    // Kills the node of one user; the other user sends messages immediately.
    let killed = bo.evaluate(NODE).await;
    let number: usize = killed.as_str().and_then(|name| name.parse().ok()).expect("a node's name is its number");
    nodes.kill(number - 1).await;
    next("Your node was just killed.");
    let all = next("You will read this all the same.");
    for body in &all[all.len() - 2..] {
        send_message(&mut ann, body).await;
    }
    until_messages(&mut bo, &all).await;
    bo.until(&format!("{NODE} && {NODE} !== {killed}")).await;
    bo.until("document.querySelector('#messages .note')?.textContent.includes(' lost, connected to node ')").await;
    let all = next("So I did, and nothing came twice.");
    send_message(&mut bo, all.last().expect("the list has messages")).await;
    for browser in [&mut ann, &mut bo] {
        until_messages(browser, &all).await;
        browser.until("!document.querySelector('#messages .pending')").await;
        let expected: Vec<_> = (1..=all.len()).collect();
        assert_eq!(browser.evaluate(SEQUENCE_NUMBERS).await, json!(expected));
    }
    assert_readable(&mut ann, "chat", DESKTOP).await;
    assert_readable(&mut bo, "phone-chat", PHONE).await;

    // The page of another node displays all messages. The second node's page, on which bo started, is still signed in.
    bo.open(&nodes.base(if number == 1 { 2 } else { 0 })).await;
    sign_in_again(&mut bo, &all).await;
    for browser in [&ann, &bo] {
        assert_eq!(browser.problems(), Vec::<String>::new(), "the console is empty");
    }
    ann.close().await;
    bo.close().await;
}

/// Signs in from another origin, which has no stored session or messages, and waits for all messages.
async fn sign_in_again(browser: &mut Browser, all: &[String]) {
    sign_in(browser, "bo").await;
    browser.click("#conversations button").await;
    until_messages(browser, all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_creates_group_and_handles_invalid_user_name() {
    let Some(mut ann) = Browser::start().await else { return };
    let registry = tempfile::tempdir().expect("the directory can be created");
    let nodes = Nodes::start(1, &format!("local:{}", registry.path().display()), &[]).await;
    ann.show_on(DESKTOP).await;
    ann.open(&nodes.base(0)).await;
    ann.until("document.activeElement.id === 'user'").await;
    ann.write("a\u{202e}nn").await;
    ann.press("Enter").await;
    ann.until("document.querySelector('#trouble').textContent || document.querySelector('#status').dataset.node").await;
    ann.evaluate("document.querySelector('#leave').checkVisibility() && document.querySelector('#leave').click()")
        .await;
    ann.evaluate("document.querySelector('#user').value = ''; document.querySelector('#user').focus()").await;
    sign_in(&mut ann, "ann").await;
    ann.click("#new").await;
    ann.write("bo, cy").await;
    ann.click("#group").await;
    ann.write("Friends").await;
    ann.press("Enter").await;
    ann.until("document.querySelector('#peer-name').textContent === 'Friends'").await;
    send_message(&mut ann, "first").await;
    until_messages(&mut ann, &["first".to_owned()]).await;
    assert_readable(&mut ann, "group", DESKTOP).await;
    // After a reload, the page is still signed in and displays the conversation.
    ann.open(&nodes.base(0)).await;
    ann.click("#conversations button").await;
    until_messages(&mut ann, &["first".to_owned()]).await;
    ann.close().await;
}

const LOW_CONTRAST_TEXTS: &str = r#"(() => {
    const parse = color => {
        const numbers = color.match(/[\d.]+/g).map(Number);
        return color.startsWith("color(") ? [...numbers.slice(0, 3).map(part => part * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
    };
    const luminance = ([red, green, blue]) => [red, green, blue].map(part => part / 255)
        .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
    const background = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color[3] === 1) return color;
        }
        return [255, 255, 255, 1];
    };
    const texts = [];
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
        if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
        const [one, other] = [parse(getComputedStyle(element).color), background(element)].map(luminance).sort((a, b) => b - a);
        const contrast = (one + .05) / (other + .05);
        if (contrast < 4.5) texts.push(`${text.slice(0, 20)}: ${contrast.toFixed(2)}`);
    }
    return texts;
})()"#;
