//! The description of a service in protobuf's own terms, a `FileDescriptorProto`.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MessageOptions, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use rpc_schema::{ProtoEnum, ProtoField, ProtoFile, ProtoLabel, ProtoMessage, ProtoMethod, ProtoType};

/// Returns the description of a file.
pub(super) fn file(file: &ProtoFile) -> FileDescriptorProto {
    let method = |method: &ProtoMethod| MethodDescriptorProto {
        name: Some(method.name.clone()),
        input_type: Some(full_name(file, &method.request)),
        output_type: Some(full_name(file, &method.response)),
        client_streaming: method.streams_requests.then_some(true),
        server_streaming: method.streams_responses.then_some(true),
        ..Default::default()
    };
    FileDescriptorProto {
        name: Some(format!("{}.proto", file.package.replace('.', "/"))),
        package: Some(file.package.clone()),
        // Unused imports are permitted, and the reflection has the file.
        dependency: vec![VALUE_FILE.to_owned()],
        message_type: file.messages.iter().map(|one| message(file, one)).collect(),
        enum_type: file.enums.iter().map(enumeration).collect(),
        service: vec![ServiceDescriptorProto {
            name: Some(file.service.clone()),
            method: file.methods.iter().map(method).collect(),
            options: None,
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn full_name(file: &ProtoFile, name: &str) -> String {
    format!(".{}.{name}", file.package)
}

fn message(file: &ProtoFile, message: &ProtoMessage) -> DescriptorProto {
    let mut described = DescriptorProto { name: Some(message.name.clone()), ..Default::default() };
    described.oneof_decl.extend(message.oneof.as_deref().map(oneof));
    for one in &message.fields {
        let mut described_field = field(file, &one.name, number(one), &one.ty);
        described_field.json_name = Some(one.wire_name.clone());
        match &one.label {
            _ if message.oneof.is_some() => described_field.oneof_index = Some(0),
            ProtoLabel::Optional => {
                described_field.proto3_optional = Some(true);
                described_field.oneof_index = i32::try_from(described.oneof_decl.len()).ok();
                described.oneof_decl.push(oneof(&format!("_{}", one.name)));
            }
            ProtoLabel::Repeated => described_field.set_label(Label::Repeated),
            ProtoLabel::Map(key) => {
                let entry = format!("{}Entry", entry_name(&one.name));
                described_field.set_label(Label::Repeated);
                described_field.set_type(Type::Message);
                described_field.type_name = Some(full_name(file, &format!("{}.{entry}", message.name)));
                described.nested_type.push(DescriptorProto {
                    name: Some(entry),
                    field: vec![field(file, "key", 1, key), field(file, "value", 2, &one.ty)],
                    options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
                    ..Default::default()
                });
            }
            _ => {}
        }
        described.field.push(described_field);
    }
    described
}

fn field(file: &ProtoFile, name: &str, number: i32, ty: &ProtoType) -> FieldDescriptorProto {
    let (kind, type_name) = match ty {
        ProtoType::Bool => (Type::Bool, None),
        ProtoType::Int32 => (Type::Int32, None),
        ProtoType::Int64 => (Type::Int64, None),
        ProtoType::Uint32 => (Type::Uint32, None),
        ProtoType::Uint64 => (Type::Uint64, None),
        ProtoType::Float => (Type::Float, None),
        ProtoType::Double => (Type::Double, None),
        ProtoType::String => (Type::String, None),
        ProtoType::Bytes => (Type::Bytes, None),
        ProtoType::Message(name) => (Type::Message, Some(full_name(file, name))),
        ProtoType::Enum(name) => (Type::Enum, Some(full_name(file, name))),
        _ => (Type::Message, Some(".google.protobuf.Value".to_owned())),
    };
    let mut field =
        FieldDescriptorProto { name: Some(name.to_owned()), number: Some(number), type_name, ..Default::default() };
    field.json_name = Some(name.to_owned());
    field.set_type(kind);
    field.set_label(Label::Optional);
    field
}

fn number(field: &ProtoField) -> i32 {
    i32::try_from(field.number).unwrap_or(i32::MAX)
}

fn oneof(name: &str) -> OneofDescriptorProto {
    OneofDescriptorProto { name: Some(name.to_owned()), options: None }
}

fn enumeration(of: &ProtoEnum) -> EnumDescriptorProto {
    let value = |(name, number): &(String, u32)| EnumValueDescriptorProto {
        name: Some(name.clone()),
        number: i32::try_from(*number).ok(),
        options: None,
    };
    let value = of.values.iter().map(value).collect();
    EnumDescriptorProto { name: Some(of.name.clone()), value, ..Default::default() }
}

/// Returns the name of the entry of a map field as protoc does: in camel case without underscores.
fn entry_name(field: &str) -> String {
    let mut name = String::new();
    let mut is_first = true;
    for character in field.chars() {
        match character {
            '_' => is_first = true,
            character if is_first => {
                name.push(character.to_ascii_uppercase());
                is_first = false;
            }
            character => name.push(character),
        }
    }
    name
}

/// The file of `google.protobuf.Value`.
pub(crate) const VALUE_FILE: &str = "google/protobuf/struct.proto";
