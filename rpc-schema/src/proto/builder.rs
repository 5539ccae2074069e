//! [`Builder`]: converts a contract.

use std::collections::{BTreeMap, BTreeSet};

use rpc_core::descriptor::{Content, Contract, Definition, Field, Form, MethodContract, Type, Variant};

use super::{
    model::{ProtoEnum, ProtoField, ProtoFile, ProtoLabel, ProtoMessage, ProtoMethod, ProtoType},
    newtypes,
};
use crate::names::{self, Names};

pub(super) struct Builder<'a> {
    contract: &'a Contract,
    names: Names,
    /// The names of the messages and enums of the contract's types.
    types: BTreeMap<&'a str, String>,
    newtype_messages: BTreeSet<&'a str>,
    messages: Vec<ProtoMessage>,
    enums: Vec<ProtoEnum>,
    /// The name of the empty message, if a value has it.
    unit: Option<String>,
}

/// How a value is a field.
struct Shape {
    ty: ProtoType,
    label: ProtoLabel,
}

impl Shape {
    fn single(ty: ProtoType) -> Self {
        Self { ty, label: ProtoLabel::Single }
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(contract: &'a Contract) -> Self {
        Self {
            contract,
            names: Names::default(),
            types: BTreeMap::new(),
            newtype_messages: newtypes::newtype_messages(contract),
            messages: Vec::new(),
            enums: Vec::new(),
            unit: None,
        }
    }

    pub(super) fn file(mut self) -> ProtoFile {
        let service = self.names.unique(&names::service(&self.contract.name));
        // The methods come first, so that the names of their messages depend on nothing else.
        let mut methods = Names::default();
        let named: Vec<_> = self
            .contract
            .methods
            .iter()
            .map(|method| {
                let name = methods.unique(&names::upper_camel(&method.name));
                let request = self.names.unique(&format!("{name}Request"));
                let response = self.names.unique(&format!("{name}Response"));
                (method, name, request, response)
            })
            .collect();
        for name in self.contract.types.keys() {
            if self.is_message(name) {
                let unique = self.names.unique(&names::upper_camel(name));
                self.types.insert(name, unique);
            }
        }
        let methods =
            named.into_iter().map(|(method, name, request, response)| self.method(method, name, request, response));
        let methods = methods.collect();
        for (name, unique) in self.types.clone() {
            self.definition(name, unique);
        }
        ProtoFile {
            package: self.package(),
            service,
            docs: self.contract.docs.clone(),
            methods,
            messages: self.messages,
            enums: self.enums,
            types: self.types.into_iter().map(|(name, message)| (name.to_owned(), message)).collect(),
        }
    }

    fn package(&self) -> String {
        let parts = self.contract.name.split('.').map(|part| names::identifier(part).to_lowercase());
        let version: String =
            self.contract.version.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        parts.chain([format!("v{version}")]).collect::<Vec<_>>().join(".")
    }

    /// Returns whether a type is a message or an enum, and not its content.
    fn is_message(&self, name: &str) -> bool {
        newtypes::content(self.contract, name).is_none() || self.newtype_messages.contains(name)
    }

    fn method(&mut self, method: &'a MethodContract, name: String, request: String, response: String) -> ProtoMethod {
        let parameters = self.fields(&name, &method.parameters);
        match &method.caller_items {
            None => self.add(request.clone(), parameters, None),
            Some(items) => {
                let arguments = self.names.unique(&format!("{name}Arguments"));
                self.add(arguments.clone(), parameters, None);
                let item = self.one(&format!("{name}Item"), items);
                let parts = vec![
                    field("arguments", 1, Shape::single(ProtoType::Message(arguments))),
                    field("item", 2, Shape::single(item)),
                ];
                self.add(request.clone(), parts, Some("part".to_owned()));
            }
        }
        let value = method.items.as_ref().unwrap_or(&method.result);
        let fields = match value {
            Type::Unit if method.items.is_none() => Vec::new(),
            value => vec![field("value", 1, self.shape(&format!("{name}Value"), value))],
        };
        self.add(response.clone(), fields, None);
        let error = method.error.as_ref().map(|error| self.one(&format!("{name}Error"), error));
        ProtoMethod {
            wire_name: method.name.clone(),
            docs: method.docs.clone(),
            request,
            streams_requests: matches!(method.form, Form::CallerStream | Form::Streams),
            response,
            streams_responses: matches!(method.form, Form::CalleeStream | Form::Streams),
            error,
            name,
        }
    }

    fn definition(&mut self, name: &'a str, unique: String) {
        match self.contract.types.get(name) {
            Some(Definition::Struct(content)) => {
                let fields = self.content(&unique, content);
                self.add(unique, fields, None);
            }
            Some(Definition::Enum(variants)) if variants.iter().all(|v| matches!(v.content, Content::Unit)) => {
                self.plain_enum(unique, variants);
            }
            Some(Definition::Enum(variants)) => {
                let mut fields = Names::default();
                let variants = variants.iter().enumerate().map(|(position, variant)| {
                    let name = fields.unique(&names::upper_snake(&variant.name).to_lowercase());
                    let context = format!("{unique}{}", names::upper_camel(&variant.name));
                    let ty = match &variant.content {
                        Content::Unit => self.unit(),
                        Content::Newtype(inner) => self.one(&context, inner),
                        content => {
                            let message = self.names.unique(&context);
                            let fields = self.content(&message, content);
                            self.add(message.clone(), fields, None);
                            ProtoType::Message(message)
                        }
                    };
                    ProtoField {
                        wire_name: variant.name.clone(),
                        name,
                        number: number(position),
                        ty,
                        label: ProtoLabel::Single,
                    }
                });
                let variants = variants.collect();
                self.add(unique, variants, Some("variant".to_owned()));
            }
            // A later version of msnb may describe further definitions.
            _ => self.add(unique, Vec::new(), None),
        }
    }

    fn plain_enum(&mut self, name: String, variants: &[Variant]) {
        let prefix = names::upper_snake(&name);
        let mut values = Names::default();
        let none = (values.unique(&format!("{prefix}_UNSPECIFIED")), 0);
        let variants = variants.iter().enumerate().map(|(position, variant)| {
            let value = format!("{prefix}_{}", names::upper_snake(&variant.name));
            (values.unique(&value), number(position))
        });
        let values = std::iter::once(none).chain(variants).collect();
        self.enums.push(ProtoEnum { name, values });
    }

    fn content(&mut self, context: &str, content: &'a Content) -> Vec<ProtoField> {
        match content {
            Content::Newtype(inner) => vec![field("value", 1, self.shape(&format!("{context}Value"), inner))],
            Content::Tuple(elements) => self.elements(context, elements),
            Content::Fields(fields) => self.fields(context, fields),
            _ => Vec::new(),
        }
    }

    fn fields(&mut self, context: &str, fields: &'a [Field]) -> Vec<ProtoField> {
        let mut unique = Names::default();
        let fields = fields.iter().enumerate().map(|(position, one)| {
            let name = unique.unique(&names::identifier(&one.name));
            let mut shape = self.shape(&format!("{context}{}", names::upper_camel(&one.name)), &one.ty);
            if one.optional && shape.label == ProtoLabel::Single {
                shape.label = ProtoLabel::Optional;
            }
            ProtoField { wire_name: one.name.clone(), ..field(&name, number(position), shape) }
        });
        fields.collect()
    }

    fn elements(&mut self, context: &str, elements: &'a [Type]) -> Vec<ProtoField> {
        let elements = elements.iter().enumerate().map(|(position, ty)| {
            let shape = self.shape(&format!("{context}Field{position}"), ty);
            field(&format!("field_{position}"), number(position), shape)
        });
        elements.collect()
    }

    /// Returns how a value is a field. `context` names the messages that it needs.
    fn shape(&mut self, context: &str, ty: &'a Type) -> Shape {
        let scalar = match ty {
            Type::Bool => ProtoType::Bool,
            Type::I8 | Type::I16 | Type::I32 => ProtoType::Int32,
            Type::I64 => ProtoType::Int64,
            Type::U8 | Type::U16 | Type::U32 => ProtoType::Uint32,
            Type::U64 => ProtoType::Uint64,
            Type::I128 | Type::U128 | Type::Char | Type::String => ProtoType::String,
            Type::F32 => ProtoType::Float,
            Type::F64 => ProtoType::Double,
            Type::Bytes => ProtoType::Bytes,
            Type::Sequence(element) | Type::Array(element, _) if **element == Type::U8 => ProtoType::Bytes,
            Type::Unit => self.unit(),
            Type::Option(inner) => {
                return Shape { ty: self.one(&format!("{context}Some"), inner), label: ProtoLabel::Optional };
            }
            Type::Sequence(element) | Type::Array(element, _) => {
                return Shape { ty: self.one(&format!("{context}Item"), element), label: ProtoLabel::Repeated };
            }
            Type::Map(key, value) => return self.map(context, key, value),
            Type::Tuple(elements) => {
                let name = self.names.unique(context);
                let fields = self.elements(&name, elements);
                self.add(name.clone(), fields, None);
                ProtoType::Message(name)
            }
            Type::Named(name) => return self.named(context, name),
            // An opaque type, or one of a later version of msnb.
            _ => ProtoType::Value,
        };
        Shape::single(scalar)
    }

    fn named(&mut self, context: &str, name: &'a str) -> Shape {
        let Some(unique) = self.types.get(name) else {
            return match newtypes::content(self.contract, name) {
                Some(inner) => self.shape(context, inner),
                // The contract lacks the definition.
                None => Shape::single(ProtoType::Value),
            };
        };
        let is_enum = matches!(self.contract.types.get(name), Some(Definition::Enum(variants))
            if variants.iter().all(|variant| matches!(variant.content, Content::Unit)));
        let unique = unique.clone();
        Shape::single(if is_enum { ProtoType::Enum(unique) } else { ProtoType::Message(unique) })
    }

    fn map(&mut self, context: &str, key: &'a Type, value: &'a Type) -> Shape {
        let is_key = |ty: &ProtoType| {
            !matches!(
                ty,
                ProtoType::Float
                    | ProtoType::Double
                    | ProtoType::Bytes
                    | ProtoType::Value
                    | ProtoType::Message(_)
                    | ProtoType::Enum(_)
            )
        };
        let key = self.one(&format!("{context}Key"), key);
        if is_key(&key) {
            return Shape { ty: self.one(&format!("{context}Value"), value), label: ProtoLabel::Map(key) };
        }
        let name = self.names.unique(&format!("{context}Entry"));
        let value = self.shape(&format!("{name}Value"), value);
        let fields = vec![field("key", 1, Shape::single(key)), field("value", 2, value)];
        self.add(name.clone(), fields, None);
        Shape { ty: ProtoType::Message(name), label: ProtoLabel::Repeated }
    }

    /// Returns the type of one value, which is a message if the value is optional, repeated or a map.
    fn one(&mut self, context: &str, ty: &'a Type) -> ProtoType {
        let shape = self.shape(context, ty);
        if shape.label == ProtoLabel::Single {
            return shape.ty;
        }
        let name = self.names.unique(context);
        self.add(name.clone(), vec![field("value", 1, shape)], None);
        ProtoType::Message(name)
    }

    /// Returns the empty message.
    fn unit(&mut self) -> ProtoType {
        if self.unit.is_none() {
            let name = self.names.unique("Unit");
            self.add(name.clone(), Vec::new(), None);
            self.unit = Some(name);
        }
        ProtoType::Message(self.unit.clone().unwrap_or_default())
    }

    fn add(&mut self, name: String, fields: Vec<ProtoField>, oneof: Option<String>) {
        // A oneof has at least one field.
        let oneof = oneof.filter(|_| !fields.is_empty());
        self.messages.push(ProtoMessage { name, fields, oneof });
    }
}

fn field(name: &str, number: u32, Shape { ty, label }: Shape) -> ProtoField {
    ProtoField { name: name.to_owned(), wire_name: names::lower_camel(name), number, ty, label }
}

/// Returns the number of the field at a position, without the numbers that Protocol Buffers reserve.
fn number(position: usize) -> u32 {
    let number = u32::try_from(position).unwrap_or(u32::MAX - 1).saturating_add(1);
    if number < RESERVED.0 { number } else { number.saturating_add(RESERVED.1) }
}

/// The first number that Protocol Buffers reserve, and how many.
const RESERVED: (u32, u32) = (19_000, 1000);
