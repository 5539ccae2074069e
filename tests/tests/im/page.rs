//! The page in real browsers: two people on two nodes talk, a node is killed, and the talk goes on.
//!
//! `MSNB_PICTURES=dir` writes down how the page looks.

use serde_json::json;
use tests::{
    browser::{Browser, Screen},
    im_nodes::Nodes,
};

const DESK: Screen = Screen { width: 1180, height: 760, is_dark: false };
const PHONE: Screen = Screen { width: 390, height: 780, is_dark: false };

/// Bodies of the messages on the screen, in their order.
const BODIES: &str = "[...document.querySelectorAll('#messages .bubble')].map(bubble => bubble.textContent)";
/// Their places in the conversation.
const PLACES: &str = "[...document.querySelectorAll('#messages .message')].map(message => Number(message.dataset.seq))";
/// The node that the page is on, or nothing.
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

async fn say(browser: &mut Browser, body: &str) {
    browser.click("#compose").await;
    browser.write(body).await;
    browser.press("Enter").await;
}

async fn until_read(browser: &mut Browser, bodies: &[String]) {
    browser.until(&format!("JSON.stringify({BODIES}) === JSON.stringify({})", json!(bodies))).await;
}

/// Whose text has less contrast to what is behind it than 4.5 to 1.
async fn faint_texts(browser: &mut Browser) -> String {
    browser.evaluate(FAINT).await.to_string()
}

async fn assert_readable(browser: &mut Browser, name: &str, screen: Screen) {
    for is_dark in [false, true] {
        browser.show_on(Screen { is_dark, ..screen }).await;
        browser.picture(&format!("{name}{}", if is_dark { "-dark" } else { "" })).await;
        assert_eq!(faint_texts(browser).await, "[]", "{name}, dark: {is_dark}");
        let scrolls = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.evaluate(scrolls).await, json!(false), "{name} is wider than its screen");
    }
    assert_eq!(browser.nameless().await, Vec::<String>::new(), "{name}");
    browser.show_on(screen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_on_two_nodes_talk_and_go_on_when_a_node_is_killed() {
    let Some(mut ann) = Browser::start().await else { return };
    let Some(mut bo) = Browser::start().await else { return };
    let registry = tempfile::tempdir().expect("a directory can be made");
    let mut nodes = Nodes::start(3, &format!("local:{}", registry.path().display()), &[]).await;
    ann.show_on(DESK).await;
    bo.show_on(PHONE).await;

    ann.open(&nodes.base(0)).await;
    assert_readable(&mut ann, "sign-in", DESK).await;
    sign_in(&mut ann, "ann").await;
    assert_readable(&mut ann, "empty", DESK).await;
    bo.open(&nodes.base(1)).await;
    assert_readable(&mut bo, "phone-sign-in", PHONE).await;
    sign_in(&mut bo, "bo").await;
    let home = ann.evaluate(NODE).await;
    // The gate sends people where it likes.
    while bo.evaluate(NODE).await == home {
        sign_out(&mut bo).await;
        sign_in(&mut bo, "bo").await;
    }

    // Ann begins, by the keyboard alone.
    ann.evaluate("document.querySelector('#new').focus()").await;
    ann.press("Enter").await;
    ann.until("document.querySelector('#begin').open && document.activeElement.id === 'members'").await;
    assert_readable(&mut ann, "begin", DESK).await;
    ann.write("bo").await;
    ann.press("Enter").await;
    ann.until("document.activeElement.id === 'compose'").await;
    let mut bodies = Vec::new();
    let mut next = |body: &str| {
        bodies.push(body.to_owned());
        bodies.clone()
    };
    let all = next("Hello bo, are you there? <b>not bold</b>");
    say(&mut ann, all.last().expect("it was just added")).await;
    until_read(&mut ann, &all).await;
    bo.until("document.querySelector('#conversations .count')?.textContent === '1'").await;
    assert_readable(&mut bo, "phone-list", PHONE).await;
    bo.click("#conversations button").await;
    until_read(&mut bo, &all).await;
    for (number, text) in
        ["Yes, on another node.", "I see which one below.", "And it works? 😀"].into_iter().enumerate()
    {
        let all = next(text);
        say(if number % 2 == 0 { &mut bo } else { &mut ann }, text).await;
        until_read(&mut ann, &all).await;
        until_read(&mut bo, &all).await;
    }

    // The node of one of them is killed; the other goes on talking at once.
    let gone = bo.evaluate(NODE).await;
    let number: usize = gone.as_str().and_then(|name| name.parse().ok()).expect("a node's name is its number");
    nodes.kill(number - 1).await;
    next("Your node was just killed.");
    let all = next("You will read this all the same.");
    for body in &all[all.len() - 2..] {
        say(&mut ann, body).await;
    }
    until_read(&mut bo, &all).await;
    bo.until(&format!("{NODE} && {NODE} !== {gone}")).await;
    bo.until("document.querySelector('#messages .note')?.textContent.includes(' lost, connected to node ')").await;
    let all = next("So I did, and nothing came twice.");
    say(&mut bo, all.last().expect("it was just added")).await;
    for browser in [&mut ann, &mut bo] {
        until_read(browser, &all).await;
        browser.until("!document.querySelector('#messages .pending')").await;
        let places: Vec<_> = (1..=all.len()).collect();
        assert_eq!(browser.evaluate(PLACES).await, json!(places));
    }
    assert_readable(&mut ann, "talk", DESK).await;
    assert_readable(&mut bo, "phone-talk", PHONE).await;

    // Somewhere else everything is found again. Not where bo began, on the second node: that page is still signed in.
    bo.open(&nodes.base(if number == 1 { 2 } else { 0 })).await;
    sign_in_again(&mut bo, &all).await;
    for browser in [&ann, &bo] {
        assert_eq!(browser.troubles(), Vec::<String>::new(), "the console has nothing to say");
    }
    ann.close().await;
    bo.close().await;
}

/// Another origin, another session: it has nothing, and gets all.
async fn sign_in_again(browser: &mut Browser, all: &[String]) {
    sign_in(browser, "bo").await;
    browser.click("#conversations button").await;
    until_read(browser, all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_begun_and_a_wrong_name_is_told() {
    let Some(mut ann) = Browser::start().await else { return };
    let registry = tempfile::tempdir().expect("a directory can be made");
    let nodes = Nodes::start(1, &format!("local:{}", registry.path().display()), &[]).await;
    ann.show_on(DESK).await;
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
    say(&mut ann, "first").await;
    until_read(&mut ann, &["first".to_owned()]).await;
    assert_readable(&mut ann, "group", DESK).await;
    // Reloaded, the tab is still signed in, and shows the conversation.
    ann.open(&nodes.base(0)).await;
    ann.click("#conversations button").await;
    until_read(&mut ann, &["first".to_owned()]).await;
    ann.close().await;
}

const FAINT: &str = r#"(() => {
    const parse = color => {
        const numbers = color.match(/[\d.]+/g).map(Number);
        return color.startsWith("color(") ? [...numbers.slice(0, 3).map(part => part * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
    };
    const light = ([red, green, blue]) => [red, green, blue].map(part => part / 255)
        .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [.2126, .7152, .0722][place], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color[3] === 1) return color;
        }
        return [255, 255, 255, 1];
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
        if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
        const [one, other] = [parse(getComputedStyle(element).color), behind(element)].map(light).sort((a, b) => b - a);
        const contrast = (one + .05) / (other + .05);
        if (contrast < 4.5) faint.push(`${text.slice(0, 20)}: ${contrast.toFixed(2)}`);
    }
    return faint;
})()"#;
