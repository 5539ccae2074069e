//! The form of a method, which its contract determines, and the arguments that a user has filled in.

use std::collections::HashMap;

use rpc_core::descriptor::{Contract, Field, MethodContract, Type};
use serde_json::{Map, Value};

use crate::contract::template;

/// An input of the form.
pub(super) struct Input {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) ty: String,
    pub(super) optional: bool,
    /// `text`, `bool` or `json`.
    pub(super) kind: &'static str,
    pub(super) value: String,
    pub(super) rows: usize,
}

/// The values of a form by the names of its inputs.
pub(super) type Values = HashMap<String, String>;

/// Returns the inputs of the parameters of a method, with the values that a user has filled in.
pub(super) fn inputs(contract: &Contract, method: &MethodContract, values: Option<&Values>) -> Vec<Input> {
    let empty = template(contract, method);
    let inputs = method.parameters.iter().enumerate().map(|(position, field)| {
        let id = id(position);
        let kind = kind(field);
        let value = match values.and_then(|values| values.get(&id)) {
            Some(value) => value.clone(),
            None => initial(&empty[&field.name], kind, field.optional),
        };
        let rows = value.lines().count().clamp(2, 16);
        Input { id, label: field.name.clone(), ty: field.ty.to_string(), optional: field.optional, kind, value, rows }
    });
    inputs.collect()
}

fn id(position: usize) -> String {
    format!("parameter-{position}")
}

fn kind(field: &Field) -> &'static str {
    match content(&field.ty) {
        Type::Bool => "bool",
        ty if is_text(ty) || is_number(ty) => "text",
        _ => "json",
    }
}

fn content(ty: &Type) -> &Type {
    match ty {
        Type::Option(inner) => inner,
        ty => ty,
    }
}

fn is_text(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::Char)
}

fn is_number(ty: &Type) -> bool {
    let integers = [
        Type::I8,
        Type::I16,
        Type::I32,
        Type::I64,
        Type::I128,
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::U128,
        Type::F32,
        Type::F64,
    ];
    integers.contains(ty)
}

/// Returns the value that the form has first: an empty one of the type, or none for an optional parameter.
fn initial(empty: &Value, kind: &str, optional: bool) -> String {
    match (kind, empty) {
        (_, Value::Null) => String::new(),
        (_, _) if optional => String::new(),
        ("text", Value::String(text)) => text.clone(),
        ("json", value) => serde_json::to_string_pretty(value).unwrap_or_default(),
        (_, value) => value.to_string(),
    }
}

/// Returns the arguments that a user has filled in.
///
/// # Errors
///
/// Returns the name of a parameter with a value that is not of its type.
pub(super) fn arguments(method: &MethodContract, values: &Values) -> Result<Value, String> {
    let mut arguments = Map::new();
    for (position, field) in method.parameters.iter().enumerate() {
        let given = values.get(&id(position)).map_or("", |value| value.as_str());
        let ty = content(&field.ty);
        // An empty text is a value of a text parameter that is not optional.
        if given.trim().is_empty() && (field.optional || !is_text(ty)) {
            if field.optional {
                continue;
            }
            return Err(format!("`{}` of type {} is missing", field.name, field.ty));
        }
        let value = match is_text(ty) {
            true => Value::String(given.to_owned()),
            false => serde_json::from_str(given)
                .map_err(|error| format!("`{}` of type {} is not JSON: {error}", field.name, field.ty))?,
        };
        arguments.insert(field.name.clone(), value);
    }
    Ok(Value::Object(arguments))
}

/// Returns the items of the caller's stream that a user has filled in, one on each line.
pub(super) fn items(values: &Values) -> Result<Vec<Value>, String> {
    let lines = values.get("items").map_or("", |items| items.as_str()).lines();
    let filled = lines.enumerate().filter(|(_, line)| !line.trim().is_empty());
    let items = filled.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| format!("line {} of the items is not JSON: {error}", number + 1))
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use rpc_core::{DynCaller, rpc_service};
    use serde_json::json;

    use super::*;

    #[rpc_service(name = "a.B", version = "1")]
    trait Form {
        async fn fill(&self, name: String, count: u32, test: Option<bool>, point: (u8, u8), note: Option<String>);
    }

    #[test]
    fn form_has_an_input_for_each_parameter() {
        let contract = FormClient::<DynCaller>::contract();
        let method = contract.method("fill").unwrap();
        let shown: Vec<_> = inputs(contract, method, None).into_iter().map(|input| (input.kind, input.value)).collect();
        let text = |kind, value: &str| (kind, value.to_owned());
        let expected =
            [text("text", ""), text("text", "0"), text("bool", ""), text("json", "[\n  0,\n  0\n]"), text("text", "")];
        assert_eq!(shown, expected);
        let mut values = Values::from([
            ("parameter-0".to_owned(), "Bo".to_owned()),
            ("parameter-1".to_owned(), "2".to_owned()),
            ("parameter-2".to_owned(), "true".to_owned()),
            ("parameter-3".to_owned(), "[1, 2]".to_owned()),
        ]);
        let filled = json!({ "name": "Bo", "count": 2, "test": true, "point": [1, 2] });
        assert_eq!(arguments(method, &values), Ok(filled));
        values.insert("parameter-1".to_owned(), "x".to_owned());
        assert!(arguments(method, &values).unwrap_err().starts_with("`count` of type u32 is not JSON"));
        values.remove("parameter-1");
        assert_eq!(arguments(method, &values), Err("`count` of type u32 is missing".to_owned()));
    }

    #[test]
    fn items_are_lines() {
        let values = |text: &str| Values::from([("items".to_owned(), text.to_owned())]);
        assert_eq!(items(&values("1\n\n\"a\"\n")), Ok(vec![json!(1), json!("a")]));
        assert!(items(&values("1\nx")).unwrap_err().starts_with("line 2"));
        assert_eq!(items(&Values::new()), Ok(vec![]));
    }
}
