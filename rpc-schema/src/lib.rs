//! Schemas of other systems from the contract of a service: Protocol Buffers, OpenAPI and TypeScript.
//!
//! A [`Contract`](rpc_core::descriptor::Contract) describes a service as a value. This crate converts it without I/O, so
//! that commands, HTTP endpoints and gRPC endpoints share one set of rules. `docs/SCHEMAS.md` describes the results for
//! their users.
//!
//! | function | result |
//! |---|---|
//! | [`proto`] | a [`ProtoFile`], whose `Display` is the text of a `.proto` file |
//! | [`openapi`] | an OpenAPI 3.1 document |
//! | [`typescript`] | the types and the interfaces of services in TypeScript |
//!
//! | topic | module |
//! |---|---|
//! | the model of a `.proto` file, and its conversion | `proto` |
//! | types as JSON Schema | `json_schema` |
//! | identifiers of other languages | `names` |
//!
//! # Protocol Buffers
//!
//! Numbers follow from positions, so that the same contract always has the same file, and adding fields, parameters or
//! variants at the end keeps the numbers of the others.
//!
//! | msnb | Protocol Buffers |
//! |---|---|
//! | service `demo.Greeter:1.0` | package `demo.greeter.v1_0`, service `Greeter` |
//! | method `find_goods` | `rpc FindGoods(FindGoodsRequest) returns (FindGoodsResponse)` |
//! | parameters | the fields of `FindGoodsRequest`, numbered by position from 1 |
//! | result | the field `value = 1` of `FindGoodsResponse`, which is empty for `()` |
//! | items of the callee | `returns (stream FindGoodsResponse)`, one message for each item |
//! | items of the caller | `stream FindGoodsRequest` with a oneof: first `arguments = 1`, of the type `FindGoodsArguments`, then `item = 2` for each item |
//! | error of the service | the message of its type, which a status carries; the comment of the method names it |
//! | `bool`, `f32`, `f64`, `String` | `bool`, `float`, `double`, `string` |
//! | `i8`, `i16`, `i32`; `i64` | `int32`; `int64` |
//! | `u8`, `u16`, `u32`; `u64` | `uint32`; `uint64` |
//! | `i128`, `u128` | `string` with decimal digits |
//! | `char` | `string` with one character |
//! | `Bytes`, `Vec<u8>`, `[u8; N]` | `bytes` |
//! | `()` and unit structs | an empty message |
//! | `Option<T>`, and fields with a default | `optional`, or for a repeated type a message with `value = 1` |
//! | `Vec<T>`, `[T; N]` | `repeated`; within another container a message with `value = 1` |
//! | `Map<K, V>` with integers, `bool` or strings as keys | `map<K, V>` |
//! | other maps | `repeated` messages with `key = 1` and `value = 2` |
//! | tuples and tuple structs | a message with `field_0 = 1`, `field_1 = 2` … |
//! | newtypes | their content; a newtype that contains itself is a message with `value = 1` |
//! | structs | a message, whose fields are numbered by position from 1 |
//! | enums whose variants are all units | an enum, whose variants are numbered by position from 1; 0 is `…_UNSPECIFIED`, which a receiver rejects |
//! | other enums | a message with a oneof of the variants, numbered by position from 1 |
//! | opaque types | `google.protobuf.Value` |
//!
//! Positions from 18 999 are 1000 numbers higher, because Protocol Buffers reserve 19 000 to 19 999.
//!
//! # Examples
//!
//! ```
//! use rpc_core::{DynCaller, rpc_service};
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! let contract = GreeterClient::<DynCaller>::contract();
//! let proto = rpc_schema::proto(contract).to_string();
//! assert!(proto.contains("rpc Hello(HelloRequest) returns (HelloResponse);"));
//! assert!(proto.contains("string name = 1;"));
//! assert_eq!(rpc_schema::openapi(&[contract.clone()])["openapi"], "3.1.0");
//! assert!(rpc_schema::typescript(&[contract.clone()]).contains("hello(name: string): Promise<string>;"));
//! ```

#![forbid(unsafe_code)]

mod json_schema;
mod names;
mod openapi;
mod proto;
mod typescript;

pub use openapi::openapi;
pub use proto::{ProtoEnum, ProtoField, ProtoFile, ProtoLabel, ProtoMessage, ProtoMethod, ProtoType, proto};
pub use typescript::typescript;
