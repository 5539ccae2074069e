//! The files of gRPC's own services, and of `google.protobuf.Value`.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MessageOptions, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::schema::VALUE_FILE;

/// The name of the service of health checks.
pub(super) const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
/// The names of the services of server reflection.
pub(super) const REFLECTION_SERVICES: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// Returns `google/protobuf/struct.proto`.
pub(super) fn value() -> FileDescriptorProto {
    let package = "google.protobuf";
    let mut fields = message("Struct", &[("fields", 1, many(named(".google.protobuf.Struct.FieldsEntry")))]);
    let entry = [("key", 1, Kind::Text), ("value", 2, named(".google.protobuf.Value"))];
    let options = MessageOptions { map_entry: Some(true), ..Default::default() };
    fields.nested_type.push(DescriptorProto { options: Some(options), ..message("FieldsEntry", &entry) });
    let kinds = [
        ("null_value", 1, Kind::Enum(".google.protobuf.NullValue")),
        ("number_value", 2, Kind::Double),
        ("string_value", 3, Kind::Text),
        ("bool_value", 4, Kind::Bool),
        ("struct_value", 5, named(".google.protobuf.Struct")),
        ("list_value", 6, named(".google.protobuf.ListValue")),
    ];
    FileDescriptorProto {
        name: Some(VALUE_FILE.to_owned()),
        message_type: vec![
            fields,
            oneof(message("Value", &kinds), "kind", 0),
            message("ListValue", &[("values", 1, many(named(".google.protobuf.Value")))]),
        ],
        enum_type: vec![enumeration("NullValue", &["NULL_VALUE"])],
        ..file(package, Vec::new())
    }
}

/// Returns the files of gRPC's own services.
pub(super) fn services() -> Vec<FileDescriptorProto> {
    let [v1, v1alpha] = REFLECTION_SERVICES;
    vec![health_file(), reflection_file(v1), reflection_file(v1alpha)]
}

