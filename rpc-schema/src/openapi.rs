//! [`openapi`]: an OpenAPI document.

use rpc_core::descriptor::{Contract, Form, MethodContract};
use serde_json::{Map, Value, json};

use crate::json_schema::Schemas;

/// Returns an OpenAPI 3.1 document of services that are called with JSON over HTTP.
///
/// | contract | OpenAPI |
/// |---|---|
/// | method `hello` of `demo.Greeter:1.0` | `POST /demo.Greeter:1.0/hello`, with the tag `demo.Greeter:1.0` |
/// | parameters | an object in the body; those that a caller may omit are not required |
/// | result | status 200; for a one-way method status 202 without a body |
/// | items of the callee | status 200 with `application/x-ndjson` or `text/event-stream`; the schema is that of one item |
/// | error of the service | status 422 |
/// | other errors | problem details, RFC 9457 |
/// | items of the caller | none: the method has no path |
///
/// Schemas have the form of the description, that of bincode and MessagePack. A type that has another form in JSON, such
/// as a UUID, has the schema of the former. Names of schemas begin with the service and its version.
pub fn openapi(contracts: &[Contract]) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::from_iter([("Problem".to_owned(), problem())]);
    for contract in contracts {
        let converted = Schemas::new(contract);
        for method in &contract.methods {
            if !matches!(method.form, Form::CallerStream | Form::Streams) {
                let path = format!("/{}:{}/{}", contract.name, contract.version, method.name);
                paths.insert(path, json!({ "post": operation(contract, &converted, method) }));
            }
        }
        schemas.extend(converted.definitions());
    }
    let tags = contracts.iter().map(|contract| {
        let mut tag = json!({ "name": service(contract) });
        if !contract.docs.is_empty() {
            tag["description"] = json!(contract.docs);
        }
        tag
    });
    let (title, version) = match contracts {
        [contract] => (service(contract), &*contract.version),
        _ => ("msnb services".to_owned(), "1.0"),
    };
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(contract: &Contract, schemas: &Schemas<'_>, method: &MethodContract) -> Value {
    let mut responses = Map::new();
    match (&method.items, method.form) {
        (Some(items), _) => {
            let schema = json!({ "schema": schemas.schema(items) });
            let content = json!({ "application/x-ndjson": schema, "text/event-stream": schema });
            responses.insert("200".to_owned(), json!({ "description": "The items of the stream", "content": content }));
        }
        (None, Form::OneWay) => {
            responses.insert("202".to_owned(), json!({ "description": "The call was accepted" }));
        }
        (None, _) => {
            let content = json!({ "application/json": { "schema": schemas.schema(&method.result) } });
            responses.insert("200".to_owned(), json!({ "description": "The result", "content": content }));
        }
    }
    if let Some(error) = &method.error {
        let content = json!({ "application/json": { "schema": schemas.schema(error) } });
        responses.insert("422".to_owned(), json!({ "description": "The service's own error", "content": content }));
    }
    let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    responses.insert("default".to_owned(), json!({ "description": "The call failed", "content": problem }));
    let is_required = method.parameters.iter().any(|field| !field.optional);
    let mut operation = json!({
        "operationId": format!("{}_{}", service(contract), method.name),
        "tags": [service(contract)],
        "requestBody": {
            "required": is_required,
            "content": { "application/json": { "schema": schemas.object(&method.parameters) } },
        },
        "responses": responses,
    });
    if !method.docs.is_empty() {
        operation["summary"] = json!(method.docs.lines().next().unwrap_or_default());
        operation["description"] = json!(method.docs);
    }
    operation
}

fn service(contract: &Contract) -> String {
    format!("{}:{}", contract.name, contract.version)
}

/// Returns the schema of problem details with the members that msnb adds.
fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "description": "The name of the code, such as Unavailable" },
            "delivery": { "type": "string", "enum": ["not-executed", "unknown", "answered"] },
        },
    })
}

#[cfg(test)]
mod tests {
    use rpc_core::{DynCaller, Status, Streaming, rpc_service};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Order {
        id: u64,
        #[serde(default)]
        count: u32,
        pay: Pay,
        sub_orders: Vec<Order>,
    }

    #[derive(Serialize, Deserialize)]
    enum Pay {
        Card { number: String },
        Cash,
        Split(u8, Option<char>),
    }

    #[derive(Serialize, Deserialize)]
    enum Refusal {
        SoldOut,
        Closed,
    }

    /// Takes orders.
    #[rpc_service(name = "shop.Orders", version = "1.0")]
    trait Orders {
        /// Places an order.
        ///
        /// It may be sent twice.
        async fn place(&self, order: Order, note: Option<String>) -> Result<u64, Refusal>;
        #[rpc(one_way)]
        async fn note(&self);
        async fn watch(&self) -> Result<Streaming<Order>, Status>;
        async fn upload(&self, parts: Streaming<String>) -> Result<u64, Status>;
    }

    #[test]
    fn methods_are_paths() {
        let document = openapi(&[OrdersClient::<DynCaller>::contract().clone()]);
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(paths, ["/shop.Orders:1.0/note", "/shop.Orders:1.0/place", "/shop.Orders:1.0/watch"]);
        let place = &document["paths"]["/shop.Orders:1.0/place"]["post"];
        assert_eq!(place["summary"], json!("Places an order."));
        let body = &place["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["required"], json!(["order"]));
        let order = "#/components/schemas/shop.Orders-1.0.Order";
        assert_eq!(body["properties"]["order"], json!({ "$ref": order }));
        let refusal = &place["responses"]["422"]["content"]["application/json"]["schema"];
        assert_eq!(*refusal, json!({ "$ref": "#/components/schemas/shop.Orders-1.0.Refusal" }));
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["shop.Orders-1.0.Refusal"], json!({ "type": "string", "enum": ["SoldOut", "Closed"] }));
        assert_eq!(schemas["shop.Orders-1.0.Order"]["required"], json!(["id", "pay", "sub_orders"]));
        let pay = schemas["shop.Orders-1.0.Pay"]["oneOf"].as_array().unwrap();
        assert_eq!((pay.len(), &pay[1]), (3, &json!({ "type": "string", "const": "Cash" })));
        let items = &document["paths"]["/shop.Orders:1.0/watch"]["post"]["responses"]["200"]["content"];
        assert_eq!(items["application/x-ndjson"]["schema"], json!({ "$ref": order }));
        assert!(document["paths"]["/shop.Orders:1.0/note"]["post"]["responses"]["202"].is_object());
    }

    #[test]
    fn services_with_equal_type_names_do_not_collide() {
        let contract = OrdersClient::<DynCaller>::contract().clone();
        let later = Contract::from_json(&contract.to_json().replace("\"1.0\"", "\"2.0\"")).unwrap();
        let document = openapi(&[contract, later]);
        assert_eq!(document["paths"].as_object().unwrap().len(), 6);
        assert_eq!(document["components"]["schemas"].as_object().unwrap().len(), 7);
    }
}
