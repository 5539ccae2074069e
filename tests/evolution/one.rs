//! The first version of `test.Evolving:1.0`.

use rpc_core::{CallError, Streaming, rpc_service};
use serde::{Deserialize, Serialize};

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The id.
    pub id: u64,
    /// The good.
    pub item: String,
}

/// A kind of good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// No properties.
    Plain,
    /// A size.
    Sized(u8),
}

/// A point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The first coordinate.
    pub x: u32,
    /// The second coordinate.
    pub y: u32,
}

/// An error.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// The good is lost.
    Lost,
    /// The good is late.
    Late {
        /// The delay.
        by: u32,
    },
}

/// The first version of the contract. The names of the methods tell how the second version differs.
#[rpc_service(name = "test.Evolving")]
pub trait Evolving {
    /// Has the same contract in both versions.
    async fn unchanged(&self, order: Order) -> Order;
    /// Has another name of its type.
    async fn renamed_type(&self, order: Order) -> Order;
    /// Has a further field with a default.
    async fn added_field(&self, order: Order) -> Order;
    /// Has a further optional parameter.
    async fn added_parameter(&self, id: u64) -> u64;
    /// Has a further variant.
    async fn added_variant(&self, kind: Kind) -> Kind;
    /// Has another order of fields.
    async fn reordered(&self, point: Point) -> Point;
    /// Has no optional parameter any more.
    async fn removed_parameter(&self, id: u64, comment: Option<String>) -> u64;
    /// Has a wider number.
    async fn widened_parameter(&self, n: u32) -> bool;
    /// Has an optional number.
    async fn optional_parameter(&self, n: u32) -> bool;
    /// Has a newtype around the number.
    async fn newtype(&self, n: u32) -> u32;
    /// Has a further variant of the error.
    async fn error_variant(&self, fails: bool) -> Result<u32, Fault>;
    /// Has items with a further field.
    async fn items(&self, orders: Streaming<Order>) -> Streaming<Order>;
    /// Has a further field without a default.
    async fn required_field(&self, order: Order) -> u64;
    /// Has a further parameter that is not optional.
    async fn required_parameter(&self, id: u64) -> u64;
    /// Has a field of another type.
    async fn changed_field(&self, order: Order) -> u64;
    /// Has a parameter of another type.
    async fn changed_parameter(&self, n: u32) -> bool;
    /// Has a result of another type.
    async fn changed_result(&self) -> u32;
    /// Has an error of another type.
    async fn changed_error(&self, fails: bool) -> Result<u32, Fault>;
    /// Has a variant with another content.
    async fn changed_variant(&self, kind: Kind) -> bool;
    /// Has a narrower number.
    async fn narrowed_parameter(&self, n: u64) -> bool;
}

/// Implements [`Evolving`].
pub struct Service;

impl Evolving for Service {
    async fn unchanged(&self, order: Order) -> Order {
        order
    }
    async fn renamed_type(&self, order: Order) -> Order {
        order
    }
    async fn added_field(&self, order: Order) -> Order {
        order
    }
    async fn added_parameter(&self, id: u64) -> u64 {
        id
    }
    async fn added_variant(&self, kind: Kind) -> Kind {
        kind
    }
    async fn reordered(&self, point: Point) -> Point {
        point
    }
    async fn removed_parameter(&self, id: u64, _: Option<String>) -> u64 {
        id
    }
    async fn widened_parameter(&self, n: u32) -> bool {
        n == 7
    }
    async fn optional_parameter(&self, n: u32) -> bool {
        n == 7
    }
    async fn newtype(&self, n: u32) -> u32 {
        n
    }
    async fn error_variant(&self, fails: bool) -> Result<u32, Fault> {
        if fails { Err(Fault::Late { by: 3 }) } else { Ok(1) }
    }
    async fn items(&self, orders: Streaming<Order>) -> Streaming<Order> {
        orders
    }
    async fn required_field(&self, order: Order) -> u64 {
        order.id
    }
    async fn required_parameter(&self, id: u64) -> u64 {
        id
    }
    async fn changed_field(&self, order: Order) -> u64 {
        order.id
    }
    async fn changed_parameter(&self, n: u32) -> bool {
        n == 7
    }
    async fn changed_result(&self) -> u32 {
        7
    }
    async fn changed_error(&self, fails: bool) -> Result<u32, Fault> {
        if fails { Err(Fault::Lost) } else { Ok(1) }
    }
    async fn changed_variant(&self, kind: Kind) -> bool {
        kind == Kind::Plain
    }
    async fn narrowed_parameter(&self, n: u64) -> bool {
        n == 7
    }
}

/// The error of a call.
pub type Failure = CallError<Fault>;