fn health_file() -> FileDescriptorProto {
    let (package, service) = HEALTH_SERVICE.rsplit_once('.').unwrap_or_default();
    let status = Kind::Enum(".grpc.health.v1.HealthCheckResponse.ServingStatus");
    let mut response = message("HealthCheckResponse", &[("status", 1, status)]);
    response.enum_type.push(enumeration("ServingStatus", &["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]));
    let messages = vec![message("HealthCheckRequest", &[("service", 1, Kind::Text)]), response];
    let method = |name: &str, streams| {
        method(name, ".grpc.health.v1.HealthCheckRequest", ".grpc.health.v1.HealthCheckResponse", (false, streams))
    };
    let methods = vec![method("Check", false), method("Watch", true)];
    FileDescriptorProto {
        name: Some("grpc/health/v1/health.proto".to_owned()),
        service: vec![ServiceDescriptorProto { name: Some(service.to_owned()), method: methods, options: None }],
        ..file(package, messages)
    }
}

fn reflection_file(full_name: &str) -> FileDescriptorProto {
    let (package, service) = full_name.rsplit_once('.').unwrap_or_default();
    let own = |name: &str| Kind::Message(format!(".{package}.{name}"));
    let request = [
        ("host", 1, Kind::Text),
        ("file_by_filename", 3, Kind::Text),
        ("file_containing_symbol", 4, Kind::Text),
        ("file_containing_extension", 5, own("ExtensionRequest")),
        ("all_extension_numbers_of_type", 6, Kind::Text),
        ("list_services", 7, Kind::Text),
    ];
    let response = [
        ("valid_host", 1, Kind::Text),
        ("original_request", 2, own("ServerReflectionRequest")),
        ("file_descriptor_response", 4, own("FileDescriptorResponse")),
        ("all_extension_numbers_response", 5, own("ExtensionNumberResponse")),
        ("list_services_response", 6, own("ListServiceResponse")),
        ("error_response", 7, own("ErrorResponse")),
    ];
    let messages = vec![
        oneof(message("ServerReflectionRequest", &request), "message_request", 1),
        message("ExtensionRequest", &[("containing_type", 1, Kind::Text), ("extension_number", 2, Kind::Int)]),
        oneof(message("ServerReflectionResponse", &response), "message_response", 2),
        message("FileDescriptorResponse", &[("file_descriptor_proto", 1, many(Kind::Bytes))]),
        message(
            "ExtensionNumberResponse",
            &[("base_type_name", 1, Kind::Text), ("extension_number", 2, many(Kind::Int))],
        ),
        message("ListServiceResponse", &[("service", 1, many(own("ServiceResponse")))]),
        message("ServiceResponse", &[("name", 1, Kind::Text)]),
        message("ErrorResponse", &[("error_code", 1, Kind::Int), ("error_message", 2, Kind::Text)]),
    ];
    let (input, output) =
        (format!(".{package}.ServerReflectionRequest"), format!(".{package}.ServerReflectionResponse"));
    let methods = vec![method("ServerReflectionInfo", &input, &output, (true, true))];
    FileDescriptorProto {
        name: Some(format!("{}/reflection.proto", package.replace('.', "/"))),
        service: vec![ServiceDescriptorProto { name: Some(service.to_owned()), method: methods, options: None }],
        ..file(package, messages)
    }
}

/// The kind of a field.
enum Kind {
    Bool,
    Int,
    Double,
    Text,
    Bytes,
    Enum(&'static str),
    Message(String),
    Many(Box<Kind>),
}

fn many(kind: Kind) -> Kind {
    Kind::Many(Box::new(kind))
}

fn named(name: &str) -> Kind {
    Kind::Message(name.to_owned())
}

fn file(package: &str, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        package: Some(package.to_owned()),
        message_type: messages,
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn message(name: &str, fields: &[(&str, i32, Kind)]) -> DescriptorProto {
    let field = fields.iter().map(|(name, number, kind)| field(name, *number, kind)).collect();
    DescriptorProto { name: Some(name.to_owned()), field, ..Default::default() }
}

fn field(name: &str, number: i32, kind: &Kind) -> FieldDescriptorProto {
    let (label, kind) = match kind {
        Kind::Many(kind) => (Label::Repeated, &**kind),
        kind => (Label::Optional, kind),
    };
    let (ty, type_name) = match kind {
        Kind::Bool => (Type::Bool, None),
        Kind::Int => (Type::Int32, None),
        Kind::Double => (Type::Double, None),
        Kind::Text => (Type::String, None),
        Kind::Bytes => (Type::Bytes, None),
        Kind::Enum(name) => (Type::Enum, Some((*name).to_owned())),
        Kind::Message(name) => (Type::Message, Some(name.clone())),
        // The fields of these files have no lists of lists.
        Kind::Many(_) => (Type::Message, None),
    };
    let mut field =
        FieldDescriptorProto { name: Some(name.to_owned()), number: Some(number), type_name, ..Default::default() };
    field.set_type(ty);
    field.set_label(label);
    field
}

/// Puts the fields from `first` on into a oneof.
fn oneof(mut message: DescriptorProto, name: &str, first: usize) -> DescriptorProto {
    message.oneof_decl.push(OneofDescriptorProto { name: Some(name.to_owned()), options: None });
    message.field.iter_mut().skip(first).for_each(|field| field.oneof_index = Some(0));
    message
}

fn enumeration(name: &str, values: &[&str]) -> EnumDescriptorProto {
    let value = |(number, name): (i32, &&str)| EnumValueDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(number),
        options: None,
    };
    EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: (0..).zip(values).map(value).collect(),
        ..Default::default()
    }
}

fn method(name: &str, input: &str, output: &str, (sends, returns): (bool, bool)) -> MethodDescriptorProto {
    MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(input.to_owned()),
        output_type: Some(output.to_owned()),
        client_streaming: sends.then_some(true),
        server_streaming: returns.then_some(true),
        ..Default::default()
    }
}
