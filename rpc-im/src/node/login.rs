//! [`Login`] and [`LoginError`].

/// An authenticated login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The user's device; a device has one session.
    pub device: String,
    /// The type of the device: `web`, `ios`.
    pub platform: String,
}

/// The error of [`Node::login`](crate::Node::login) and [`Node::pair`](crate::Node::pair).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Another session of the user, or of this side of the room, is active and wins by the policy.
    #[error("another session is active")]
    Taken,
    /// A temporary failure: another node, or this one later, may accept the login.
    #[error("{0}")]
    Unavailable(String),
}
