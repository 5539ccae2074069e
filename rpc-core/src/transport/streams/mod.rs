//! The streams of calls on a connection: items, their credit and their memory.
//!
//! | topic | module |
//! |---|---|
//! | received items that wait for their reader | `queue`, its reader `reader` |
//! | the memory of received items | `memory` |
//! | the credit for items to be sent | `credit` |
//! | sending items | `item_sender` |
//! | the streams of one call, and their frames | `call_streams` |
//! | the streams of a call for its handler | `callee` |

mod call_streams;
mod callee;
mod credit;
#[cfg(all(test, shuttle))]
mod interleavings;
mod item_sender;
mod memory;
mod queue;
mod reader;

pub use call_streams::{CallStreams, Closed, Handled};
pub use callee::WireStreams;
pub use credit::Credit;
pub use item_sender::{ItemSender, SendEnd};
pub use memory::StreamMemory;
pub use queue::{ItemQueue, QueueEnd};
pub use reader::{ItemReader, StreamReader};
