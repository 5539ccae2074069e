//! [`Contract`]: the description of a service as a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::{Definition, Field, Type};
use crate::{Code, Error, ServiceId};

/// The description of a service: its methods, and the types of their arguments and answers.
///
/// It is a value, which serde writes in any self-describing format. Its JSON form is stable: later versions of msnb add
/// fields only, and read the files of earlier versions.
///
/// # Examples
///
/// ```
/// use rpc_core::{descriptor::Contract, rpc_service};
///
/// #[rpc_service(name = "demo.Greeter", version = "1.0")]
/// trait Greeter {
///     /// Greets someone.
///     async fn hello(&self, name: String, title: Option<String>) -> String;
/// }
///
/// let contract = GreeterClient::<rpc_core::DynCaller>::contract();
/// let hello = contract.method("hello").unwrap();
/// assert_eq!(hello.docs, "Greets someone.");
/// assert!(hello.parameters[1].optional);
/// let json = contract.to_json();
/// assert_eq!(&Contract::from_json(&json).unwrap(), contract);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Contract {
    /// The name of the service, such as `demo.Greeter`.
    pub name: String,
    /// The version of the service, such as `1.0`.
    pub version: String,
    /// The doc comment of the trait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
    /// The methods, in the order of the trait.
    pub methods: Vec<MethodContract>,
    /// The types with a name to which the methods refer, by the name that [`Type::Named`] contains.
    #[serde(default)]
    pub types: BTreeMap<String, Definition>,
}

/// The description of one method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodContract {
    /// The name on the wire.
    pub name: String,
    /// The doc comment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
    /// The form of a call.
    #[serde(default)]
    pub form: Form,
    /// Whether the handler may execute twice without harm.
    #[serde(default, skip_serializing_if = "is_false")]
    pub idempotent: bool,
    /// The scope in which each call executes at most once: `server` or `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<OnceScope>,
    /// The timeout of calls that set none, in milliseconds, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The name of the codec that calls use by default, see [`Codec::name`](crate::Codec::name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// The verb and the path of the method in HTTP, such as `GET /orders/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The HTTP status of variants of the error, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub http_statuses: BTreeMap<String, u16>,
    /// The parameters in their order, without a stream.
    pub parameters: Vec<Field>,
    /// The items of the stream that the caller sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_items: Option<Type>,
    /// The result; [`Type::Unit`] for a one-way method and for one that returns a stream.
    pub result: Type,
    /// The items of the stream that the callee sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Type>,
    /// The service's own error; `None` if the method fails with a status only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Type>,
    /// The error with which the callee may end its stream; `None` if that is a status only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_error: Option<Type>,
}

/// The form of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Form {
    /// One request, one response.
    #[default]
    Unary,
    /// One request without a response.
    OneWay,
    /// The caller sends items; the callee answers once.
    CallerStream,
    /// The callee sends items.
    CalleeStream,
    /// Both ends send items.
    Streams,
}

/// The scope in which a method executes each call at most once, see [`Once`](crate::Once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnceScope {
    /// One server.
    Server,
    /// All servers that share a store.
    Cluster,
}

impl Contract {
    /// Returns `name:version`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if either is not valid, which a file may contain.
    pub fn service_id(&self) -> Result<ServiceId, Error> {
        ServiceId::new(self.name.clone(), self.version.clone())
    }

    /// Returns the method with this name on the wire.
    pub fn method(&self, name: &str) -> Option<&MethodContract> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Returns the definition of a type; `None` if the type has no name, or its definition is missing.
    pub fn definition(&self, of: &Type) -> Option<&Definition> {
        match of {
            Type::Named(name) => self.types.get(name),
            _ => None,
        }
    }

    /// Returns the contract as indented JSON, which ends with a newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a contract has only string keys and no floats");
        json.push('\n');
        json
    }

    /// Reads the contract from JSON.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the text is not the JSON form of a contract.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| {
            let message = format!("the text is not the JSON form of a contract: {error}");
            Error::not_executed(Code::InvalidArgument, message)
        })
    }
}

#[cfg(test)]
impl Contract {
    /// Returns a contract with these types, and with a method whose result is `T0`.
    pub(super) fn with_types(types: impl IntoIterator<Item = (String, Definition)>) -> Self {
        let json = r#"{"name":"a","version":"1","methods":[{"name":"m","parameters":[],"result":{"named":"T0"}}]}"#;
        Self { types: types.into_iter().collect(), ..Self::from_json(json).unwrap() }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
