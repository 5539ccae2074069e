//! The form of a service in protobuf, and how its messages correspond to the values of its contract.
//!
//! `rpc_schema::proto` determines names and numbers, so that the endpoint and the `.proto` files of `msnb describe` agree.
//!
//! | topic | module |
//! |---|---|
//! | the messages of a service, and their fields | `shape` |
//! | pairing them with the types of the contract | `builder` |
//! | the description of a service in protobuf's own terms | `file` |

mod builder;
mod file;
mod shape;

use prost_types::FileDescriptorProto;
use rpc_core::{ServiceId, descriptor::Contract};

pub(crate) use file::VALUE_FILE;
pub(crate) use shape::{Count, Field, Form, Kind, Message, Method, Presence, Requests};

/// The form of a service in protobuf.
#[derive(Debug)]
pub(crate) struct Proto {
    /// The name of the service with its package.
    pub(crate) service: String,
    pub(crate) methods: Vec<Method>,
    pub(crate) messages: Vec<Message>,
    /// The names of the variants of each enum. The number of a variant is its index plus 1.
    pub(crate) enums: Vec<Vec<String>>,
    pub(crate) file: FileDescriptorProto,
}

impl Proto {
    /// Derives the form of a service under an id: its own, or that of its major version.
    pub(crate) fn new(id: &ServiceId, contract: &Contract) -> Self {
        let mut contract = contract.clone();
        (contract.name, contract.version) = (id.name().to_owned(), id.version().to_owned());
        let file = rpc_schema::proto(&contract);
        let mut builder = builder::Builder::new(&contract, &file);
        let pairs = file.methods.iter().zip(&contract.methods);
        let methods = pairs.map(|(proto, method)| builder.method(proto, method)).collect();
        let builder::Builder { messages, enums, .. } = builder;
        let service = format!("{}.{}", file.package, file.service);
        Self { service, methods, messages, enums, file: file::file(&file) }
    }
}
