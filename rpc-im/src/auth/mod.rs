//! Authentication: `POST /login` checks a password and issues a signed token.
//!
//! The token replaces the password afterwards.

mod login_guard;
mod secret;
mod token;
mod users;

pub(crate) use login_guard::LoginGuard;
pub use secret::{Secret, SecretError};
pub use token::{Audience, Claims, TokenError};
pub use users::{Busy, Users, UsersError};

/// The source of the passwords that `POST /login` accepts.
#[derive(Debug)]
pub enum Accounts {
    /// No password is accepted: another system that has the secret issues the tokens.
    Elsewhere,
    /// Users and password hashes of a file.
    File(Users),
    /// Any user with any password: for development on a trusted machine.
    Anyone,
}

impl Accounts {
    /// Returns whether `password` is the password of `user`.
    ///
    /// # Errors
    ///
    /// Returns [`Busy`] while too many password checks wait.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a check that has started runs to its end and holds its permit until then.
    pub async fn check(&self, user: &str, password: &str) -> Result<bool, Busy> {
        match self {
            Self::Elsewhere => Ok(false),
            Self::File(users) => users.check(user, password).await,
            Self::Anyone => Ok(true),
        }
    }
}
