//! Example programs.
//!
//! | topic | file |
//! |---|---|
//! | contracts | `contracts/` |
//! | provider | `provider/` |
//! | consumer | `consumer/` |
//! | streams | `feed/` |
//! | both in one process | `quickstart/main.rs` |
//! | test certificates | `certificates/main.rs` |
//! | the IM cluster | `im/` |
//!
//! Options, logging and signals are those of rpc-cli, which other programs can use too.
