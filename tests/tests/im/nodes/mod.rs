//! What users of an IM cluster see when its nodes die, stand still and restart, and when what they rely on does: nodes as processes,
//! a real Nacos server, a real Redis, WebSockets. After each case `ChatWorkload::end` checks what must be true whatever happened.
//!
//! | question | file |
//! |---|---|
//! | a node dies, stands still, leaves, cannot reach another one? | `node_faults.rs` |
//! | the registry dies, or Redis? | `services.rs` |
//! | two logins exclude each other? | `logins.rs` |
//! | a message is sent again, or not read? | `messages.rs` |
//!
//! Small by default; docs/TESTING.md says which variables make it as long as the promises are.

mod logins;
mod messages;
mod node_faults;
mod services;
