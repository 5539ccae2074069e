//! The limits of Nacos on names and metadata.
//!
//! They are checked before a request, because servers handle excessive input differently.

use rpc_core::{Code, Error, Instance, ServiceId};

/// The maximum total length of an instance's metadata, keys and values, in characters.
const MAX_METADATA: usize = 1024;
/// The maximum length of a service name, in characters.
const MAX_SERVICE_NAME: usize = 512;
/// The maximum length of the data id of a configuration, in characters.
const MAX_DATA_ID: usize = 255;
/// The maximum length of the name of a group, namespace or cluster, in characters.
const MAX_NAME: usize = 128;

/// Returns the name under which Nacos lists `service`, such as `demo.Greeter:1.0`.
pub(super) fn service(service: &ServiceId) -> Result<String, Error> {
    let name = service.to_string();
    if name.chars().count() > MAX_SERVICE_NAME || name.contains("@@") || name.chars().any(char::is_whitespace) {
        return Err(invalid(format!(
            "a service name has at most {MAX_SERVICE_NAME} characters, no white space and no `@@`"
        )));
    }
    Ok(name)
}

/// Returns the data id of the configuration with the rules of `service`, such as `msnb.rules.demo.Greeter`.
pub(super) fn data_id(service: &ServiceId) -> Result<String, Error> {
    let id = format!("msnb.rules.{}", service.name());
    if id.len() > MAX_DATA_ID || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        return Err(invalid(format!(
            "a data id such as `{id}` has at most {MAX_DATA_ID} characters: letters, digits and `-_.:`"
        )));
    }
    Ok(id)
}

/// Checks the length of the metadata.
pub(super) fn metadata<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), Error> {
    let length: usize = entries.into_iter().map(|(key, value)| key.chars().count() + value.chars().count()).sum();
    if length > MAX_METADATA {
        return Err(invalid(format!("the metadata of an instance is {length} characters, limit is {MAX_METADATA}")));
    }
    Ok(())
}

/// Returns the weight, clamped to the valid range again as a second check.
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

fn name<'a>(kind: &str, name: &'a str, punctuation: &str) -> Result<&'a str, Error> {
    if name.len() > MAX_NAME || !name.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c)) {
        return Err(invalid(format!(
            "the name of a {kind} has at most {MAX_NAME} characters: letters, digits and `{punctuation}`"
        )));
    }
    Ok(name)
}

fn invalid(what: String) -> Error {
    Error::not_executed(Code::InvalidArgument, format!("invalid for Nacos: {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn metadata_is_rejected_above_the_limit() {
        let of = |length: usize| BTreeMap::from([("é".to_owned(), "é".repeat(length - 1))]);
        assert!(metadata(&of(MAX_METADATA)).is_ok());
        assert!(metadata(&of(MAX_METADATA + 1)).is_err());
    }

    #[test]
    fn names_are_rejected_above_the_limit() {
        assert!(group(&"g".repeat(MAX_NAME)).is_ok());
        assert!(group(&"g".repeat(MAX_NAME + 1)).is_err());
        assert!(group("a-b_c:d.e").is_ok());
        for bad in ["a b", "ä", "a@@b", "a/b"] {
            assert!(group(bad).is_err(), "{bad}");
        }
        assert!(namespace("n:1").is_err() && cluster("c,d").is_err());
    }

    #[test]
    fn constant_service_names_are_checked() {
        assert_eq!(service(&ServiceId::from_static("demo.Greeter", "1.0")).unwrap(), "demo.Greeter:1.0");
        for bad in ["demo Greeter", "demo@@Greeter"] {
            assert!(service(&ServiceId::from_static(bad, "1")).is_err(), "{bad}");
        }
        let longest = "n".repeat(MAX_SERVICE_NAME - 2).leak();
        assert!(service(&ServiceId::from_static(longest, "1")).is_ok());
        assert!(service(&ServiceId::from_static(longest, "11")).is_err());
    }

    #[test]
    fn data_ids_are_rejected_above_the_limit() {
        assert_eq!(data_id(&ServiceId::from_static("demo.Greeter", "1.0")).unwrap(), "msnb.rules.demo.Greeter");
        let longest = "n".repeat(MAX_DATA_ID - "msnb.rules.".len()).leak();
        assert!(data_id(&ServiceId::from_static(longest, "1")).is_ok());
        assert!(data_id(&ServiceId::from_static(format!("{longest}n").leak(), "1")).is_err());
        assert!(data_id(&ServiceId::from_static("demo Greeter", "1")).is_err());
    }
}
