//! Groups: creation, membership, roles.

use serde_json::json;
use tests::browser::Browser;

use super::{
    Cluster, DESKTOP, PHONE, RECALLED, STATE, agree, close, open_first, readable::assert_readable, select,
    select_for_message, send_message, until_messages, until_note, until_title,
};

/// The members in the panel, with their roles.
const PEOPLE: &str = "[...document.querySelectorAll('#people-list li')].map(row => \
                      row.querySelector('b').textContent + ': ' + row.querySelector('.role').textContent)";

/// Creates a group with the members that a comma separates, and returns its id.
async fn create_group(browser: &mut Browser, name: &str, members: &str, is_open: bool) -> String {
    browser.click("#new").await;
    browser.click("#mode-group").await;
    browser.until("document.activeElement.id === 'group'").await;
    browser.write(name).await;
    browser.click("#members").await;
    browser.write(members).await;
    if is_open {
        browser.click("#open-group").await;
    }
    browser.click("#begin-go").await;
    until_title(browser, name).await;
    open_panel(browser).await;
    let id = browser.evaluate("document.querySelector('#panel-id').value").await;
    close_panel(browser).await;
    id.as_str().expect("the id is a text").to_owned()
}

async fn open_panel(browser: &mut Browser) {
    browser.click("#people").await;
    browser.until("document.querySelector('#panel').open && document.querySelector('#people-list li')").await;
}

async fn close_panel(browser: &mut Browser) {
    browser.click("#panel-not").await;
    browser.until("!document.querySelector('#panel').open").await;
}

async fn until_people(browser: &mut Browser, people: &[&str]) {
    browser.until(&format!("JSON.stringify({PEOPLE}) === JSON.stringify({})", json!(people))).await;
}

/// Selects an action for a member in the open panel.
async fn select_for_member(browser: &mut Browser, member: &str, action: &str) {
    browser.click(&format!("[aria-label='Actions for {member}']")).await;
    select(browser, action).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_creates_group() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    create_group(&mut ann, "Friends", "bo, cy", false).await;
    send_message(&mut ann, "first").await;
    bo.until("document.querySelector('#conversations b')?.textContent === 'Friends'").await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &["first"]).await;
    send_message(&mut bo, "second").await;
    until_messages(&mut ann, &["first", "second"]).await;
    // One of two other members has received the message.
    ann.until("document.querySelector('#messages .foot').textContent.includes('read by 1')").await;
    select_for_message(&mut ann, "first", "Details").await;
    ann.until("document.querySelector('#details-text').innerText.includes('Read by 1 of 2')").await;
    assert_readable(&mut ann, "details", DESKTOP).await;
    ann.press("Escape").await;
    open_panel(&mut ann).await;
    until_people(&mut ann, &["ann (you): owner", "bo: member", "cy: member"]).await;
    assert_readable(&mut ann, "group", DESKTOP).await;
    assert_readable(&mut ann, "phone-group", PHONE).await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_joins_and_leaves_open_group() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    let id = create_group(&mut ann, "Public", "", true).await;
    send_message(&mut ann, "before the join").await;
    ann.until(&format!("{STATE} === 'stored'")).await;
    bo.click("#new").await;
    bo.click("#mode-join").await;
    bo.until("document.activeElement.id === 'join-id'").await;
    bo.write(&id).await;
    bo.press("Enter").await;
    until_title(&mut bo, "Public").await;
    until_note(&mut bo, "You joined the group").await;
    until_note(&mut ann, "bo joined the group").await;
    send_message(&mut bo, "hello all").await;
    for browser in [&mut ann, &mut bo] {
        until_messages(browser, &["before the join", "hello all"]).await;
    }
    open_panel(&mut bo).await;
    bo.click("#leave-group").await;
    agree(&mut bo).await;
    bo.until("!document.querySelector('#conversations button')").await;
    until_note(&mut ann, "bo left the group").await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_rejects_join_of_closed_group() {
    let cluster = Cluster::start(1).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(0, "bo").await else { return };
    let id = create_group(&mut ann, "Private", "", false).await;
    bo.click("#new").await;
    bo.click("#mode-join").await;
    bo.until("document.activeElement.id === 'join-id'").await;
    bo.write(&id).await;
    bo.press("Enter").await;
    bo.until("document.querySelector('#toast').textContent.includes('It does not exist')").await;
    assert_eq!(bo.evaluate("document.querySelectorAll('#conversations button').length").await, json!(0));
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_adds_and_removes_members() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    create_group(&mut ann, "Team", "cy", false).await;
    open_panel(&mut ann).await;
    ann.click("#add").await;
    ann.write("bo").await;
    ann.press("Enter").await;
    until_people(&mut ann, &["ann (you): owner", "bo: member", "cy: member"]).await;
    bo.until("document.querySelector('#conversations b')?.textContent === 'Team'").await;
    open_first(&mut bo).await;
    until_note(&mut bo, "ann added you").await;
    select_for_member(&mut ann, "bo", "Remove").await;
    agree(&mut ann).await;
    until_people(&mut ann, &["ann (you): owner", "cy: member"]).await;
    bo.until("document.querySelector('#gone').checkVisibility()").await;
    bo.until("!document.querySelector('#composer').checkVisibility()").await;
    until_note(&mut bo, "ann removed you").await;
    close([ann, bo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_changes_roles() {
    let cluster = Cluster::start(2).await;
    let Some(mut ann) = cluster.sign_in(0, "ann").await else { return };
    let Some(mut bo) = cluster.sign_in(1, "bo").await else { return };
    create_group(&mut ann, "Team", "bo", false).await;
    send_message(&mut ann, "of the owner").await;
    bo.until("document.querySelector('#conversations button')").await;
    open_first(&mut bo).await;
    until_messages(&mut bo, &["of the owner"]).await;
    open_panel(&mut bo).await;
    until_people(&mut bo, &["ann: owner", "bo (you): member"]).await;
    assert_eq!(bo.evaluate("document.querySelector('#add-row').checkVisibility()").await, json!(false));
    open_panel(&mut ann).await;
    select_for_member(&mut ann, "bo", "Make an admin").await;
    until_people(&mut ann, &["ann (you): owner", "bo: admin"]).await;
    bo.until("document.querySelector('#add-row').checkVisibility()").await;
    // An admin recalls messages of others.
    close_panel(&mut bo).await;
    until_note(&mut bo, "ann made you an admin").await;
    select_for_message(&mut bo, "of the owner", "Recall").await;
    agree(&mut bo).await;
    ann.until(&format!("{RECALLED} === 1")).await;
    select_for_member(&mut ann, "bo", "Hand over ownership").await;
    agree(&mut ann).await;
    until_people(&mut ann, &["ann (you): admin", "bo: owner"]).await;
    until_note(&mut bo, "ann made you the owner").await;
    close([ann, bo]).await;
}
