//! Values to payloads and back.
//!
//! | topic | module |
//! |---|---|
//! | serialization formats | `codec`, of which `raw` is one |
//! | limits for decoding | `budget` |
//! | compression formats | `compression`, `algorithms` |
//! | a value in serialized form | `payload` |
//! | the buffer into which frames are written | `write_buffer` |
//! | zero-copy transfer of long `Bytes` | `uncopied` |
//! | encoding through a `dyn` object | `encode` |

mod algorithms;
mod budget;
mod codec;
mod compression;
mod encode;
mod output;
mod payload;
mod raw;
pub mod uncopied;
mod write_buffer;

pub use codec::{Codec, CodecError};
pub use compression::Compression;
pub use encode::Encode;
pub use payload::Payload;
pub use write_buffer::{Mark, WriteBuffer};
