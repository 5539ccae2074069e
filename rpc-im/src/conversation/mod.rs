//! Writes to conversations, and the frames that report them to members.
//!
//! | topic | module |
//! |---|---|
//! | appends, combined by conversation, and their pushes | `appender` |
//! | cursors of members, and receipts | `receipts` |
//! | frames from stored values | `frames` |

pub(crate) mod appender;
pub(crate) mod frames;
pub(crate) mod receipts;
