//! The model of a `.proto` file.

use std::collections::BTreeMap;

/// A `.proto` file of one service. `Display` writes its text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtoFile {
    /// The package, such as `demo.greeter.v1_0`. Each service has its own, so that equal names of messages differ.
    pub package: String,
    /// The name of the service, such as `Greeter`. Its full name is `demo.greeter.v1_0.Greeter`.
    pub service: String,
    /// The comment of the service.
    pub docs: String,
    /// The methods, in the order of the contract.
    pub methods: Vec<ProtoMethod>,
    /// The messages.
    pub messages: Vec<ProtoMessage>,
    /// The enums.
    pub enums: Vec<ProtoEnum>,
    /// The names of the messages and enums of the contract's types, by the names of the types.
    pub types: BTreeMap<String, String>,
}

/// A method.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtoMethod {
    /// The name in Protocol Buffers, such as `FindGoods`.
    pub name: String,
    /// The name in the contract, such as `find_goods`.
    pub wire_name: String,
    /// The comment.
    pub docs: String,
    /// The name of the request message.
    pub request: String,
    /// Whether the caller sends a stream of requests.
    pub streams_requests: bool,
    /// The name of the response message.
    pub response: String,
    /// Whether the callee sends a stream of responses.
    pub streams_responses: bool,
    /// The type of the service's own error.
    pub error: Option<ProtoType>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtoMessage {
    /// The name.
    pub name: String,
    /// The fields, in the order of their numbers.
    pub fields: Vec<ProtoField>,
    /// The name of the oneof that contains all fields, if they are the variants of an enum.
    pub oneof: Option<String>,
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtoField {
    /// The name.
    pub name: String,
    /// The name in the contract, and in JSON.
    pub wire_name: String,
    /// The number.
    pub number: u32,
    /// The type of the value, or of each value.
    pub ty: ProtoType,
    /// How many values the field has.
    pub label: ProtoLabel,
}

/// How many values a field has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtoLabel {
    /// One value.
    Single,
    /// No value or one.
    Optional,
    /// Any number of values.
    Repeated,
    /// Entries with keys of this type.
    Map(ProtoType),
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of Protocol Buffers")]
pub enum ProtoType {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Float,
    Double,
    String,
    Bytes,
    /// `google.protobuf.Value`, for a type whose form the contract does not describe.
    Value,
    /// A message of the file.
    Message(String),
    /// An enum of the file.
    Enum(String),
}

/// An enum.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtoEnum {
    /// The name.
    pub name: String,
    /// The values with their numbers; the first is 0, and is no variant of the contract.
    pub values: Vec<(String, u32)>,
}
