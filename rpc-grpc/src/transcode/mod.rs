//! Converts messages of protobuf to MessagePack and back.
//!
//! The codec of a call is MessagePack, because the description of a contract has the form of the codecs that are not
//! human-readable. No values are built in between: each direction reads one form and writes the other one.
//!
//! | topic | module |
//! |---|---|
//! | from protobuf to MessagePack | `to_messagepack` |
//! | from MessagePack to protobuf | `to_protobuf` |
//! | reading and writing MessagePack | `messagepack` |
//! | reading and writing the wire format of protobuf | `wire` |
//! | values of any form | `any` |
//! | values as JSON, for messages to people | `json` |
//! | a message that has no other form | `fault` |

mod any;
mod fault;
mod json;
mod messagepack;
#[cfg(test)]
mod tests;
mod to_messagepack;
mod to_protobuf;
mod wire;

pub(crate) use any::to_value;
pub(crate) use fault::Fault;
pub(crate) use json::to_json;
pub(crate) use to_messagepack::{Part, item_to_messagepack, read_part, to_messagepack};
pub(crate) use to_protobuf::to_protobuf;
