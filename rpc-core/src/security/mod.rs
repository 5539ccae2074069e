//! Authentication and encryption of connections.
//!
//! | topic | module |
//! |---|---|
//! | shared secrets | `token` |
//! | proof of a shared secret | `proof` |
//! | TLS | `tls` |
//! | files that are read again when they change | `reloadable` |

pub mod proof;
mod reloadable;
#[cfg(feature = "tls")]
pub mod tls;
mod token;

pub use reloadable::Reloadable;
pub use token::{AcceptedTokens, ProvedToken, Token, Tokens};
