//! Values of parameters as JSON, from the text of a path or a query.

use rpc_core::descriptor::Type;
use serde_json::Value;

/// Converts the values of a parameter to JSON. Several values are the elements of a sequence.
///
/// The error describes the fault, and does not contain the value, which may be a secret.
pub(super) fn to_json(ty: Option<&Type>, values: &[String]) -> Result<Value, String> {
    match ty {
        Some(Type::Option(inner)) => to_json(Some(inner), values),
        Some(Type::Sequence(element) | Type::Array(element, _)) => {
            values.iter().map(|value| one(Some(element), value)).collect::<Result<_, _>>().map(Value::Array)
        }
        ty => match values {
            [value] => one(ty, value),
            _ => Err("several values for a parameter that is not a list".to_owned()),
        },
    }
}

fn one(ty: Option<&Type>, text: &str) -> Result<Value, String> {
    let Some(ty) = ty else {
        return Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())));
    };
    let expected = || format!("expected {ty}");
    match ty {
        Type::Bool => text.parse().map(Value::Bool).map_err(|_| expected()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => text.parse::<i64>().map(Value::from).map_err(|_| expected()),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => text.parse::<u64>().map(Value::from).map_err(|_| expected()),
        Type::F32 | Type::F64 => {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Value::Number).ok_or_else(expected)
        }
        Type::Char | Type::String => Ok(Value::String(text.to_owned())),
        Type::Option(inner) => one(Some(inner), text),
        // The server checks the value. A unit variant of an enum is its name as a string.
        _ => Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_determine_the_form_of_values() {
        let sequence = Type::Sequence(Box::new(Type::U8));
        let option = Type::Option(Box::new(Type::Bool));
        for (ty, values, expected) in [
            (Type::String, &["7"][..], json!("7")),
            (Type::I64, &["-7"], json!(-7)),
            (Type::F64, &["1.5"], json!(1.5)),
            (option, &["true"], json!(true)),
            (sequence.clone(), &["1", "2"], json!([1, 2])),
            (sequence.clone(), &[], json!([])),
            (Type::Named("Color".to_owned()), &["Red"], json!("Red")),
            (Type::Named("Point".to_owned()), &[r#"{"x":1}"#], json!({ "x": 1 })),
        ] {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(to_json(Some(&ty), &values).unwrap(), expected, "{ty}");
        }
        let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert!(to_json(Some(&Type::U8), &strings(&["-1"])).is_err());
        assert!(to_json(Some(&Type::F64), &strings(&["NaN"])).is_err());
        assert!(to_json(Some(&Type::String), &strings(&["a", "b"])).is_err());
        assert!(to_json(Some(&sequence), &strings(&["a"])).unwrap_err().contains("u8"));
    }
}
