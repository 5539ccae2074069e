//! [`typescript`]: the types and the interfaces of services in TypeScript.

use rpc_core::descriptor::{Content, Contract, Definition, Field, Form, MethodContract, Type, Variant};
use serde_json::json;

use crate::names::{self, Names};

/// Returns the types and the interfaces of services in TypeScript, in the form that JSON has.
///
/// Each service is a namespace, such as `GreeterV1_0`, with an interface of its methods. A method takes its parameters in
/// their order, and returns a promise of its result; streams are `AsyncIterable`. Integers of more than 53 bits are
/// `number`, as in the JSON of JavaScript, and lose precision beyond 2^53.
pub fn typescript(contracts: &[Contract]) -> String {
    let mut namespaces = Names::default();
    let mut text = String::new();
    for (index, contract) in contracts.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let version = names::identifier(&format!("V{}", contract.version));
        let namespace = namespaces.unique(&format!("{}{version}", names::service(&contract.name)));
        text += &Writer::new(contract).namespace(&namespace);
    }
    text
}

struct Writer<'a> {
    contract: &'a Contract,
    /// The names of the types of the contract.
    types: Vec<(&'a str, String)>,
    interface: String,
}

impl<'a> Writer<'a> {
    fn new(contract: &'a Contract) -> Self {
        let mut names = Names::default();
        let interface = names.unique(&names::service(&contract.name));
        let types = contract.types.keys().map(|name| (name.as_str(), names.unique(&names::upper_camel(name))));
        Self { contract, types: types.collect(), interface }
    }

    fn namespace(&self, namespace: &str) -> String {
        let Contract { name, version, .. } = self.contract;
        let mut text = format!("export namespace {namespace} {{\n");
        text += &format!(
            "  /** The name of the service in routes. */\n  export const service = {};\n\n",
            json!(format!("{name}:{version}"))
        );
        docs(&mut text, "  ", &self.contract.docs);
        text += &format!("  export interface {} {{\n", self.interface);
        for method in &self.contract.methods {
            self.method(&mut text, method);
        }
        text += "  }\n";
        for (name, unique) in &self.types {
            if let Some(definition) = self.contract.types.get(*name) {
                text += &format!("\n  export type {unique} = {};\n", self.definition(definition));
            }
        }
        text + "}\n"
    }

    fn method(&self, text: &mut String, method: &MethodContract) {
        docs(text, "    ", &method.docs);
        if let Some(error) = &method.error {
            *text += &format!("    /** @throws {} */\n", self.ty(error).replace("*/", "* /"));
        }
        let mut used = Names::default();
        let last_required = method.parameters.iter().rposition(|field| !field.optional).map_or(0, |at| at + 1);
        let mut parameters: Vec<_> = method
            .parameters
            .iter()
            .enumerate()
            .map(|(position, field)| {
                // Only parameters behind all required ones can be omitted.
                let omitted = field.optional && position >= last_required && method.caller_items.is_none();
                let mark = if omitted { "?" } else { "" };
                format!("{}{mark}: {}", used.unique(&parameter(&field.name)), self.ty(&field.ty))
            })
            .collect();
        if let Some(items) = &method.caller_items {
            parameters.push(format!("{}: AsyncIterable<{}>", used.unique("items"), self.ty(items)));
        }
        let result = match (&method.items, method.form) {
            (Some(items), _) => format!("AsyncIterable<{}>", self.ty(items)),
            (None, Form::OneWay) => "Promise<void>".to_owned(),
            (None, _) if method.result == Type::Unit => "Promise<void>".to_owned(),
            (None, _) => format!("Promise<{}>", self.ty(&method.result)),
        };
        *text += &format!("    {}({}): {result};\n", key(&method.name), parameters.join(", "));
    }

    fn definition(&self, definition: &Definition) -> String {
        match definition {
            Definition::Struct(content) => self.content(content),
            Definition::Enum(variants) if variants.is_empty() => "never".to_owned(),
            Definition::Enum(variants) => {
                variants.iter().map(|variant| self.variant(variant)).collect::<Vec<_>>().join(" | ")
            }
            _ => "unknown".to_owned(),
        }
    }

    fn variant(&self, Variant { name, content, .. }: &Variant) -> String {
        match content {
            Content::Unit => json!(name).to_string(),
            content => format!("{{ {}: {} }}", key(name), self.content(content)),
        }
    }

