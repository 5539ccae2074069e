//! The rules for changes of a group's members and of messages. No I/O.

use super::{Appended, Audience, Change, MAX_MEMBERS, Message, MessageKind, NewMessage, Rejection, Role, StoreError};

/// The roles of the users that a change concerns; `None` for a user who is not a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roles {
    /// The role of the user that requests the change.
    pub(super) by: Option<Role>,
    /// The role of the user that [`Change::Remove`] and [`Change::SetRole`] name.
    pub(super) of: Option<Role>,
    /// Whether users may join the group by themselves.
    pub(super) open: bool,
}

/// Returns whether a change has an effect.
///
/// # Errors
///
/// [`StoreError::NotFound`] for a user who is not a member, [`StoreError::Rejected`] for a missing permission.
pub(super) fn check_change(change: &Change, roles: Roles) -> Result<bool, StoreError> {
    let rejected = |reason: &str| Err(StoreError::Rejected(reason.to_owned()));
    let Roles { by, of, open } = roles;
    if let Change::Join = change {
        return match by {
            Some(_) => Ok(false),
            None if open => Ok(true),
            None => Err(StoreError::NotFound),
        };
    }
    let by = by.ok_or(StoreError::NotFound)?;
    match change {
        Change::Join | Change::Leave => Ok(true),
        Change::Add(_) if by >= Role::Admin => Ok(true),
        Change::Add(_) => rejected("only the owner and admins add members"),
        Change::Remove(_) => match of {
            None => Ok(false),
            Some(of) if by >= Role::Admin && by > of => Ok(true),
            Some(_) => rejected("only the owner and admins remove members, of lower roles than their own"),
        },
        Change::SetRole(_, role) => match of {
            _ if by != Role::Owner => rejected("only the owner changes roles"),
            None => rejected("the user is not a member"),
            Some(Role::Owner) => rejected("the owner keeps the role until another member becomes owner"),
            Some(of) => Ok(of != *role),
        },
    }
}

/// Returns the answer to messages none of which can begin the conversation of two users: nothing is created.
pub(super) fn rejected_beginning(pair: &[String; 2], messages: &[NewMessage]) -> Option<Appended> {
    let rejection = |message: &NewMessage| match message.kind {
        _ if !pair.contains(&message.from) => Some(Rejection::NotMember),
        MessageKind::Text => None,
        MessageKind::Edit | MessageKind::Recall => Some(Rejection::NoTarget),
        MessageKind::Members => Some(Rejection::NotPermitted),
    };
    let messages = messages.iter().map(|message| rejection(message).map(Err)).collect::<Option<Vec<_>>>()?;
    let audience = Audience { version: 0, count: 0, members: Vec::new() };
    Some(Appended { incarnation: 0, audience, messages })
}

/// Checks the number of members that a conversation would have.
///
/// # Errors
///
/// [`StoreError::Rejected`] above [`MAX_MEMBERS`].
pub(super) fn check_count(members: u64) -> Result<(), StoreError> {
    if members <= MAX_MEMBERS as u64 {
        return Ok(());
    }
    let message = format!("the conversation would have {members} members, limit is {MAX_MEMBERS} (MAX_MEMBERS)");
    Err(StoreError::Rejected(message))
}

/// Checks that a user with this role may edit or recall a message.
///
/// # Errors
///
/// Returns the reason if the user may not.
pub(super) fn check_edit(kind: MessageKind, by: (&str, Role), target: Option<&Message>) -> Result<(), Rejection> {
    let is_recalled = |target: &Message| target.changed && target.body.is_empty();
    let target = target.filter(|target| target.kind() == MessageKind::Text && !is_recalled(target));
    let target = target.ok_or(Rejection::NoTarget)?;
    let (user, role) = by;
    let is_permitted = target.from == user || kind == MessageKind::Recall && role >= Role::Admin;
    if is_permitted { Ok(()) } else { Err(Rejection::NotPermitted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Option<Role>; 4] = [None, Some(Role::Member), Some(Role::Admin), Some(Role::Owner)];

    fn allowed(change: &Change, of: Option<Role>) -> Vec<Option<bool>> {
        ROLES.map(|by| check_change(change, Roles { by, of, open: false }).ok()).to_vec()
    }

    #[test]
    fn only_admins_and_the_owner_add_and_remove_members() {
        let (no, yes) = (None, Some(true));
        assert_eq!(allowed(&Change::Add(vec!["bo".into()]), None), [no, no, yes, yes]);
        let remove = Change::Remove("bo".into());
        assert_eq!(allowed(&remove, Some(Role::Member)), [no, no, yes, yes]);
        assert_eq!(allowed(&remove, Some(Role::Admin)), [no, no, no, yes]);
        assert_eq!(allowed(&remove, Some(Role::Owner)), [no, no, no, no]);
        assert_eq!(allowed(&remove, None), [no, Some(false), Some(false), Some(false)]);
    }

    #[test]
    fn only_the_owner_changes_roles() {
        let promote = Change::SetRole("bo".into(), Role::Admin);
        assert_eq!(allowed(&promote, Some(Role::Member)), [None, None, None, Some(true)]);
        assert_eq!(allowed(&promote, Some(Role::Admin)), [None, None, None, Some(false)]);
        assert_eq!(allowed(&promote, None), [None; 4]);
    }

    #[test]
    fn only_open_groups_can_be_joined() {
        let join = |by, open| check_change(&Change::Join, Roles { by, of: None, open });
        assert_eq!(join(None, true), Ok(true));
        assert_eq!(join(None, false), Err(StoreError::NotFound));
        assert_eq!(join(Some(Role::Member), false), Ok(false));
        assert_eq!(allowed(&Change::Leave, None), [None, Some(true), Some(true), Some(true)]);
    }

    #[test]
    fn a_message_is_edited_by_its_sender_and_recalled_by_admins() {
        let target = Message { from: "ann".into(), ..Message::default() };
        let check = |kind, by, role| check_edit(kind, (by, role), Some(&target));
        for kind in [MessageKind::Edit, MessageKind::Recall] {
            assert_eq!(check(kind, "ann", Role::Member), Ok(()));
            assert_eq!(check(kind, "bo", Role::Member), Err(Rejection::NotPermitted));
            assert_eq!(check_edit(kind, ("ann", Role::Owner), None), Err(Rejection::NoTarget));
        }
        assert_eq!(check(MessageKind::Recall, "bo", Role::Admin), Ok(()));
        assert_eq!(check(MessageKind::Edit, "bo", Role::Owner), Err(Rejection::NotPermitted));
        let recalled = Message { changed: true, ..target.clone() };
        assert_eq!(check_edit(MessageKind::Edit, ("ann", Role::Member), Some(&recalled)), Err(Rejection::NoTarget));
        let recall = Message { kind: MessageKind::Recall as i32, ..target.clone() };
        assert_eq!(check_edit(MessageKind::Recall, ("ann", Role::Member), Some(&recall)), Err(Rejection::NoTarget));
    }
}
