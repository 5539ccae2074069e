//! Who somebody is: a password is checked once, at `POST /login`, and a signed token stands for it from then on.

mod secret;
mod token;
mod users;

pub use secret::{Secret, SecretError};
pub use token::{Claims, TokenError};
pub use users::{Busy, Users, UsersError};

/// Whose passwords `POST /login` takes.
#[derive(Debug)]
pub enum Accounts {
    /// Nobody's: tokens come from another system that has the secret.
    Elsewhere,
    /// Those of a file.
    File(Users),
    /// Any user with any password: for a machine on which everybody may be anybody.
    Anyone,
}

impl Accounts {
    /// Whether this is the password of that user.
    ///
    /// # Errors
    ///
    /// [`Busy`] while too many passwords wait to be checked.
    ///
    /// # Cancel safety
    ///
    /// Dropped, a check that has begun goes on to its end, and keeps its place until then.
    pub async fn check(&self, user: &str, password: &str) -> Result<bool, Busy> {
        match self {
            Self::Elsewhere => Ok(false),
            Self::File(users) => users.check(user, password).await,
            Self::Anyone => Ok(true),
        }
    }
}