    fn content(&self, content: &Content) -> String {
        match content {
            Content::Newtype(inner) => self.ty(inner),
            Content::Tuple(elements) => self.tuple(elements),
            Content::Fields(fields) if fields.is_empty() => "Record<string, never>".to_owned(),
            Content::Fields(fields) => {
                let fields: Vec<_> = fields.iter().map(|field| self.field(field)).collect();
                format!("{{ {} }}", fields.join("; "))
            }
            _ => "null".to_owned(),
        }
    }

    fn field(&self, field: &Field) -> String {
        let mark = if field.optional { "?" } else { "" };
        format!("{}{mark}: {}", key(&field.name), self.ty(&field.ty))
    }

    fn ty(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => "boolean".to_owned(),
            Type::Char | Type::String => "string".to_owned(),
            Type::Bytes => "number[]".to_owned(),
            Type::Unit => "null".to_owned(),
            Type::Option(inner) => format!("{} | null", self.ty(inner)),
            Type::Sequence(element) | Type::Array(element, _) => format!("Array<{}>", self.ty(element)),
            Type::Tuple(elements) => self.tuple(elements),
            Type::Map(_, value) => format!("Record<string, {}>", self.ty(value)),
            Type::Named(name) => {
                let found = self.types.binary_search_by(|(other, _)| (*other).cmp(name)).ok();
                found.map_or_else(|| "unknown".to_owned(), |at| self.types[at].1.clone())
            }
            Type::Opaque(_) => "unknown".to_owned(),
            // All others are numbers.
            _ => "number".to_owned(),
        }
    }

    fn tuple(&self, elements: &[Type]) -> String {
        format!("[{}]", elements.iter().map(|element| self.ty(element)).collect::<Vec<_>>().join(", "))
    }
}

fn docs(text: &mut String, indent: &str, docs: &str) {
    let lines: Vec<_> = names::doc_lines(docs).map(|line| line.replace("*/", "* /")).collect();
    match &lines[..] {
        [] => {}
        [line] => *text += &format!("{indent}/** {line} */\n"),
        lines => {
            *text += &format!("{indent}/**\n");
            for line in lines {
                *text += format!("{indent} * {line}").trim_end();
                text.push('\n');
            }
            *text += &format!("{indent} */\n");
        }
    }
}

/// Returns the name of a member: quoted, unless it is an identifier.
fn key(name: &str) -> String {
    if names::identifier(name) == name { name.to_owned() } else { json!(name).to_string() }
}

/// Returns the name of a parameter, which must not be a reserved word.
fn parameter(name: &str) -> String {
    let name = names::identifier(name);
    if RESERVED.contains(&&*name) { format!("{name}_") } else { name }
}

const RESERVED: [&str; 45] = [
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
];

#[cfg(test)]
mod tests {
    use rpc_core::{DynCaller, Status, Streaming, rpc_service};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Price {
        number: u64,
        cents: Option<u32>,
        #[serde(rename = "per-unit", default)]
        unit: Unit,
    }

    #[derive(Default, Serialize, Deserialize)]
    enum Unit {
        #[default]
        Piece,
        Weight(f32, String),
    }

    /// Streams of a shop.
    #[rpc_service(name = "shop.Feed", version = "1.0")]
    trait Feed {
        /// Returns prices.
        async fn prices(&self, good: String, after: Option<u64>) -> Result<Streaming<Price>, Status>;
        async fn upload(&self, new: String, parts: Streaming<String>) -> Result<u64, Unit>;
        #[rpc(one_way)]
        async fn note(&self, text: String);
    }

    #[test]
    fn services_are_namespaces() {
        let expected = r#"export namespace FeedV1_0 {
  /** The name of the service in routes. */
  export const service = "shop.Feed:1.0";

  /** Streams of a shop. */
  export interface Feed {
    /** Returns prices. */
    prices(good: string, after?: number | null): AsyncIterable<Price>;
    /** @throws Unit */
    upload(new_: string, items: AsyncIterable<string>): Promise<number>;
    note(text: string): Promise<void>;
  }

  export type Price = { number: number; cents?: number | null; "per-unit"?: Unit };

  export type Unit = "Piece" | { Weight: [number, string] };
}
"#;
        assert_eq!(typescript(&[FeedClient::<DynCaller>::contract().clone()]), expected);
    }
}
