//! Rules: policies of calls in a document that operators change while the program runs.
//!
//! | topic | module |
//! |---|---|
//! | one rule, and its application to a call | `rule` |
//! | the text of a document | `document` |
//! | the rules of a client, and the file from which it reads them | `source` |

mod document;
pub(crate) mod rule;
pub(crate) mod source;

use std::sync::Arc;

use rpc_core::{Error, MethodInfo, ServiceId};

use self::rule::Rule;

/// Policies of calls from one document, in TOML or JSON.
///
/// docs/ROUTING.md describes the document. The first rule that matches a method applies to its calls. Options of the call
/// itself take precedence over the rule, and the rule over the method's timeout and the client's config.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "toml")] {
/// use rpc_client::Rules;
///
/// let rules = Rules::parse(
///     r#"
///     [[rules]]
///     name = "try the new greeter"
///     service = "demo.Greeter:1.0"
///     timeout = "2s"
///     hedge = "50ms"
///     tags = [{ tag = "gray", percent = 5 }]
///     "#,
/// )?;
/// assert_eq!(rules.names().collect::<Vec<_>>(), ["try the new greeter"]);
///
/// let error = Rules::parse("[[rules]]\ntimeout = \"soon\"").unwrap_err();
/// assert!(error.message().contains("line 2"), "{error}");
/// # }
/// # Ok::<(), rpc_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Rules(Vec<Arc<Rule>>);

impl Rules {
    /// The longest document in bytes: 1 MiB.
    pub const MAX_LEN: usize = 1024 * 1024;

    /// Parses a document: JSON if it begins with a brace, otherwise TOML, for which this crate has the feature `toml`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the line of the first mistake. Unknown fields are mistakes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        document::parse(text)
    }

    /// Returns the names of the rules, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| rule.name())
    }

    /// Returns the rule for the calls of a method.
    pub(crate) fn find(&self, method: &MethodInfo) -> Option<&Arc<Rule>> {
        self.0.iter().find(|rule| rule.matches(method.service(), Some(method.name())))
    }

    /// Returns the names of the rules that may apply to calls of a service.
    pub(crate) fn names_for(&self, service: &ServiceId) -> String {
        let matching = self.0.iter().filter(|rule| rule.matches(service, None));
        matching.map(|rule| rule.name()).collect::<Vec<_>>().join(", ")
    }
}
