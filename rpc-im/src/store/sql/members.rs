//! Creating groups, and changing their members.

use std::collections::BTreeSet;

use super::{
    append::stored,
    batch::Key,
    outcome::Outcome,
    read,
    rows::{self, Conversation},
};
use crate::{
    sql::{Columns as _, Session, Statement},
    store::{
        Appended, Change, ConversationInfo, MembersChange, Message, MessageKind, NewConversation, Role, StoreError,
        Stored,
        rules::{Roles, check_change, check_count},
    },
};

/// Creates a group, see [`MessageStore::create`](crate::store::MessageStore::create).
pub(super) async fn create(session: &mut Session, new: &NewConversation) -> Outcome<ConversationInfo> {
    let users: BTreeSet<&str> = new.members.iter().map(String::as_str).filter(|user| *user != new.creator).collect();
    check_count(users.len() as u64 + 1)?;
    let mut members = vec![(new.creator.as_str(), Role::Owner)];
    members.extend(users.into_iter().map(|user| (user, Role::Member)));
    let conversation = Conversation::new(&new.conversation, &new.name, true, new.open, members.len());
    rows::create(session, &conversation, &members).await?;
    read::conversation(session, &new.conversation, &new.creator).await
}

/// Changes members, see [`MessageStore::change_members`](crate::store::MessageStore::change_members).
pub(super) async fn change(session: &mut Session, request: &MembersChange) -> Outcome<Appended> {
    let MembersChange { conversation, by, device, id, change } = request;
    let locked = rows::lock(session, conversation).await?;
    let (mut conversation, time) = locked.filter(|(locked, _)| locked.is_group).ok_or(StoreError::NotFound)?;
    let key = Key { from: by.clone(), device: device.clone(), id: id.clone() };
    let outcome = match stored(session, &conversation.id, &key).await? {
        Some(stored) => Some(stored),
        None if !apply(session, &mut conversation, by, change).await? => None,
        None => {
            conversation.version += 1;
            conversation.last += 1;
            conversation.last_time = time;
            let seq = conversation.last;
            let message = Message {
                seq,
                from: key.from,
                device: key.device,
                id: key.id,
                body: serde_json::to_string(change).expect("a change has no value that JSON cannot represent"),
                kind: MessageKind::Members as i32,
                target: 0,
                time,
                changed: false,
            };
            rows::insert_messages(session, &conversation.id, &[message]).await?;
            rows::update(session, &conversation).await?;
            Some(Stored { seq, time, repeated: false })
        }
    };
    let audience = rows::audience(session, &conversation).await?;
    let messages = outcome.into_iter().map(Ok).collect();
    Ok(Appended { incarnation: conversation.incarnation, audience, messages })
}

/// Checks and applies a change; returns whether it has an effect.
async fn apply(session: &mut Session, conversation: &mut Conversation, by: &str, change: &Change) -> Outcome<bool> {
    let id = conversation.id.clone();
    let mut concerned = vec![by];
    if let Change::Remove(user) | Change::SetRole(user, _) = change {
        concerned.push(user);
    }
    let known = rows::roles(session, &id, &concerned).await?;
    let by_role = known.get(by).copied();
    let of = concerned.get(1).and_then(|user| known.get(*user)).copied();
    if !check_change(change, Roles { by: by_role, of, open: conversation.open })? {
        return Ok(false);
    }
    match change {
        Change::Join => add(session, conversation, &[by]).await,
        Change::Add(users) => {
            let users: BTreeSet<&str> = users.iter().map(String::as_str).collect();
            let users: Vec<&str> = users.into_iter().collect();
            let members = rows::roles(session, &id, &users).await?;
            let new: Vec<&str> = users.into_iter().filter(|user| !members.contains_key(*user)).collect();
            add(session, conversation, &new).await
        }
        Change::Leave => {
            remove(session, conversation, by).await?;
            if by_role == Some(Role::Owner)
                && let Some(successor) = successor(session, &id).await?
            {
                set_role(session, &id, &successor, Role::Owner).await?;
            }
            Ok(true)
        }
        Change::Remove(user) => {
            remove(session, conversation, user).await?;
            Ok(true)
        }
        Change::SetRole(user, role) => {
            set_role(session, &id, user, *role).await?;
            if *role == Role::Owner {
                set_role(session, &id, by, Role::Admin).await?;
            }
            Ok(true)
        }
    }
}

/// Adds users who are not members; returns whether there is any.
async fn add(session: &mut Session, conversation: &mut Conversation, users: &[&str]) -> Outcome<bool> {
    check_count(conversation.count + users.len() as u64)?;
    conversation.count += users.len() as u64;
    let members: Vec<_> = users.iter().map(|user| (*user, Role::Member)).collect();
    rows::insert_members(session, conversation, &members).await?;
    Ok(!users.is_empty())
}

async fn remove(session: &mut Session, conversation: &mut Conversation, user: &str) -> Outcome<()> {
    let delete = Statement::new("DELETE FROM im_members WHERE conversation = ? AND user_name = ?");
    conversation.count -= session.execute(delete.text(&conversation.id).text(user)).await?;
    Ok(())
}

async fn set_role(session: &mut Session, conversation: &str, user: &str, role: Role) -> Outcome<()> {
    let update = Statement::new("UPDATE im_members SET role = ? WHERE conversation = ? AND user_name = ?")
        .small(rows::role_number(role))
        .text(conversation)
        .text(user);
    session.execute(update).await?;
    Ok(())
}

/// Returns the member who becomes owner after the owner left: the first admin, or the first member if there is none.
async fn successor(session: &mut Session, conversation: &str) -> Outcome<Option<String>> {
    let select =
        Statement::new("SELECT user_name FROM im_members WHERE conversation = ? ORDER BY role DESC, user_name LIMIT 1");
    let row = session.row(select.text(conversation)).await?;
    Ok(row.map(|row| row.text(0)).transpose()?)
}
