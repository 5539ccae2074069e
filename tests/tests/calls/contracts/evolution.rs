//! Two versions of a contract, which differ in one way in each method.

use serde::{Deserialize, Serialize};

/// The first version.
pub(crate) mod one {
    use super::*;
    use rpc_core::{CallError, Streaming, rpc_service};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Order {
        pub id: u64,
        pub item: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Kind {
        Plain,
        Sized(u8),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Point {
        pub x: u32,
        pub y: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Fault {
        Lost,
        Late { by: u32 },
    }

    #[rpc_service(name = "test.Evolving")]
    pub(crate) trait Evolving {
        async fn unchanged(&self, order: Order) -> Order;
        async fn renamed_type(&self, order: Order) -> Order;
        async fn added_field(&self, order: Order) -> Order;
        async fn added_parameter(&self, id: u64) -> u64;
        async fn added_variant(&self, kind: Kind) -> Kind;
        async fn reordered(&self, point: Point) -> Point;
        async fn removed_parameter(&self, id: u64, comment: Option<String>) -> u64;
        async fn widened_parameter(&self, n: u32) -> bool;
        async fn optional_parameter(&self, n: u32) -> bool;
        async fn newtype(&self, n: u32) -> u32;
        async fn error_variant(&self, fails: bool) -> Result<u32, Fault>;
        async fn items(&self, orders: Streaming<Order>) -> Streaming<Order>;
        async fn required_field(&self, order: Order) -> u64;
        async fn required_parameter(&self, id: u64) -> u64;
        async fn changed_field(&self, order: Order) -> u64;
        async fn changed_parameter(&self, n: u32) -> bool;
        async fn changed_result(&self) -> u32;
        async fn changed_error(&self, fails: bool) -> Result<u32, Fault>;
        async fn changed_variant(&self, kind: Kind) -> bool;
        async fn narrowed_parameter(&self, n: u64) -> bool;
    }

    pub(crate) struct Service;

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

    pub(crate) type Failure = CallError<Fault>;
}

/// The second version.
pub(crate) mod two {
    use super::*;
    use rpc_core::{Streaming, rpc_service};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Purchase {
        pub id: u64,
        pub item: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Order {
        pub id: u64,
        #[serde(default = "euro")]
        pub currency: String,
        pub item: String,
    }

    fn euro() -> String {
        "EUR".to_owned()
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Kind {
        Heavy { weight: u32 },
        Plain,
        Sized(u8),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Point {
        pub y: u32,
        pub x: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Fault {
        Stolen,
        Lost,
        Late { by: u32 },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Strict {
        pub id: u64,
        pub item: String,
        pub currency: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Textual {
        pub id: String,
        pub item: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Changed {
        Plain,
        Sized(String),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Number(pub u32);

    #[rpc_service(name = "test.Evolving")]
    pub(crate) trait Evolving {
        async fn unchanged(&self, order: Purchase) -> Purchase;
        async fn renamed_type(&self, order: Purchase) -> Purchase;
        async fn added_field(&self, order: Order) -> Order;
        async fn added_parameter(&self, id: u64, note: Option<String>) -> u64;
        async fn added_variant(&self, kind: Kind) -> Kind;
        async fn reordered(&self, point: Point) -> Point;
        async fn removed_parameter(&self, id: u64) -> u64;
        async fn widened_parameter(&self, n: u64) -> bool;
        async fn optional_parameter(&self, n: Option<u32>) -> bool;
        async fn newtype(&self, n: Number) -> Number;
        async fn error_variant(&self, fails: bool) -> Result<u32, Fault>;
        async fn items(&self, orders: Streaming<Order>) -> Streaming<Order>;
        async fn required_field(&self, order: Strict) -> u64;
        async fn required_parameter(&self, id: u64, note: String) -> u64;
        async fn changed_field(&self, order: Textual) -> u64;
        async fn changed_parameter(&self, n: String) -> bool;
        async fn changed_result(&self) -> String;
        async fn changed_error(&self, fails: bool) -> Result<u32, u64>;
        async fn changed_variant(&self, kind: Changed) -> bool;
        async fn narrowed_parameter(&self, n: u8) -> bool;
        async fn added_method(&self) -> u32;
    }

    pub(crate) struct Service;

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
}
