//! [`Session`]: one login of one device.

use std::sync::Arc;

use super::{
    outbox::Outbox,
    requests::{self, Requests},
};
use crate::{envelope::ClientFrame, identity::SessionId, node::context::NodeContext};

/// One login of one device.
///
/// The caller passes the client's frames to [`handle`](Self::handle) and sends it the frames of the session's
/// [`Outbound`](crate::Outbound).
///
/// # Drop
///
/// Dropping the session ends it: the node removes it from the directory, unless a newer login of the device has
/// replaced it.
pub struct Session(Arc<Requests>);

impl Session {
    pub(crate) fn new(
        (user, device): (String, String),
        id: SessionId,
        outbox: Arc<Outbox>,
        context: Arc<NodeContext>,
    ) -> Self {
        Self(Arc::new(Requests::new((user, device), id, outbox, context)))
    }

    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.0.session
    }

    /// Returns the user that is logged in.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Handles a frame from the client.
    ///
    /// Answers go to the session's [`Outbound`](crate::Outbound), in the order of the requests. At most
    /// [`MAX_WAITING`](Self::MAX_WAITING) requests wait; the session rejects further ones with the code `too_many`.
    pub fn handle(&self, frame: ClientFrame) {
        self.0.handle(frame);
    }

    /// The maximum number of waiting requests.
    pub const MAX_WAITING: usize = requests::MAX_WAITING;
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(session) = self.0.context.sessions.remove(self.id()) else { return };
        session.close(None);
        let context = Arc::clone(&self.0.context);
        self.0.context.tasks.spawn(async move {
            let user = session.entry.user.clone();
            context.lease.release(session.entry.clone()).await;
            context.presence.announce(&user).await;
        });
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("user", &self.user()).field("id", &self.id()).finish_non_exhaustive()
    }
}
