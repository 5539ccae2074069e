//! What Nacos takes: checked before a call, because its servers differ in what they do with too much.

use rpc_core::{Code, Error, Instance, ServiceId};

/// The most characters that all metadata of an instance may have, keys and values together.
const METADATA: usize = 1024;
/// The most characters of a service's name.
const SERVICE: usize = 512;
/// The most characters of a group, a namespace and a cluster.
const NAME: usize = 128;

/// The name under which Nacos lists `service`, `demo.Greeter:1.0`.
pub(super) fn service(service: &ServiceId) -> Result<String, Error> {
    let name = service.to_string();
    if name.chars().count() > SERVICE || name.contains("@@") || name.chars().any(char::is_whitespace) {
        return Err(invalid(format!("a service's name has at most {SERVICE} characters, no white space and no `@@`")));
    }
    Ok(name)
}

/// Checks the metadata as it is sent.
pub(super) fn metadata<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), Error> {
    let length: usize = entries.into_iter().map(|(key, value)| key.chars().count() + value.chars().count()).sum();
    if length > METADATA {
        return Err(invalid(format!(
            "the metadata of an instance has at most {METADATA} characters in all, not {length}"
        )));
    }
    Ok(())
}

/// Checks what [`Instance`] promises already.
pub(super) fn weight(instance: &Instance) -> f64 {
    instance.weight().clamp(0.0, Instance::MAX_WEIGHT)
}

pub(super) fn group(group: &str) -> Result<&str, Error> {
    name("group", group, "-_:.")
}

pub(super) fn namespace(namespace: &str) -> Result<&str, Error> {
    name("namespace", namespace, "-_")
}

pub(super) fn cluster(cluster: &str) -> Result<&str, Error> {
    name("cluster", cluster, "-")
}

fn name<'a>(what: &str, name: &'a str, besides: &str) -> Result<&'a str, Error> {
    if name.len() > NAME || !name.chars().all(|c| c.is_ascii_alphanumeric() || besides.contains(c)) {
        return Err(invalid(format!("a {what} has at most {NAME} letters, digits and characters of `{besides}`")));
    }
    Ok(name)
}

fn invalid(what: String) -> Error {
    Error::not_executed(Code::InvalidArgument, format!("Nacos does not take this: {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn metadata_at_the_limit_and_one_over() {
        let of = |length: usize| BTreeMap::from([("é".to_owned(), "é".repeat(length - 1))]);
        assert!(metadata(&of(METADATA)).is_ok());
        assert!(metadata(&of(METADATA + 1)).is_err());
    }

    #[test]
    fn names_at_the_limit_and_one_over() {
        assert!(group(&"g".repeat(NAME)).is_ok());
        assert!(group(&"g".repeat(NAME + 1)).is_err());
        assert!(group("a-b_c:d.e").is_ok());
        for bad in ["a b", "ä", "a@@b", "a/b"] {
            assert!(group(bad).is_err(), "{bad}");
        }
        assert!(namespace("n:1").is_err() && cluster("c,d").is_err());
    }

    #[test]
    fn a_constant_name_is_checked_too() {
        assert_eq!(service(&ServiceId::from_static("demo.Greeter", "1.0")).unwrap(), "demo.Greeter:1.0");
        for bad in ["demo Greeter", "demo@@Greeter"] {
            assert!(service(&ServiceId::from_static(bad, "1")).is_err(), "{bad}");
        }
        let longest = "n".repeat(SERVICE - 2).leak();
        assert!(service(&ServiceId::from_static(longest, "1")).is_ok());
        assert!(service(&ServiceId::from_static(longest, "11")).is_err());
    }
}
