//! The arguments of a call, from the path, the query and the body of a request.

use std::{borrow::Cow, collections::HashMap};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use rpc_core::{
    Code,
    descriptor::{Field, Type},
};
use serde::de::IgnoredAny;

use super::{response::Rejected, routes::Route, values::to_json};

/// The parts of a request that contain arguments.
pub(super) struct ArgumentParts<'a> {
    /// The values of the parameters in the path.
    pub(super) path: Vec<(String, String)>,
    pub(super) query: &'a str,
    pub(super) content_type: &'a str,
    pub(super) body: Bytes,
}

/// Returns the arguments of a call as a JSON object.
pub(super) fn arguments(route: &Route, parts: ArgumentParts<'_>) -> Result<Bytes, Rejected> {
    let ArgumentParts { path, query, content_type, body } = parts;
    let mut given: Vec<(String, Vec<String>)> = Vec::new();
    add(&mut given, path);
    add(&mut given, known_pairs(route, query)?);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let has_form_type = media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    // `curl -d` sends JSON with the type of a form. A form does not begin with a brace, because it is percent-encoded.
    let is_form = has_form_type && body.trim_ascii_start().first() != Some(&b'{');
    let media_type = if has_form_type { "application/json" } else { media_type };
    if is_form {
        let text = std::str::from_utf8(&body).map_err(|_| Rejected::invalid("the form is not UTF-8"))?;
        add(&mut given, known_pairs(route, text)?);
    }
    let body = if is_form { Bytes::new() } else { body };
    let rest = rest(route, &given);
    let object = match kind(media_type) {
        _ if body.is_empty() => Bytes::from_static(b"{}"),
        Some(Kind::Json) => json_object(&rest, body),
        Some(Kind::Text) => text_object(&rest, &body)?,
        None => {
            let detail = format!("the body is {media_type:?}, expected application/json");
            return Err(Rejected::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, detail));
        }
    };
    if given.is_empty() { Ok(object) } else { merged(route, &given, &object) }
}

enum Kind {
    Json,
    Text,
}

/// Returns the kind of a body; a body without a type counts as JSON.
fn kind(media_type: &str) -> Option<Kind> {
    let lower = media_type.to_ascii_lowercase();
    match &*lower {
        "" | "application/json" => Some(Kind::Json),
        "text/plain" => Some(Kind::Text),
        other if other.starts_with("application/") && other.ends_with("+json") => Some(Kind::Json),
        _ => None,
    }
}

/// Returns the parameters that neither the path nor the query contains.
fn rest<'a>(route: &'a Route, given: &[(String, Vec<String>)]) -> Vec<&'a Field> {
    let is_given = |field: &Field| given.iter().any(|(name, _)| *name == field.name);
    route.parameters.iter().flatten().filter(|field| !is_given(field)).collect()
}

/// Returns the object of the arguments of a JSON body, which may be the value of the only parameter.
fn json_object(rest: &[&Field], body: Bytes) -> Bytes {
    let [only] = rest else { return body };
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    if is_object {
        // Only a struct or a map can be the value, and only if the object lacks the parameter.
        let may_be_value = !only.optional && matches!(only.ty, Type::Named(_) | Type::Map(..) | Type::Opaque(_));
        if !may_be_value {
            return body;
        }
        match serde_json::from_slice::<HashMap<Cow<'_, str>, IgnoredAny>>(&body) {
            Ok(members) if !members.contains_key(&*only.name) => {}
            // The server reports a body that is not JSON.
            _ => return body,
        }
    }
    wrapped(&only.name, &body)
}

/// Returns the object of the arguments of a method with one text.
fn text_object(rest: &[&Field], body: &[u8]) -> Result<Bytes, Rejected> {
    let is_text = |ty: &Type| match ty {
        Type::String => true,
        Type::Option(inner) => **inner == Type::String,
        _ => false,
    };
    match rest {
        [only] if is_text(&only.ty) => {
            let text = std::str::from_utf8(body).map_err(|_| Rejected::invalid("the text is not UTF-8"))?;
            Ok(wrapped(&only.name, &quoted(text)))
        }
        _ => {
            let detail = "the body is text/plain, which only methods with one parameter of type String accept";
            Err(Rejected::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, detail))
        }
    }
}

/// Adds the values of the path and the query to an object.
fn merged(route: &Route, given: &[(String, Vec<String>)], object: &[u8]) -> Result<Bytes, Rejected> {
    let Some(members) = object.trim_ascii_start().strip_prefix(b"{") else {
        return Err(Rejected::invalid("the body is not a JSON object with the names of the parameters"));
    };
    let mut out = BytesMut::with_capacity(object.len() + 64);
    out.put_u8(b'{');
    for (index, (name, values)) in given.iter().enumerate() {
        let value = to_json(route.parameter(name), values)
            .map_err(|fault| Rejected::invalid(format!("parameter {name:?}: {fault}")))?;
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&quoted(name));
        out.put_u8(b':');
        out.put_slice(value.to_string().as_bytes());
    }
    if members.trim_ascii_start().first() != Some(&b'}') {
        out.put_u8(b',');
    }
    out.put_slice(members);
    Ok(out.freeze())
}

