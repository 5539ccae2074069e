//! [`Rules`]: the rules of one document.

use std::sync::Arc;

use rpc_core::{Code, Error, MethodInfo, ServiceId};
use serde::Deserialize;

use super::{entry::RuleEntry, rule::Rule};

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
        parse(text)
    }

    /// Returns the names of the rules, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| rule.name())
    }

    /// Restricts the rules to a service, in whose document they are.
    pub(super) fn restricted_to(mut self, service: &Arc<str>) -> Self {
        self.0.iter_mut().filter_map(Arc::get_mut).for_each(|rule| rule.restrict(service));
        self
    }

    /// Continues the counts of the rules in an earlier document that these rules replace.
    pub(super) fn continuing(mut self, earlier: &Self) -> Self {
        let mut replaced = vec![false; earlier.0.len()];
        for rule in self.0.iter_mut().filter_map(Arc::get_mut) {
            let is_replaced = |(index, earlier): &(usize, &Arc<Rule>)| !replaced[*index] && rule.replaces(earlier);
            if let Some((index, earlier)) = earlier.0.iter().enumerate().find(is_replaced) {
                replaced[index] = true;
                rule.inherit(earlier);
            }
        }
        self
    }

    /// Returns the rule for the calls of a method.
    pub(crate) fn find(&self, method: &MethodInfo) -> Option<&Arc<Rule>> {
        self.0.iter().find(|rule| rule.matches(method.service(), Some(method.name())))
    }

    /// Returns the names of the rules that may apply to calls of a service.
    pub(super) fn names_for(&self, service: &ServiceId) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|rule| rule.matches(service, None)).map(|rule| rule.name())
    }
}

/// A document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

/// Parses a document.
fn parse(text: &str) -> Result<Rules, Error> {
    if text.len() > Rules::MAX_LEN {
        let message = format!("rules are {} bytes, limit is {} (Rules::MAX_LEN)", text.len(), Rules::MAX_LEN);
        return Err(Error::not_executed(Code::InvalidArgument, message));
    }
    let document = if text.trim_start().starts_with('{') { from_json(text) } else { from_toml(text) };
    let Document { rules } = document.map_err(|Mistake { line, message }| {
        let place = line.map_or_else(String::new, |line| format!("line {line} of the "));
        Error::not_executed(Code::InvalidArgument, format!("{place}rules: {message}"))
    })?;
    Ok(Rules(rules.into_iter().enumerate().map(|(index, entry)| Rule::new(entry, index + 1).into()).collect()))
}

/// A mistake in a document.
struct Mistake {
    /// The line, from 1.
    line: Option<usize>,
    message: String,
}

fn from_json(text: &str) -> Result<Document, Mistake> {
    serde_json::from_str(text).map_err(|error| Mistake { line: Some(error.line()), message: error.to_string() })
}

#[cfg(feature = "toml")]
fn from_toml(text: &str) -> Result<Document, Mistake> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Mistake { line, message: error.message().to_owned() }
    })
}

