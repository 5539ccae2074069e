//! Values to payloads and back.
//!
//! | topic | module |
//! |---|---|
//! | serialization formats | `codec`, of which `raw` is one |
//! | limits for decoding | `budget` |
//! | values that a format would change | `checked` |
//! | optional fields that may be `null` | `nullable` |
//! | the field that does not encode or decode, and the cause | `trail`, `recorder`, `causes` |
//! | long work outside of the tasks of the runtime | `offload` |
//! | compression formats | `compression`, `algorithms` |
//! | a value in serialized form, received and to be sent | `payload`, `encoded_payload` |
//! | the buffer into which frames are written | `write_buffer` |
//! | zero-copy transfer of long `Bytes` | `uncopied`, for values of any type `any_uncopied` |

mod algorithms;
pub mod any_uncopied;
mod budget;
mod causes;
mod checked;
mod codec;
mod compression;
mod encode;
mod encoded_payload;
pub mod nullable;
mod offload;
mod output;
mod payload;
mod raw;
mod recorder;
mod trail;
pub mod uncopied;
mod write_buffer;

pub use codec::{Codec, CodecError};
pub use compression::Compression;
pub use encode::Encode;
pub use encoded_payload::EncodedPayload;
pub use offload::PeerWork;
pub(crate) use offload::{ResultPlace, offload};
#[cfg(feature = "transport")]
pub(crate) use payload::LONG;
pub use payload::Payload;
pub use write_buffer::{Mark, WriteBuffer};
