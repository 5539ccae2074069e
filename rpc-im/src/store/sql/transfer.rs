//! Exported and imported conversations.

use super::{
    outcome::Outcome,
    rows::{self, Conversation},
};
use crate::{
    sql::{MAX_BATCH, Session, Statement, batches, placeholders},
    store::{
        Member,
        transfer::{ExportedConversation, ImportPart},
    },
};

/// Returns up to `limit` conversations after the id `after`.
pub(super) async fn all_conversations(
    session: &mut Session,
    after: &str,
    limit: usize,
) -> Outcome<Vec<ExportedConversation>> {
    let columns = Conversation::COLUMNS;
    let text = format!("SELECT {columns} FROM im_conversations c WHERE c.id > ? ORDER BY c.id LIMIT ?");
    let rows = session.rows(Statement::new(text).text(after).position(limit as u64)).await?;
    let exported = rows.iter().map(|row| {
        let Conversation { id, is_group, open, name, first, last, version, .. } = Conversation::from_row(row)?;
        Ok(ExportedConversation { id, is_group, open, name, first, last, version })
    });
    Ok(exported.collect::<Result<_, sqlx::Error>>()?)
}

/// Stores a part of an imported conversation, see [`Transfer::import`](crate::store::Transfer::import).
pub(super) async fn import(session: &mut Session, part: &ImportPart) -> Outcome<bool> {
    match part {
        ImportPart::Begin(id) => {
            let exists = Statement::new("SELECT 1 FROM im_conversations WHERE id = ?").text(id);
            if session.row(exists).await?.is_some() {
                return Ok(false);
            }
            for table in ["im_messages", "im_members"] {
                let delete = Statement::new(format!("DELETE FROM {table} WHERE conversation = ?"));
                session.execute(delete.text(id)).await?;
            }
        }
        ImportPart::Members(id, members) => insert_members(session, id, members).await?,
        ImportPart::Messages(id, messages) => rows::insert_messages(session, id, messages).await?,
        ImportPart::End(exported, members, last_time) => {
            let ExportedConversation { id, is_group, open, name, first, last, version } = exported.clone();
            let conversation = Conversation {
                id,
                incarnation: rand::random(),
                is_group,
                open,
                name,
                first,
                last,
                last_time: *last_time,
                version,
                count: *members,
            };
            rows::create(session, &conversation, &[]).await?;
        }
    }
    Ok(true)
}

async fn insert_members(session: &mut Session, conversation: &str, members: &[Member]) -> Outcome<()> {
    for batch in batches(members, MAX_BATCH) {
        let mut insert = Statement::new(format!(
            "INSERT INTO im_members (conversation, user_name, role, delivered_seq, read_seq) VALUES {}",
            placeholders(batch.len(), "(?, ?, ?, ?, ?)", ", ")
        ));
        for Member { user, role, delivered, read } in batch {
            let member = insert.text(conversation).text(user).small(rows::role_number(*role));
            insert = member.number(*delivered).number(*read);
        }
        session.execute(insert).await?;
    }
    Ok(())
}