#[cfg(not(feature = "toml"))]
fn from_toml(_: &str) -> Result<Document, Mistake> {
    Err(Mistake { line: None, message: "TOML requires the feature `toml` of rpc-client; use JSON".to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path, time::Duration};

    use rpc_core::CallOptions;

    use super::*;
    use crate::{discovery::balance::Balance, rng::RngSource};

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    const JSON: &str = r#"{ "rules": [
        { "service": "demo.Greeter:2.0", "timeout": "9s" },
        { "name": "canary", "service": "demo.Greeter", "timeout": "1.5s", "retries": 1, "hedge": false,
          "balance": "peak-ewma", "max_concurrent": 2,
          "tags": [{ "tag": "beta", "metadata": "group", "value": "b", "force": true }, { "tag": "gray", "percent": 0 }] }
    ] }"#;

    fn method(name: &str) -> rpc_core::MethodInfo {
        rpc_core::MethodInfo::new(SERVICE, name)
    }

    fn mistake(text: &str) -> String {
        parse(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn first_matching_rule_sets_the_options() {
        let rules = parse(JSON).unwrap();
        let rule = rules.find(&method("hello")).unwrap();
        assert_eq!((rule.name(), rule.balance()), ("canary", Some(Balance::PeakEwma)));
        let mut options = CallOptions::default();
        options.retries = Some(0);
        rule.apply(&mut options, &RngSource::System);
        assert_eq!((options.timeout, options.retries), (Some(Duration::from_millis(1500)), Some(0)));
        assert_eq!((options.hedging, options.tag.as_deref()), (Some(rpc_core::Hedging::Never), None));
        options.metadata.insert("group", "b").unwrap();
        rule.apply(&mut options, &RngSource::System);
        assert_eq!((options.tag.as_deref(), options.forces_tag), (Some("beta"), true));
    }

    #[test]
    fn concurrent_calls_are_limited() {
        let rules = parse(JSON).unwrap();
        let rule = rules.find(&method("hello")).unwrap();
        let (one, other) = (rule.enter().unwrap(), rule.enter().unwrap());
        let error = rule.enter().unwrap_err();
        assert_eq!(error.message(), "2 calls are in progress, limit is 2 (max_concurrent of canary)");
        drop(one);
        assert!(rule.enter().is_ok() && other.is_some());
    }

    #[test]
    fn calls_with_one_value_are_tagged_alike() {
        let text = r#"{"rules": [{"tags": [{"tag": "gray", "percent": 20, "sticky": "user"}]}]}"#;
        let rules = parse(text).unwrap();
        let (rule, rng) = (rules.find(&method("hello")).unwrap(), RngSource::new(Some(7)));
        let is_tagged = |user: u32| {
            let mut options = CallOptions::default();
            options.metadata.insert("user", user.to_string()).unwrap();
            rule.apply(&mut options, &rng);
            options.tag.is_some()
        };
        let tagged: Vec<_> = (0..1000).filter(|user| is_tagged(*user)).collect();
        assert!(tagged.len().abs_diff(200) < 40, "{}", tagged.len());
        assert_eq!((0..1000).filter(|user| is_tagged(*user)).collect::<Vec<_>>(), tagged);
    }

    /// A document that changes one rule leaves the calls of the others counted, and those of the changed one too.
    #[test]
    fn counts_outlive_a_change_of_the_document() {
        let document = |limit: u32, last: &str| {
            let text = format!(
                r#"{{"rules": [{{"name": "{last}", "method": "watch"}},
                    {{"name": "limited", "max_concurrent": {limit}, "hedge": "p50"}}]}}"#
            );
            parse(&text).unwrap()
        };
        let rules = document(1, "first");
        let rule = Arc::clone(rules.find(&method("hello")).unwrap());
        let running = rule.enter().unwrap();
        (0..200).for_each(|_| rule.record(Duration::from_millis(5)));
        let next = document(2, "other").continuing(&rules);
        let next = next.find(&method("hello")).unwrap();
        let mut options = CallOptions::default();
        next.apply(&mut options, &RngSource::System);
        assert!(matches!(options.hedging, Some(rpc_core::Hedging::After(_))), "{:?}", options.hedging);
        let second = next.enter().unwrap();
        assert!(second.is_some() && next.enter().is_err(), "the call of the earlier rule counts");
        drop(running);
        assert!(next.enter().is_ok());
    }

    #[test]
    fn rules_of_a_service_apply_to_it_only() {
        let other = rpc_core::MethodInfo::new(ServiceId::from_static("demo.Other", "1.0"), "hello");
        let rules = parse(r#"{"rules": [{"name": "all"}]}"#).unwrap().restricted_to(&"demo.Greeter".into());
        assert!(rules.find(&method("hello")).is_some() && rules.find(&other).is_none());
    }

    #[test]
    fn percentage_of_calls_receives_the_tag() {
        let rules = parse(r#"{"rules": [{"tags": [{"tag": "gray", "percent": 20}]}]}"#).unwrap();
        let (rule, rng) = (rules.find(&method("hello")).unwrap(), RngSource::new(Some(7)));
        let tagged = (0..1000).filter(|_| {
            let mut options = CallOptions::default();
            rule.apply(&mut options, &rng);
            options.tag.is_some()
        });
        assert!(tagged.count().abs_diff(200) < 40);
    }

    #[test]
    fn mistakes_name_their_lines() {
        let json = mistake("{\n \"rules\": [\n {\"timeot\": \"2s\"}\n]}");
        assert!(json.starts_with("line 3 of the rules: unknown field `timeot`, expected one of `name`,"), "{json}");
        assert_eq!(
            mistake(&" ".repeat(Rules::MAX_LEN + 1)),
            "rules are 1048577 bytes, limit is 1048576 (Rules::MAX_LEN)"
        );
    }

    #[cfg(feature = "toml")]
    #[test]
    fn mistakes_in_toml_name_their_lines() {
        assert!(parse("").unwrap().0.is_empty());
        let rule = |line: &str| mistake(&format!("[[rules]]\nname = \"x\"\n{line}\n"));
        for (line, message) in [
            ("timeout = \"soon\"", "line 3 of the rules: time \"soon\" is invalid, must be above 0 such as"),
            ("timeout = \"0s\"", "line 3 of the rules: time \"0s\" is invalid"),
            ("hedge = true", "line 3 of the rules: invalid value: boolean `true`, expected false, a time"),
            ("hedge = \"p100\"", "line 3 of the rules: percentile \"p100\" is invalid"),
            ("retries = 17", "line 3 of the rules: retries is 17, must be at most 16"),
            ("balance = \"best\"", "line 3 of the rules: balance \"best\" is unknown"),
            ("max_concurrent = 0", "line 3 of the rules: invalid value: integer `0`"),
            ("service = \"a b\"", "line 3 of the rules: service id `a b:1` is invalid"),
            ("tags = [{ tag = \"a,b\" }]", "line 3 of the rules: tag \"a,b\" is invalid"),
            ("tags = [{ tag = \"a\", percent = 101 }]", "line 3 of the rules: percent is 101, must be 0 to 100"),
            ("tags = [{ tag = \"a\", metadata = \"Ä\" }]", "line 3 of the rules: "),
            ("name = \"y\"", "line 3 of the rules: duplicate key"),
        ] {
            assert!(rule(line).starts_with(message), "{line}: {}", rule(line));
        }
    }

    /// The schema in the documents has exactly the fields of this module.
    #[test]
    fn schema_lists_the_fields() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.schema.json");
        let schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let fields = |pointer: &str| -> BTreeSet<String> {
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        // The error of an unknown field lists the known ones.
        let known = |text: &str| -> BTreeSet<String> {
            let message = mistake(text);
            let list = message.split_once("expected ").unwrap().1;
            list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        assert_eq!(fields("/properties"), known(r#"{"x": 1}"#));
        assert_eq!(fields("/$defs/rule/properties"), known(r#"{"rules": [{"x": 1}]}"#));
        assert_eq!(fields("/$defs/tag/properties"), known(r#"{"rules": [{"tags": [{"x": 1}]}]}"#));
    }
}
