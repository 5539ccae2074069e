//! The text of a `.proto` file.

use std::fmt;

use super::model::{ProtoEnum, ProtoField, ProtoFile, ProtoLabel, ProtoMessage, ProtoMethod, ProtoType};
use crate::names;

impl fmt::Display for ProtoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "syntax = \"proto3\";\n\npackage {};\n", self.package)?;
        let fields = self.messages.iter().flat_map(|message| &message.fields);
        let errors = self.methods.iter().filter_map(|method| method.error.as_ref());
        if fields.map(|field| &field.ty).chain(errors).any(|ty| *ty == ProtoType::Value) {
            writeln!(f, "import \"google/protobuf/struct.proto\";\n")?;
        }
        comment(f, "", &self.docs)?;
        writeln!(f, "service {} {{", self.service)?;
        for method in &self.methods {
            write!(f, "{method}")?;
        }
        writeln!(f, "}}")?;
        self.messages.iter().try_for_each(|message| write!(f, "\n{message}"))?;
        self.enums.iter().try_for_each(|one| write!(f, "\n{one}"))
    }
}

impl fmt::Display for ProtoMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comment(f, "  ", &self.docs)?;
        if let Some(error) = &self.error {
            writeln!(f, "  // Error: {error}")?;
        }
        let stream = |streams| if streams { "stream " } else { "" };
        let (requests, responses) = (stream(self.streams_requests), stream(self.streams_responses));
        let Self { name, request, response, .. } = self;
        writeln!(f, "  rpc {name}({requests}{request}) returns ({responses}{response});")
    }
}

impl fmt::Display for ProtoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fields.is_empty() {
            return writeln!(f, "message {} {{}}", self.name);
        }
        writeln!(f, "message {} {{", self.name)?;
        let indent = if self.oneof.is_some() { "    " } else { "  " };
        if let Some(oneof) = &self.oneof {
            writeln!(f, "  oneof {oneof} {{")?;
        }
        for field in &self.fields {
            writeln!(f, "{indent}{field}")?;
        }
        if self.oneof.is_some() {
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for ProtoField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, wire_name, number, ty, label } = self;
        match label {
            ProtoLabel::Single => write!(f, "{ty} {name} = {number}")?,
            ProtoLabel::Optional => write!(f, "optional {ty} {name} = {number}")?,
            ProtoLabel::Repeated => write!(f, "repeated {ty} {name} = {number}")?,
            ProtoLabel::Map(key) => write!(f, "map<{key}, {ty}> {name} = {number}")?,
        }
        // With it, the JSON of Protocol Buffers has the names of the contract.
        if names::lower_camel(name) != *wire_name {
            write!(f, " [json_name = \"{}\"]", escaped(wire_name))?;
        }
        write!(f, ";")
    }
}

impl fmt::Display for ProtoEnum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "enum {} {{", self.name)?;
        for (name, number) in &self.values {
            writeln!(f, "  {name} = {number};")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for ProtoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Value => "google.protobuf.Value",
            Self::Message(name) | Self::Enum(name) => name,
        })
    }
}

fn comment(f: &mut fmt::Formatter<'_>, indent: &str, docs: &str) -> fmt::Result {
    names::doc_lines(docs).try_for_each(|line| writeln!(f, "{}", format!("{indent}// {line}").trim_end()))
}

/// Escapes a text for a literal of Protocol Buffers.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => "_".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}
