//! New connections: their limits, their tasks and their handshake.
//!
//! | topic | module |
//! |---|---|
//! | the limits and the tasks of connections | `acceptor` |
//! | threads that each serve a part of the connections | `threads` |
//! | TLS and the token proof before a connection serves | `handshake` |
//! | the protocol of a connection, if the server has endpoints | `detect` |

mod acceptor;
mod detect;
mod handshake;
mod threads;

pub(crate) use acceptor::Acceptor;
pub(crate) use threads::ConnectionThreads;
