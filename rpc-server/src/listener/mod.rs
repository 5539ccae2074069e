//! New connections: their limits, their tasks and their handshake.
//!
//! | topic | module |
//! |---|---|
//! | the limits and the tasks of connections | `acceptor` |
//! | TLS and the token proof before a connection serves | `handshake` |

mod acceptor;
mod handshake;

pub(crate) use acceptor::Acceptor;
