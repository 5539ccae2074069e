//! Types as JSON Schema, in the form that serde_json writes.

use rpc_core::descriptor::{Content, Contract, Definition, Field, Type, Variant};
use serde_json::{Map, Value, json};

/// Converts the types of one contract.
pub(crate) struct Schemas<'a> {
    contract: &'a Contract,
    /// The part of the names before that of a type.
    prefix: String,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(contract: &'a Contract) -> Self {
        Self { contract, prefix: format!("{}-{}", contract.name, contract.version) }
    }

    /// Returns the schemas of the types with a name.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = (String, Value)> {
        self.contract.types.iter().map(|(name, definition)| (self.name(name), self.definition(definition)))
    }

    /// Returns the schema of an object with these fields.
    pub(crate) fn object(&self, fields: &[Field]) -> Value {
        let properties: Map<_, _> = fields.iter().map(|field| (field.name.clone(), self.schema(&field.ty))).collect();
        let required: Vec<_> = fields.iter().filter(|field| !field.optional).map(|field| &field.name).collect();
        let mut object = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        object
    }

    /// Returns the schema of a value.
    pub(crate) fn schema(&self, ty: &Type) -> Value {
        match ty {
            Type::Bool => json!({ "type": "boolean" }),
            Type::I8 | Type::I16 | Type::I32 => json!({ "type": "integer", "format": "int32" }),
            Type::I64 => json!({ "type": "integer", "format": "int64" }),
            Type::I128 => json!({ "type": "integer" }),
            Type::U8 => json!({ "type": "integer", "minimum": 0, "maximum": u8::MAX }),
            Type::U16 => json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX }),
            Type::U32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Type::U64 => json!({ "type": "integer", "format": "uint64", "minimum": 0 }),
            Type::U128 => json!({ "type": "integer", "minimum": 0 }),
            Type::F32 => json!({ "type": "number", "format": "float" }),
            Type::F64 => json!({ "type": "number", "format": "double" }),
            Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Type::String => json!({ "type": "string" }),
            Type::Bytes => json!({ "type": "array", "items": self.schema(&Type::U8) }),
            Type::Unit => json!({ "type": "null" }),
            Type::Option(inner) => json!({ "anyOf": [self.schema(inner), { "type": "null" }] }),
            Type::Sequence(element) => json!({ "type": "array", "items": self.schema(element) }),
            Type::Array(element, length) => {
                json!({ "type": "array", "items": self.schema(element), "minItems": length, "maxItems": length })
            }
            Type::Tuple(elements) => self.tuple(elements),
            Type::Map(_, value) => json!({ "type": "object", "additionalProperties": self.schema(value) }),
            Type::Named(name) if self.contract.types.contains_key(name) => {
                json!({ "$ref": format!("#/components/schemas/{}", self.name(name)) })
            }
            // A type whose form the contract does not describe.
            Type::Named(name) | Type::Opaque(name) => json!({ "description": name }),
            _ => json!({}),
        }
    }

    fn definition(&self, definition: &Definition) -> Value {
        match definition {
            Definition::Struct(content) => self.content(content),
            Definition::Enum(variants) if variants.iter().all(|variant| matches!(variant.content, Content::Unit)) => {
                let names: Vec<_> = variants.iter().map(|variant| &variant.name).collect();
                json!({ "type": "string", "enum": names })
            }
            Definition::Enum(variants) => {
                json!({ "oneOf": variants.iter().map(|variant| self.variant(variant)).collect::<Vec<_>>() })
            }
            _ => json!({}),
        }
    }

    fn variant(&self, variant: &Variant) -> Value {
        let name = &variant.name;
        match &variant.content {
            Content::Unit => json!({ "type": "string", "const": name }),
            content => json!({
                "type": "object", "properties": { name: self.content(content) }, "required": [name],
                "additionalProperties": false,
            }),
        }
    }

    fn content(&self, content: &Content) -> Value {
        match content {
            Content::Newtype(inner) => self.schema(inner),
            Content::Tuple(elements) => self.tuple(elements),
            Content::Fields(fields) => self.object(fields),
            _ => json!({ "type": "null" }),
        }
    }

    fn tuple(&self, elements: &[Type]) -> Value {
        let schemas: Vec<_> = elements.iter().map(|element| self.schema(element)).collect();
        let length = elements.len();
        json!({ "type": "array", "prefixItems": schemas, "items": false, "minItems": length, "maxItems": length })
    }

    /// Returns the name of a schema, which has the characters that OpenAPI permits.
    fn name(&self, ty: &str) -> String {
        let name = format!("{}.{ty}", self.prefix);
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
    }
}
