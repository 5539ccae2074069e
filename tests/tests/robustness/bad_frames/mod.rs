//! A server's reaction to invalid frames: a test for each row of the table in docs/PROTOCOL.md, over real sockets, at
//! each limit and one above it.
//!
//! | topic | module |
//! |---|---|
//! | protocol violations and unknown frame types | `violations` |
//! | length of frames | `lengths` |
//! | fragments of frames | `fragments` |
//! | heads and payloads | `heads`, `payloads` |
//! | ids, limits and ends of calls | `calls` |
//! | streams | `streams` |
//! | ends and timeouts of connections, pings | `connections`, `pings` |
//! | server and peers of a test | `scene` |

mod calls;
mod connections;
mod fragments;
mod heads;
mod lengths;
mod payloads;
mod pings;
mod scene;
mod streams;
mod violations;
