//! Messages that change, and messages that are hostile.

use serde_json::json;

use super::{
    Cluster, DESKTOP, NODE, RECALLED, STATE, agree, close, open_chat_with, open_first, open_message_menu,
    readable::assert_readable, select_for_message, send_message, sign_in, until_messages,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_edits_own_message() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "helo").await;
    bo.until("document.querySelector('#conversations button')").await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &["helo"]).await;
    assert_eq!(open_message_menu(&mut bo, "helo").await, json!(["Copy text"]), "of another user's message");
    select_for_message(&mut ann, "helo", "Edit").await;
    ann.until("document.activeElement.id === 'compose'").await;
    ann.evaluate("document.querySelector('#compose').select()").await;
    ann.write("hello").await;
    assert_readable(&mut ann, "edit", DESKTOP).await;
    ann.press("Enter").await;
    for browser in [&mut ann, &mut bo] {
        until_messages(browser, &["hello"]).await;
        browser.until("document.querySelector('#messages .edited')").await;
    }
    // A sync contains the message as edited.
    bo.open(&cluster.nodes.base(1)).await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &["hello"]).await;
    bo.until("document.querySelector('#messages .edited')").await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_recalls_own_message() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, "a secret").await;
    bo.until("document.querySelector('#conversations button')").await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &["a secret"]).await;
    select_for_message(&mut ann, "a secret", "Recall").await;
    agree(&mut ann).await;
    for browser in [&mut ann, &mut bo] {
        browser.until(&format!("{RECALLED} === 1")).await;
        browser.until("!document.body.innerText.includes('a secret')").await;
    }
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_shows_markup_as_text() {
    const MARKUP: &str = "<img src=x onerror='globalThis.attacked = 1'><b>bold</b>";
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, MARKUP).await else { return };
    let Some(mut bo) = cluster.sign_in(0, "bo").await else { return };
    open_chat_with(&mut ann, "bo").await;
    send_message(&mut ann, MARKUP).await;
    bo.until("document.querySelector('#conversations button')").await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &[MARKUP]).await;
    super::until_title(&mut bo, MARKUP).await;
    for browser in [&mut ann, &mut bo] {
        let markup = "globalThis.attacked || document.querySelector('img, main b b, .bubble *')";
        assert_eq!(browser.evaluate(&format!("!!({markup})")).await, json!(false));
    }
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_has_strict_content_security_policy() {
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    for path in ["/", "/page/main.js", "/page/style.css"] {
        let headers = format!(
            "fetch({}).then(({{headers}}) => [headers.get('content-security-policy'), headers.get('referrer-policy')])",
            json!(path)
        );
        let headers = ann.evaluate(&headers).await;
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss: http: \
                      https:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";
        assert_eq!(headers, json!([policy, "no-referrer"]), "{path}");
    }
    assert_eq!(ann.problems(), Vec::<String>::new(), "the page does not violate its policy");
    // The browser enforces the policy.
    ann.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.ran = 1'}))",
    )
    .await;
    assert_eq!(ann.evaluate("globalThis.ran ?? null").await, json!(null));
    ann.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_revalidates_its_files_by_etag() {
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let status = "fetch('/page/main.js', {cache: 'no-store'}).then(({headers}) => \
                  fetch('/page/main.js', {cache: 'no-store', headers: {'if-none-match': headers.get('etag')}}))\
                  .then(({status}) => status)";
    assert_eq!(ann.evaluate(status).await, json!(304));
    ann.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_handles_unusual_user_name() {
    let cluster = Cluster::start(1).await;
    let Some(mut browser) = cluster.sign_in(0, "O'Brien 王 <b>").await else { return };
    open_chat_with(&mut browser, "bo").await;
    send_message(&mut browser, "hello").await;
    browser.until(&format!("{STATE} === 'stored'")).await;
    super::sign_out(&mut browser).await;
    browser.write(&"x".repeat(129)).await;
    browser.evaluate("document.querySelector('#user').value = 'ü'.repeat(65)").await;
    browser.press("Enter").await;
    browser.until("document.querySelector('#trouble').textContent.includes('longer than 128 bytes')").await;
    browser.evaluate("document.querySelector('#user').value = 'a\\u202enn'").await;
    browser.press("Enter").await;
    browser.until("document.querySelector('#trouble').textContent.includes('invisible')").await;
    browser.evaluate("document.querySelector('#user').value = ''").await;
    sign_in(&mut browser, "ann").await;
    browser.until(NODE).await;
    close([browser]).await;
}
