//! [`template`]: the arguments of a method as JSON, with a value of each type.

use rpc_core::descriptor::{Content, Contract, Definition, Field, MethodContract, Type};
use serde_json::{Map, Value, json};

/// Returns the arguments of a method: each parameter with an empty value of its type.
///
/// Sequences and maps have one element, so that its form is visible. Options are `null`, and enums are their first
/// variant.
pub(crate) fn template(contract: &Contract, method: &MethodContract) -> Value {
    Template { contract, within: Vec::new() }.fields(&method.parameters)
}

struct Template<'a> {
    contract: &'a Contract,
    /// The named types around the current one, which end a recursion.
    within: Vec<&'a str>,
}

impl<'a> Template<'a> {
    fn fields(&mut self, fields: &'a [Field]) -> Value {
        let members = fields.iter().map(|field| (field.name.clone(), self.value(&field.ty)));
        Value::Object(members.collect::<Map<_, _>>())
    }

    fn value(&mut self, ty: &'a Type) -> Value {
        match ty {
            Type::Bool => json!(false),
            Type::F32 | Type::F64 => json!(0.0),
            Type::Char => json!("a"),
            Type::String => json!(""),
            Type::Bytes => json!([]),
            Type::Sequence(element) => match self.value(element) {
                // The element contains this sequence.
                Value::Null if matches!(**element, Type::Named(_)) => json!([]),
                element => json!([element]),
            },
            // A long array is not repeated in full: the caller sees the type with `msnb describe`.
            Type::Array(element, length) => Value::Array(vec![self.value(element); (*length).min(MAX_ELEMENTS)]),
            Type::Tuple(elements) => self.elements(elements),
            Type::Map(key, value) => {
                let key = match self.value(key) {
                    Value::String(text) if text.is_empty() => "key".to_owned(),
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                json!({ key: self.value(value) })
            }
            Type::Named(name) => self.named(name),
            Type::Unit | Type::Option(_) | Type::Opaque(_) => Value::Null,
            // All others are integers.
            _ => json!(0),
        }
    }

    fn elements(&mut self, types: &'a [Type]) -> Value {
        types.iter().map(|ty| self.value(ty)).collect()
    }

    fn named(&mut self, name: &'a str) -> Value {
        let Some(definition) = self.contract.types.get(name).filter(|_| !self.within.contains(&name)) else {
            return Value::Null;
        };
        self.within.push(name);
        let value = match definition {
            Definition::Struct(content) => self.content(content),
            Definition::Enum(variants) => match variants.first() {
                Some(variant) if matches!(variant.content, Content::Unit) => json!(variant.name),
                Some(variant) => json!({ &variant.name: self.content(&variant.content) }),
                None => Value::Null,
            },
            _ => Value::Null,
        };
        self.within.pop();
        value
    }

    fn content(&mut self, content: &'a Content) -> Value {
        match content {
            Content::Newtype(inner) => self.value(inner),
            Content::Tuple(elements) => self.elements(elements),
            Content::Fields(fields) => self.fields(fields),
            _ => Value::Null,
        }
    }
}

/// The largest number of elements of an array in a template.
const MAX_ELEMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use rpc_core::{DynCaller, rpc_service};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Order {
        id: u64,
        lines: Vec<Line>,
        note: Option<String>,
        pay: Pay,
        by_good: std::collections::BTreeMap<String, f64>,
        sub_orders: Vec<Order>,
    }

    #[derive(Serialize, Deserialize)]
    struct Line(String, u32);

    #[derive(Serialize, Deserialize)]
    enum Pay {
        Card { number: String },
        Cash,
    }

    #[rpc_service(name = "shop.Orders", version = "1.0")]
    trait Orders {
        async fn place(&self, order: Order, is_test: bool);
    }

    #[test]
    fn template_has_a_value_of_each_type() {
        let contract = OrdersClient::<DynCaller>::contract();
        let filled = template(contract, contract.method("place").unwrap());
        let expected = json!({
            "order": {
                "id": 0,
                "lines": [["", 0]],
                "note": null,
                "pay": { "Card": { "number": "" } },
                "by_good": { "key": 0.0 },
                "sub_orders": [],
            },
            "is_test": false,
        });
        assert_eq!(filled, expected);
        assert!(serde_json::from_value::<Order>(filled["order"].clone()).is_ok());
        assert!(matches!(serde_json::from_str(r#""Cash""#), Ok(Pay::Cash)));
    }
}
