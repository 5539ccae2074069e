//! [`Builder`]: pairs the messages of a `.proto` file with the types of the contract.

use std::collections::HashMap;

use rpc_core::descriptor::{self, Content, Contract, Definition, MethodContract, Type, Variant};
use rpc_schema::{ProtoField, ProtoFile, ProtoLabel, ProtoMethod, ProtoType};

use super::shape::{Count, ErrorMessage, Field, Form, Kind, Message, Method, Presence, Requests};

/// Derives the shapes of the messages of a service.
///
/// The file determines names and numbers, and the contract the form of values in MessagePack.
pub(super) struct Builder<'a> {
    contract: &'a Contract,
    file: &'a ProtoFile,
    /// The indices of the messages and enums of the file, by their names.
    by_name: HashMap<&'a str, usize>,
    /// The messages of the file, and the entries of maps.
    pub(super) messages: Vec<Message>,
    is_built: Vec<bool>,
    /// The names of the variants of each enum of the file.
    pub(super) enums: Vec<Vec<String>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(contract: &'a Contract, file: &'a ProtoFile) -> Self {
        let messages = file.messages.iter().enumerate().map(|(index, message)| (message.name.as_str(), index));
        let enums = file.enums.iter().enumerate().map(|(index, one)| (one.name.as_str(), index));
        Self {
            contract,
            file,
            by_name: messages.chain(enums).collect(),
            messages: vec![Message::default(); file.messages.len()],
            is_built: vec![false; file.messages.len()],
            enums: vec![Vec::new(); file.enums.len()],
        }
    }

    /// Derives the shapes of a method.
    pub(super) fn method(&mut self, proto: &'a ProtoMethod, method: &'a MethodContract) -> Method {
        let request = self.index(&proto.request);
        let request = match &method.caller_items {
            None => {
                self.fields(request, &method.parameters);
                Requests::One(request)
            }
            Some(item) => self.requests(request, method, item),
        };
        let response = self.index(&proto.response);
        match method.items.as_ref().unwrap_or(&method.result) {
            Type::Unit if method.items.is_none() => self.build(response, Form::Nil, |_, _| Vec::new()),
            result => self.wrapper(response, result),
        }
        let error = match (&proto.error, &method.error) {
            (Some(proto), Some(error)) => match self.one(proto, error) {
                Kind::Message(message) => {
                    Some(ErrorMessage { name: format!("{}.{proto}", self.file.package), message })
                }
                _ => None,
            },
            _ => None,
        };
        Method { name: method.name.clone(), proto_name: proto.name.clone(), request, response, error }
    }

    /// Derives the stream of requests: a oneof of the parameters and an item.
    fn requests(&mut self, request: usize, method: &'a MethodContract, item: &'a Type) -> Requests {
        let mut parameters = request;
        self.build(request, Form::Variants, |builder, fields| {
            let [of_parameters, of_item] = fields else { return Vec::new() };
            parameters = builder.message_of(&of_parameters.ty).unwrap_or(request);
            builder.fields(parameters, &method.parameters);
            let (of_parameters, kind) =
                (shape(of_parameters, Kind::Message(parameters)), builder.one(&of_item.ty, item));
            vec![of_parameters, shape(of_item, kind)]
        });
        let item = self.messages[request].fields.get(1).map_or(Kind::Any, |item| item.kind);
        Requests::Stream { parameters, item, has_no_parameters: method.parameters.is_empty() }
    }

    /// Builds the message `index` once. Its type may contain itself.
    fn build(&mut self, index: usize, form: Form, fields: impl FnOnce(&mut Self, &'a [ProtoField]) -> Vec<Field>) {
        if std::mem::replace(&mut self.is_built[index], true) {
            return;
        }
        let file = self.file;
        let fields = fields(self, &file.messages[index].fields);
        self.messages[index] = Message { form, fields };
    }

    fn index(&self, name: &str) -> usize {
        // Every name in the file is that of a message or an enum of the file.
        self.by_name.get(name).copied().unwrap_or_default()
    }

    fn message_of(&self, ty: &ProtoType) -> Option<usize> {
        match ty {
            ProtoType::Message(name) => Some(self.index(name)),
            _ => None,
        }
    }

    fn fields(&mut self, index: usize, fields: &'a [descriptor::Field]) {
        self.build(index, Form::Fields, |builder, protos| {
            let pairs = protos.iter().zip(fields);
            let field = |(proto, field): (&'a ProtoField, &'a descriptor::Field)| Field {
                name: field.name.clone(),
                ..builder.field(proto, &field.ty, field.optional)
            };
            pairs.map(field).collect()
        });
    }

    fn elements(&mut self, index: usize, elements: &'a [Type]) {
        self.build(index, Form::Elements, |builder, protos| {
            protos.iter().zip(elements).map(|(proto, element)| builder.field(proto, element, false)).collect()
        });
    }

    /// Builds a message with a value as its only field.
    fn wrapper(&mut self, index: usize, ty: &'a Type) {
        self.build(index, Form::Value, |builder, protos| {
            protos.iter().take(1).map(|proto| builder.field(proto, ty, false)).collect()
        });
    }

    fn field(&mut self, proto: &'a ProtoField, ty: &'a Type, is_optional: bool) -> Field {
        let presence = if is_optional { Presence::Default } else { Presence::Required };
        let (kind, count, presence) = match self.content_of(ty) {
            Type::Option(inner) => (self.one(&proto.ty, inner), Count::One, Presence::Option),
            Type::Sequence(element) | Type::Array(element, _) if **element != Type::U8 => {
                (self.one(&proto.ty, element), Count::Many, presence)
            }
            Type::Map(key, value) => {
                let entry = self.entry(proto, key, value);
                (Kind::Message(entry), Count::Entries(entry), presence)
            }
            content => (self.one(&proto.ty, content), Count::One, presence),
        };
        Field { name: proto.wire_name.clone(), proto_name: proto.name.clone(), kind, count, presence }
    }

    /// Returns the entry of a map.
    fn entry(&mut self, proto: &'a ProtoField, key: &'a Type, value: &'a Type) -> usize {
        let of_entry = |field: Field| match field {
            Field { count: Count::One, presence: Presence::Required, .. } => {
                Field { presence: Presence::Entry, ..field }
            }
            field => field,
        };
        if let ProtoLabel::Map(key_type) = &proto.label {
            let (key, value) = (self.one(key_type, key), self.one(&proto.ty, value));
            let named = |name: &str, kind| Field {
                name: name.to_owned(),
                proto_name: name.to_owned(),
                kind,
                count: Count::One,
                presence: Presence::Entry,
            };
            self.messages.push(Message { form: Form::Entry, fields: vec![named("key", key), named("value", value)] });
            return self.messages.len() - 1;
        }
        let index = self.message_of(&proto.ty).unwrap_or_default();
        self.build(index, Form::Entry, |builder, protos| {
            let pairs = protos.iter().zip([key, value]);
            pairs.map(|(proto, ty)| of_entry(builder.field(proto, ty, false))).collect()
        });
        index
    }

    /// Returns the kind of one value, which is a message if the value is optional, repeated or a map.
    fn one(&mut self, proto: &'a ProtoType, ty: &'a Type) -> Kind {
        match self.content_of(ty) {
            Type::Bool => Kind::Bool,
            Type::I8 | Type::I16 | Type::I32 => Kind::Int32,
            Type::I64 => Kind::Int64,
            Type::U8 | Type::U16 | Type::U32 => Kind::Uint32,
            Type::U64 => Kind::Uint64,
            Type::I128 => Kind::Int128,
            Type::U128 => Kind::Uint128,
            Type::F32 => Kind::Float,
            Type::F64 => Kind::Double,
            Type::Char => Kind::Char,
            Type::String => Kind::String,
            Type::Bytes => Kind::Bytes,
            Type::Sequence(element) | Type::Array(element, _) if **element == Type::U8 => Kind::Octets,
            content => match (proto, content) {
                (ProtoType::Message(name), content) => {
                    let index = self.index(name);
                    self.content(index, content);
                    Kind::Message(index)
                }
                (ProtoType::Enum(name), Type::Named(of)) => {
                    let index = self.index(name);
                    if let Some(Definition::Enum(variants)) = self.contract.types.get(of) {
                        self.enums[index] = variants.iter().map(|variant| variant.name.clone()).collect();
                    }
                    Kind::Enum(index)
                }
                _ => Kind::Any,
            },
        }
    }

    /// Builds the message of a value.
    fn content(&mut self, index: usize, ty: &'a Type) {
        match ty {
            Type::Unit => self.build(index, Form::Nil, |_, _| Vec::new()),
            Type::Tuple(elements) => self.elements(index, elements),
            Type::Named(name) => match self.contract.types.get(name) {
                Some(Definition::Struct(content)) => self.structure(index, content),
                Some(Definition::Enum(variants)) => self.build(index, Form::Variants, |builder, protos| {
                    let pairs = protos.iter().zip(variants);
                    pairs.map(|(proto, variant)| builder.variant(proto, variant)).collect()
                }),
                _ => self.build(index, Form::Nil, |_, _| Vec::new()),
            },
            // An option, a sequence or a map inside of another container.
            ty => self.wrapper(index, ty),
        }
    }

    fn structure(&mut self, index: usize, content: &'a Content) {
        match content {
            Content::Newtype(inner) => self.wrapper(index, inner),
            Content::Tuple(elements) => self.elements(index, elements),
            Content::Fields(fields) => self.fields(index, fields),
            _ => self.build(index, Form::Empty, |_, _| Vec::new()),
        }
    }

    fn variant(&mut self, proto: &'a ProtoField, variant: &'a Variant) -> Field {
        let field = match &variant.content {
            Content::Unit => {
                let index = self.message_of(&proto.ty).unwrap_or_default();
                self.build(index, Form::Nil, |_, _| Vec::new());
                Field { presence: Presence::UnitVariant, ..shape(proto, Kind::Message(index)) }
            }
            Content::Newtype(inner) => {
                let kind = self.one(&proto.ty, inner);
                shape(proto, kind)
            }
            content => {
                let index = self.message_of(&proto.ty).unwrap_or_default();
                self.structure(index, content);
                shape(proto, Kind::Message(index))
            }
        };
        Field { name: variant.name.clone(), ..field }
    }

    /// Returns the content of newtypes that have no message of their own, or the type itself.
    fn content_of(&self, ty: &'a Type) -> &'a Type {
        let mut content = ty;
        while let Type::Named(name) = content
            && !self.file.types.contains_key(name)
            && let Some(Definition::Struct(Content::Newtype(inner))) = self.contract.types.get(name)
        {
            content = inner;
        }
        content
    }
}

/// Returns a field that is a variant.
fn shape(proto: &ProtoField, kind: Kind) -> Field {
    let (name, proto_name) = (proto.wire_name.clone(), proto.name.clone());
    Field { name, proto_name, kind, count: Count::One, presence: Presence::Variant }
}
