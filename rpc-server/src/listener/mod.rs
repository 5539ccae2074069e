//! New connections: their limits, their tasks and their handshake.
//!
//! | topic | module |
//! |---|---|
//! | the limits and the tasks of connections | `acceptor` |
//! | TLS and the token proof before a connection serves | `handshake` |
//! | the protocol of a connection, if the server has endpoints | `detect` |

mod acceptor;
mod detect;
mod handshake;

pub(crate) use acceptor::Acceptor;