fn wrapped(name: &str, value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len() + name.len() + 8);
    out.put_u8(b'{');
    out.put_slice(&quoted(name));
    out.put_u8(b':');
    out.put_slice(value);
    out.put_u8(b'}');
    out.freeze()
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

fn add(given: &mut Vec<(String, Vec<String>)>, pairs: impl IntoIterator<Item = (String, String)>) {
    for (name, value) in pairs {
        match given.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => given.push((name, vec![value])),
        }
    }
}

/// Returns the pairs of a query whose names are parameters. Others, such as those of campaigns, are ignored.
fn known_pairs(route: &Route, query: &str) -> Result<Vec<(String, String)>, Rejected> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if route.parameters.is_none() || route.parameter(&name).is_some() {
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

fn decoded(text: &str) -> Result<String, Rejected> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Rejected::invalid("the query is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use rpc_core::{MethodInfo, ServiceId, descriptor::MethodContract};

    use super::*;

    fn route(parameters: &str) -> Route {
        let contract = format!(r#"{{"name":"m","parameters":{parameters},"result":"unit"}}"#);
        let contract: MethodContract = serde_json::from_str(&contract).unwrap();
        let method = MethodInfo::new(ServiceId::new("a", "1").unwrap(), "m");
        Route { route: "a:1/m".to_owned(), method, parameters: Some(contract.parameters) }
    }

    fn build(route: &Route, path: &[(&str, &str)], query: &str, content_type: &str, body: &str) -> String {
        let path = path.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = Bytes::copy_from_slice(body.as_bytes());
        match arguments(route, ArgumentParts { path, query, content_type, body }) {
            Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Err(rejected) => format!("{} {}", rejected.status.as_u16(), rejected.detail),
        }
    }

    #[test]
    fn bodies_and_queries_become_one_object() {
        let text = route(r#"[{"name":"name","type":"string"}]"#);
        assert_eq!(build(&text, &[], "", "application/json", r#"{"name":"Bo"}"#), r#"{"name":"Bo"}"#);
        assert_eq!(build(&text, &[], "", "", r#""Bo""#), r#"{"name":"Bo"}"#);
        assert_eq!(build(&text, &[], "", "text/plain;charset=UTF-8", "a \"b\"\n"), r#"{"name":"a \"b\"\n"}"#);
        assert_eq!(build(&text, &[], "name=Bo%20%E4%BD%A0+x%26&utm=1", "", ""), r#"{"name":"Bo 你 x&"}"#);
        assert_eq!(build(&text, &[], "", "application/x-www-form-urlencoded", "name=a+b"), r#"{"name":"a b"}"#);
        assert_eq!(
            build(&text, &[], "", "application/x-www-form-urlencoded", r#" {"name":"a+b"}"#),
            r#" {"name":"a+b"}"#,
            "curl -d sends JSON as a form"
        );
        assert_eq!(build(&text, &[], "", "application/x-www-form-urlencoded", "name=%7B"), r#"{"name":"{"}"#);
        assert_eq!(build(&text, &[], "", "", ""), "{}");
        assert!(build(&text, &[], "", "image/png", "x").starts_with("415"));

        let order = route(r#"[{"name":"id","type":"u64"},{"name":"order","type":{"named":"Order"}}]"#);
        let put = |body: &str| build(&order, &[("id", "7")], "", "application/json", body);
        assert_eq!(put(r#"{"item":"x"}"#), r#"{"id":7,"order":{"item":"x"}}"#);
        assert_eq!(put(r#"{"order":{"item":"x"}}"#), r#"{"id":7,"order":{"item":"x"}}"#);
        assert_eq!(put(r#" [1]"#), r#"{"id":7,"order": [1]}"#);
        assert_eq!(put("{"), r#"{"id":7,"#, "the server reports it");
        assert_eq!(build(&order, &[("id", "x")], "", "", "{}"), "400 parameter \"id\": expected u64");
        assert!(build(&order, &[], "", "text/plain", "x").starts_with("415"));

        let many =
            route(r#"[{"name":"a","type":{"sequence":"u8"}},{"name":"b","type":{"option":"bool"},"optional":true}]"#);
        assert_eq!(build(&many, &[], "a=1&b=true&a=2", "", ""), r#"{"a":[1,2],"b":true}"#);
        assert_eq!(build(&many, &[], "a=1&b=1", "", ""), "400 parameter \"b\": expected bool");
        assert_eq!(build(&many, &[], "b=true", "", "[3]"), r#"{"b":true,"a":[3]}"#);
    }
}
