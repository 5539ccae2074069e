//! The second version of `test.Evolving:1.0`.

use rpc_core::{Streaming, rpc_service};
use serde::{Deserialize, Serialize};

/// An order, by another name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Purchase {
    /// The id.
    pub id: u64,
    /// The good.
    pub item: String,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The id.
    pub id: u64,
    /// The currency.
    #[serde(default = "euro")]
    pub currency: String,
    /// The good.
    pub item: String,
}

fn euro() -> String {
    "EUR".to_owned()
}

/// A kind of good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// A weight.
    Heavy {
        /// The weight.
        weight: u32,
    },
    /// No properties.
    Plain,
    /// A size.
    Sized(u8),
}

/// A point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The second coordinate.
    pub y: u32,
    /// The first coordinate.
    pub x: u32,
}

/// An error.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// The good is stolen.
    Stolen,
    /// The good is lost.
    Lost,
    /// The good is late.
    Late {
        /// The delay.
        by: u32,
    },
}

/// An order whose currency is required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strict {
    /// The id.
    pub id: u64,
    /// The good.
    pub item: String,
    /// The currency.
    pub currency: String,
}

/// An order with a text as its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Textual {
    /// The id.
    pub id: String,
    /// The good.
    pub item: String,
}

/// A kind with another content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Changed {
    /// No properties.
    Plain,
    /// A size.
    Sized(String),
}

/// A number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number(pub u32);

/// The second version of the contract. The names of the methods tell how the second version differs.
#[rpc_service(name = "test.Evolving")]
pub trait Evolving {
    /// Has the same contract in both versions.
    async fn unchanged(&self, order: Purchase) -> Purchase;
    /// Has another name of its type.
    async fn renamed_type(&self, order: Purchase) -> Purchase;
    /// Has a further field with a default.
    async fn added_field(&self, order: Order) -> Order;
    /// Has a further optional parameter.
    async fn added_parameter(&self, id: u64, note: Option<String>) -> u64;
    /// Has a further variant.
    async fn added_variant(&self, kind: Kind) -> Kind;
    /// Has another order of fields.
    async fn reordered(&self, point: Point) -> Point;
    /// Has no optional parameter any more.
    async fn removed_parameter(&self, id: u64) -> u64;
    /// Has a wider number.
    async fn widened_parameter(&self, n: u64) -> bool;
    /// Has an optional number.
    async fn optional_parameter(&self, n: Option<u32>) -> bool;
    /// Has a newtype around the number.
    async fn newtype(&self, n: Number) -> Number;
    /// Has a further variant of the error.
    async fn error_variant(&self, fails: bool) -> Result<u32, Fault>;
    /// Has items with a further field.
    async fn items(&self, orders: Streaming<Order>) -> Streaming<Order>;
    /// Has a further field without a default.
    async fn required_field(&self, order: Strict) -> u64;
    /// Has a further parameter that is not optional.
    async fn required_parameter(&self, id: u64, note: String) -> u64;
    /// Has a field of another type.
    async fn changed_field(&self, order: Textual) -> u64;
    /// Has a parameter of another type.
    async fn changed_parameter(&self, n: String) -> bool;
    /// Has a result of another type.
    async fn changed_result(&self) -> String;
    /// Has an error of another type.
    async fn changed_error(&self, fails: bool) -> Result<u32, u64>;
    /// Has a variant with another content.
    async fn changed_variant(&self, kind: Changed) -> bool;
    /// Has a narrower number.
    async fn narrowed_parameter(&self, n: u8) -> bool;
    /// Exists only in the second version.
    async fn added_method(&self) -> u32;
}

/// Implements [`Evolving`].
pub struct Service;

impl Evolving for Service {
    async fn unchanged(&self, order: Purchase) -> Purchase {
        order
    }
    async fn renamed_type(&self, order: Purchase) -> Purchase {
        order
    }
    async fn added_field(&self, order: Order) -> Order {
        order
    }
    async fn added_parameter(&self, id: u64, note: Option<String>) -> u64 {
        id + note.map_or(0, |note| note.len() as u64)
    }
    async fn added_variant(&self, kind: Kind) -> Kind {
        kind
    }
    async fn reordered(&self, point: Point) -> Point {
        point
    }
    async fn removed_parameter(&self, id: u64) -> u64 {
        id
    }
    async fn widened_parameter(&self, n: u64) -> bool {
        n == 7
    }
    async fn optional_parameter(&self, n: Option<u32>) -> bool {
        n == Some(7)
    }
    async fn newtype(&self, n: Number) -> Number {
        n
    }
    async fn error_variant(&self, fails: bool) -> Result<u32, Fault> {
        if fails { Err(Fault::Late { by: 3 }) } else { Ok(1) }
    }
    async fn items(&self, orders: Streaming<Order>) -> Streaming<Order> {
        orders
    }
    async fn required_field(&self, order: Strict) -> u64 {
        order.id
    }
    async fn required_parameter(&self, id: u64, _: String) -> u64 {
        id
    }
    async fn changed_field(&self, order: Textual) -> u64 {
        order.id.len() as u64
    }
    async fn changed_parameter(&self, n: String) -> bool {
        n == "7"
    }
    async fn changed_result(&self) -> String {
        "7".to_owned()
    }
    async fn changed_error(&self, fails: bool) -> Result<u32, u64> {
        if fails { Err(9) } else { Ok(1) }
    }
    async fn changed_variant(&self, kind: Changed) -> bool {
        kind == Changed::Plain
    }
    async fn narrowed_parameter(&self, n: u8) -> bool {
        n == 7
    }
    async fn added_method(&self) -> u32 {
        1
    }
}
