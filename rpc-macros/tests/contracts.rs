//! The descriptions of contracts.

use std::collections::HashMap;

use rpc_core::{
    DynCaller, HandlerError, MethodError, Service, Status, Streaming,
    descriptor::{Contract, Definition, Form, MethodContract, OnceScope, Type},
    rpc_service,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum OrderError {
    NotFound { id: u64 },
}

/// Orders.
///
/// Of a shop.
#[rpc_service(name = "shop.Orders", version = "2.1", codec = "messagepack")]
trait Orders {
    /// Places an order.
    #[rpc(once = "cluster", timeout = "1500us")]
    async fn place(&self, order: Order, note: Option<String>) -> Result<u64, OrderError>;

    #[rpc(idempotent, name = "find")]
    async fn find_by_id(&self, id: u64) -> Result<Option<Order>, HandlerError<OrderError>>;

    #[rpc(one_way)]
    async fn forget(&self, id: u64);

    async fn status(&self) -> Result<HashMap<String, u32>, Status>;

    async fn watch(&self, ids: Vec<u64>) -> Result<Streaming<Order, OrderError>, OrderError>;

    async fn import(&self, orders: Streaming<Order>) -> u32;

    async fn convert(&self, orders: Streaming<Order>) -> Streaming<String>;
}

struct Shop;

impl Orders for Shop {
    async fn place(&self, order: Order, _: Option<String>) -> Result<u64, OrderError> {
        Ok(order.id)
    }

    async fn find_by_id(&self, _: u64) -> Result<Option<Order>, HandlerError<OrderError>> {
        Ok(None)
    }

    async fn forget(&self, _: u64) {}

    async fn status(&self) -> Result<HashMap<String, u32>, Status> {
        Ok(HashMap::new())
    }

    async fn watch(&self, _: Vec<u64>) -> Result<Streaming<Order, OrderError>, OrderError> {
        Err(OrderError::NotFound { id: 1 })
    }

    async fn import(&self, _: Streaming<Order>) -> u32 {
        0
    }

    async fn convert(&self, _: Streaming<Order>) -> Streaming<String> {
        Streaming::channel(1).1
    }
}

fn method(name: &str) -> &'static MethodContract {
    OrdersServer::<Shop>::contract().method(name).expect("the method exists")
}

fn named(name: &str) -> Type {
    Type::Named(name.to_owned())
}

#[test]
fn contract_describes_names_docs_and_options() {
    let contract = OrdersClient::<DynCaller>::contract();
    assert_eq!((&*contract.name, &*contract.version, &*contract.docs), ("shop.Orders", "2.1", "Orders.\n\nOf a shop."));
    let names: Vec<_> = contract.methods.iter().map(|method| &*method.name).collect();
    assert_eq!(names, ["place", "find", "forget", "status", "watch", "import", "convert"]);
    let place = method("place");
    assert_eq!(place.docs, "Places an order.");
    assert_eq!((place.once, place.timeout_ms), (Some(OnceScope::Cluster), Some(2)));
    assert!(place.codec.as_deref() == Some("messagepack") && !place.idempotent && method("find").idempotent);
    let forms: Vec<_> = contract.methods.iter().map(|method| method.form).collect();
    use Form::{CalleeStream, CallerStream, OneWay, Streams, Unary};
    assert_eq!(forms, [Unary, Unary, OneWay, Unary, CalleeStream, CallerStream, Streams]);
}

#[test]
fn contract_describes_parameters_and_answers() {
    let place = method("place");
    let parameters: Vec<_> =
        place.parameters.iter().map(|one| (&*one.name, one.ty.to_string(), one.optional)).collect();
    assert_eq!(parameters, [("order", "Order".to_owned(), false), ("note", "Option<String>".to_owned(), true)]);
    assert_eq!((&place.result, &place.error), (&Type::U64, &Some(named("OrderError"))));
    assert_eq!(method("find").result, Type::Option(Box::new(named("Order"))));
    assert_eq!(method("find").error, Some(named("OrderError")));
    assert_eq!((&method("forget").result, &method("forget").error), (&Type::Unit, &None));
    assert_eq!((method("status").result.to_string(), &method("status").error), ("Map<String, u32>".to_owned(), &None));
    let watch = method("watch");
    assert_eq!((&watch.items, &watch.result, &watch.caller_items), (&Some(named("Order")), &Type::Unit, &None));
    assert_eq!((&watch.items_error, &watch.error), (&Some(named("OrderError")), &Some(named("OrderError"))));
    assert_eq!((&method("import").caller_items, &method("import").result), (&Some(named("Order")), &Type::U32));
    assert_eq!(method("convert").items, Some(Type::String));
    let types = &OrdersServer::<Shop>::contract().types;
    assert_eq!(types.keys().collect::<Vec<_>>(), ["Order", "OrderError"]);
    assert!(matches!(&types["Order"], Definition::Struct(_)));
}

#[test]
fn contract_round_trips_through_json() {
    let contract = OrdersServer::<Shop>::contract();
    assert_eq!(&Contract::from_json(&contract.to_json()).unwrap(), contract);
    assert!(std::ptr::eq(OrdersServer::new(Shop).contract_of_service(), contract));
    assert!(Contract::from_json("{}").unwrap_err().to_string().contains("missing field"));
}

trait Described {
    fn contract_of_service(&self) -> &Contract;
}

impl<S: Service> Described for S {
    fn contract_of_service(&self) -> &Contract {
        Service::contract(self).expect("a generated server has a contract")
    }
}

/// An error with a form of its own.
#[derive(Debug)]
struct Custom;

impl MethodError for Custom {
    type CallError = rpc_core::Error;

    async fn answer(self, responder: rpc_core::Responder) {
        responder.status(Status::invalid_argument("custom"));
    }

    fn decode(reply: rpc_core::Reply) -> rpc_core::Error {
        reply.result::<()>().expect_err("the payload is an error")
    }

    fn into_call_error(self) -> rpc_core::Error {
        rpc_core::Error::from_status(Status::invalid_argument("custom"))
    }

    fn from_call_error(error: rpc_core::Error) -> Result<Self, Status> {
        Err(error.into())
    }
}

#[rpc_service]
trait Customs {
    async fn fail(&self) -> Result<(), Custom>;
}

#[test]
fn error_with_its_own_form_is_opaque() {
    let contract = CustomsClient::<DynCaller>::contract();
    assert_eq!(contract.methods[0].error, Some(Type::Opaque("Custom".to_owned())));
}
