//! [`Schemas`]: the types of contracts as JSON Schema.

use std::collections::BTreeMap;

use rpc_core::descriptor::{Content, Contract, Definition, Field, Type};
use serde_json::{Map, Value, json};

/// The types with names of all contracts, by their names in the document.
pub(super) struct Schemas {
    components: Map<String, Value>,
    /// The names in the document, by contract and type.
    names: BTreeMap<(String, String), String>,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let problem = json!({
            "type": "object",
            "description": "The body of an error, as in RFC 9457.",
            "properties": {
                "type": { "type": "string" },
                "title": { "type": "string" },
                "status": { "type": "integer" },
                "detail": { "type": "string" },
                "code": { "type": "string" },
                "delivery": { "enum": ["not-executed", "unknown", "answered"] },
                "retryAfterMs": { "type": "integer" },
            },
            "required": ["title", "status", "detail"],
        });
        Self { components: Map::from_iter([(PROBLEM.to_owned(), problem)]), names: BTreeMap::new() }
    }

    pub(super) fn into_components(self) -> Map<String, Value> {
        self.components
    }

    /// Returns the schema of the body of errors.
    pub(super) fn problem() -> Value {
        reference(PROBLEM)
    }

    /// Returns the schema of a type, and adds the definitions to which it refers.
    pub(super) fn of(&mut self, contract: &Contract, ty: &Type) -> Value {
        let integer = |minimum: i64, maximum: i64| json!({ "type": "integer", "minimum": minimum, "maximum": maximum });
        match ty {
            Type::Bool => json!({ "type": "boolean" }),
            Type::I8 => integer(i8::MIN.into(), i8::MAX.into()),
            Type::I16 => integer(i16::MIN.into(), i16::MAX.into()),
            Type::I32 => json!({ "type": "integer", "format": "int32" }),
            Type::I64 => json!({ "type": "integer", "format": "int64" }),
            Type::I128 => json!({ "type": "integer" }),
            Type::U8 => integer(0, u8::MAX.into()),
            Type::U16 => integer(0, u16::MAX.into()),
            Type::U32 => integer(0, u32::MAX.into()),
            Type::U64 | Type::U128 => json!({ "type": "integer", "minimum": 0 }),
            Type::F32 => json!({ "type": "number", "format": "float" }),
            Type::F64 => json!({ "type": "number", "format": "double" }),
            Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Type::String => json!({ "type": "string" }),
            Type::Bytes => json!({ "type": "array", "items": integer(0, u8::MAX.into()) }),
            Type::Unit => json!({ "type": "null" }),
            Type::Option(inner) => json!({ "anyOf": [self.of(contract, inner), { "type": "null" }] }),
            Type::Sequence(element) => json!({ "type": "array", "items": self.of(contract, element) }),
            Type::Array(element, length) => {
                let items = self.of(contract, element);
                json!({ "type": "array", "items": items, "minItems": length, "maxItems": length })
            }
            Type::Tuple(elements) => self.tuple(contract, elements),
            Type::Map(_, value) => {
                json!({ "type": "object", "additionalProperties": self.of(contract, value) })
            }
            Type::Named(name) => self.named(contract, name),
            Type::Opaque(name) => json!({ "description": format!("The type {name}, whose form is not known.") }),
            _ => json!({}),
        }
    }

    /// Returns the schema of an object with these fields.
    pub(super) fn object<'a>(&mut self, contract: &Contract, fields: impl IntoIterator<Item = &'a Field>) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in fields {
            if !field.optional {
                required.push(Value::from(&*field.name));
            }
            properties.insert(field.name.clone(), self.of(contract, &field.ty));
        }
        json!({ "type": "object", "properties": properties, "required": required })
    }

    fn tuple(&mut self, contract: &Contract, elements: &[Type]) -> Value {
        let schemas: Vec<_> = elements.iter().map(|element| self.of(contract, element)).collect();
        let length = elements.len();
        // `prefixItems` must not be empty.
        match length {
            0 => json!({ "type": "array", "maxItems": 0 }),
            _ => json!({ "type": "array", "prefixItems": schemas, "minItems": length, "maxItems": length }),
        }
    }

    fn named(&mut self, contract: &Contract, name: &str) -> Value {
        let key = (format!("{}-{}", contract.name, contract.version), name.to_owned());
        if let Some(known) = self.names.get(&key) {
            return reference(known);
        }
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
        let base: String = format!("{}.{name}", key.0).chars().map(legal).collect();
        let numbered = |number: usize| if number == 1 { base.clone() } else { format!("{base}_{number}") };
        let component = (1..).map(numbered).find(|name| !self.components.contains_key(name)).unwrap_or_default();
        // Recorded before its content, which may refer to itself.
        self.names.insert(key, component.clone());
        self.components.insert(component.clone(), Value::Null);
        let schema = match contract.types.get(name) {
            Some(Definition::Struct(content)) => self.content(contract, content),
            Some(Definition::Enum(variants)) => {
                let is_unit = |content: &Content| matches!(content, Content::Unit);
                if variants.iter().all(|variant| is_unit(&variant.content)) {
                    json!({ "type": "string", "enum": variants.iter().map(|variant| &variant.name).collect::<Vec<_>>() })
                } else {
                    let mut schemas = Vec::new();
                    for variant in variants {
                        schemas.push(match is_unit(&variant.content) {
                            true => json!({ "const": variant.name }),
                            false => json!({
                                "type": "object",
                                "properties": { &variant.name: self.content(contract, &variant.content) },
                                "required": [variant.name],
                                "additionalProperties": false,
                            }),
                        });
                    }
                    json!({ "oneOf": schemas })
                }
            }
            _ => json!({}),
        };
        self.components.insert(component.clone(), schema);
        reference(&component)
    }

    fn content(&mut self, contract: &Contract, content: &Content) -> Value {
        match content {
            Content::Newtype(inner) => self.of(contract, inner),
            Content::Tuple(elements) => self.tuple(contract, elements),
            Content::Fields(fields) => self.object(contract, fields),
            _ => json!({ "type": "null" }),
        }
    }
}

fn reference(component: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{component}") })
}

/// The name of the body of errors. Names of types contain that of their service.
const PROBLEM: &str = "Problem";
