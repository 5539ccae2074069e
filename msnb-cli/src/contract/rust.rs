//! [`to_rust`]: a contract in the syntax of Rust.

use rpc_core::descriptor::{Content, Contract, Definition, Field, Form, MethodContract, OnceScope, Type};

/// Returns the trait of a contract and the definitions of its types, by their names on the wire.
///
/// The text is for readers: the names of generic types contain their parameters, and opaque types have no definition.
pub(crate) fn to_rust(contract: &Contract) -> String {
    let mut text = String::new();
    docs(&mut text, "", &contract.docs);
    text += &format!("#[rpc_service(name = \"{}\", version = \"{}\")]\n", contract.name, contract.version);
    text += &format!("trait {} {{\n", contract.name.rsplit('.').next().unwrap_or_default());
    for (index, method) in contract.methods.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        self::method(&mut text, method);
    }
    text += "}\n";
    for (name, definition) in &contract.types {
        text.push('\n');
        self::definition(&mut text, name, definition);
    }
    text
}

fn docs(text: &mut String, indent: &str, docs: &str) {
    for line in docs.lines() {
        *text += format!("{indent}/// {line}").trim_end();
        text.push('\n');
    }
}

fn method(text: &mut String, method: &MethodContract) {
    docs(text, "    ", &method.docs);
    let mut options = Vec::new();
    if method.idempotent {
        options.push("idempotent".to_owned());
    }
    options.extend(method.once.map(|scope| match scope {
        OnceScope::Cluster => "once = \"cluster\"".to_owned(),
        _ => "once".to_owned(),
    }));
    if method.form == Form::OneWay {
        options.push("one_way".to_owned());
    }
    options.extend(method.timeout_ms.map(|ms| match ms {
        ms if ms % 1000 == 0 => format!("timeout = \"{}s\"", ms / 1000),
        ms => format!("timeout = \"{ms}ms\""),
    }));
    let function = snake_case(&method.name);
    if function != method.name {
        options.push(format!("name = \"{}\"", method.name));
    }
    if !options.is_empty() {
        *text += &format!("    #[rpc({})]\n", options.join(", "));
    }
    let mut parameters = vec!["&self".to_owned()];
    parameters.extend(method.parameters.iter().map(|field| format!("{}: {}", field.name, field.ty)));
    parameters.extend(method.caller_items.iter().map(|items| format!("items: Streaming<{items}>")));
    *text += &format!("    async fn {function}({}){};\n", parameters.join(", "), answer(method));
}

fn answer(method: &MethodContract) -> String {
    let value = match (&method.items, &method.items_error) {
        (Some(items), None) => format!("Streaming<{items}>"),
        (Some(items), Some(error)) => format!("Streaming<{items}, {error}>"),
        (None, _) => method.result.to_string(),
    };
    match &method.error {
        Some(error) => format!(" -> Result<{value}, {error}>"),
        None if value == Type::Unit.to_string() => String::new(),
        None => format!(" -> {value}"),
    }
}

/// Returns a name such as `findGoods` as `find_goods`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    snake
}

fn definition(text: &mut String, name: &str, definition: &Definition) {
    match definition {
        Definition::Struct(Content::Fields(fields)) => {
            *text += &format!("struct {name} {{\n{}}}\n", self::fields("    ", fields));
        }
        Definition::Struct(content) => *text += &format!("struct {name}{};\n", elements(content)),
        Definition::Enum(variants) => {
            *text += &format!("enum {name} {{\n");
            for variant in variants {
                *text += &match &variant.content {
                    Content::Fields(fields) => {
                        format!("    {} {{\n{}    }},\n", variant.name, self::fields("        ", fields))
                    }
                    content => format!("    {}{},\n", variant.name, elements(content)),
                };
            }
            *text += "}\n";
        }
        // A later version of msnb may describe further definitions.
        _ => *text += &format!("// {name}: a definition that this version of msnb does not know\n"),
    }
}

fn fields(indent: &str, fields: &[Field]) -> String {
    let mut text = String::new();
    for field in fields {
        if field.optional && !matches!(field.ty, Type::Option(_)) {
            text += &format!("{indent}#[serde(default)]\n");
        }
        text += &format!("{indent}{}: {},\n", field.name, field.ty);
    }
    text
}

/// Returns the values without names of a struct or a variant, in parentheses.
fn elements(content: &Content) -> String {
    let types: Vec<_> = content.types().into_iter().map(Type::to_string).collect();
    if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) }
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
        note: Option<String>,
        pay: Pay,
    }

    #[derive(Serialize, Deserialize)]
    enum Pay {
        Card { number: String },
        Cash,
        Split(u8, Id),
    }

    #[derive(Serialize, Deserialize)]
    struct Id(u64);

    /// Takes orders.
    #[rpc_service(name = "shop.Orders", version = "1.0")]
    trait Orders {
        /// Places an order.
        ///
        /// It may be sent twice.
        #[rpc(idempotent, timeout = "1500ms", name = "placeOrder")]
        async fn place(&self, order: Order) -> Result<Id, Pay>;
        #[rpc(one_way)]
        async fn note(&self, text: String);
        #[rpc(once = "cluster")]
        async fn pay(&self, cents: u64) -> u64;
        async fn talk(&self, room: String, items: Streaming<String>) -> Result<Streaming<u8>, Status>;
    }

    #[test]
    fn contract_reads_as_rust() {
        let expected = r#"/// Takes orders.
#[rpc_service(name = "shop.Orders", version = "1.0")]
trait Orders {
    /// Places an order.
    ///
    /// It may be sent twice.
    #[rpc(idempotent, timeout = "1500ms", name = "placeOrder")]
    async fn place_order(&self, order: Order) -> Result<Id, Pay>;

    #[rpc(one_way)]
    async fn note(&self, text: String);

    #[rpc(once = "cluster")]
    async fn pay(&self, cents: u64) -> u64;

    async fn talk(&self, room: String, items: Streaming<String>) -> Streaming<u8>;
}

struct Id(u64);

struct Order {
    id: u64,
    #[serde(default)]
    count: u32,
    note: Option<String>,
    pay: Pay,
}

enum Pay {
    Card {
        number: String,
    },
    Cash,
    Split(u8, Id),
}
"#;
        assert_eq!(to_rust(OrdersClient::<DynCaller>::contract()), expected);
    }

    #[test]
    fn reduced_contract_has_one_method_and_its_types() {
        let mut contract = OrdersClient::<DynCaller>::contract().clone();
        crate::contract::reduce(&mut contract, "note");
        assert_eq!((contract.methods.len(), contract.types.len()), (1, 0));
        let mut contract = OrdersClient::<DynCaller>::contract().clone();
        crate::contract::reduce(&mut contract, "placeOrder");
        assert_eq!(contract.types.keys().collect::<Vec<_>>(), ["Id", "Order", "Pay"]);
    }
}
