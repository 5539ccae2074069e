//! Descriptions of services as values: methods, parameters, results, and the types behind them.
//!
//! `GreeterServer::<T>::contract()` and `GreeterClient::<C>::contract()` return the [`Contract`] of a trait. The types are
//! traced from their `Deserialize` implementations, when the description is first needed. A user adds nothing.
//!
//! | topic | item |
//! |---|---|
//! | a service and its methods | [`Contract`], [`MethodContract`], [`Form`], [`OnceScope`] |
//! | the types | [`Type`], [`Definition`], [`Content`], [`Field`], [`Variant`] |
//! | the changes from one version of a contract to another | [`compare`], [`Change`], [`Breaks`], [`Rule`] |
//! | whether two ends understand each other | [`check_by_name`], [`Mismatch`] |
//!
//! # What a trace finds
//!
//! The description has the names that serde uses, and tells which fields may be missing: those of type `Option` and those
//! with `#[serde(default)]`. It describes the form that codecs which are not human-readable use, bincode and MessagePack.
//! A type is [`Type::Opaque`] if its form depends on the data: `serde_json::Value`, `#[serde(flatten)]`, tagged and
//! untagged enums. A tuple is opaque if one of its elements accepts none of the values that the tracer offers, because the
//! elements behind it are then out of reach. A trace never fails and never panics.

mod cell;
mod changes;
#[cfg(feature = "transport")]
mod digest;
mod model;
mod reading;
mod trace;
mod types;

#[cfg(feature = "transport")]
#[doc(hidden)]
pub use self::digest::MethodDigest;
pub use self::{
    cell::{ContractBuilder, ContractCell, ErrorBuilder, MethodBuilder},
    changes::{Breaks, Change, Rule, compare},
    model::{Contract, Form, MethodContract, OnceScope},
    reading::{Mismatch, check_by_name},
    types::{Content, Definition, Field, Type, Variant},
};
