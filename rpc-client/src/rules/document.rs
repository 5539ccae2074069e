//! The text of a document of rules.

use std::{fmt, num::NonZeroU32, time::Duration};

use rpc_core::{CallOptions, Code, Error, Metadata, ServiceId};
use serde::{Deserialize, Deserializer, de};

use super::{Rules, rule::Rule};
use crate::discovery::balance::Balance;

/// A document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

/// One rule of a document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleEntry {
    pub(super) name: Option<String>,
    pub(super) service: Option<ServicePattern>,
    pub(super) method: Option<String>,
    pub(super) timeout: Option<Time>,
    pub(super) retries: Option<Retries>,
    pub(super) hedge: Option<HedgeTime>,
    pub(super) balance: Option<BalanceName>,
    pub(super) max_concurrent: Option<NonZeroU32>,
    #[serde(default)]
    pub(super) tags: Vec<TagEntry>,
}

/// A tag that a rule sets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TagEntry {
    pub(super) tag: Tag,
    /// The key of the metadata entry that the call must have.
    pub(super) metadata: Option<MetadataKey>,
    /// The value that the entry must have.
    pub(super) value: Option<String>,
    #[serde(default)]
    pub(super) percent: Percent,
    #[serde(default)]
    pub(super) force: bool,
}

/// The service of a rule: its name, or its name and version.
#[derive(Debug)]
pub(super) struct ServicePattern {
    name: String,
    version: Option<String>,
}

impl ServicePattern {
    pub(super) fn matches(&self, service: &ServiceId) -> bool {
        self.name == service.name() && self.version.as_deref().is_none_or(|version| version == service.version())
    }
}

/// A time such as `50ms`, `2s` or `1.5s`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

#[derive(Debug, Clone, Copy)]
pub(super) struct Retries(pub(super) u32);

/// When a call is hedged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum HedgeTime {
    Never,
    After(Duration),
    Percentile(f64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BalanceName(pub(super) Balance);

#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(pub(super) f64);

impl Default for Percent {
    fn default() -> Self {
        Self(100.0)
    }
}

/// A tag: letters, digits, `.`, `_` and `-`.
#[derive(Debug)]
pub(super) struct Tag(String);

impl std::ops::Deref for Tag {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[derive(Debug)]
pub(super) struct MetadataKey(String);

impl std::ops::Deref for MetadataKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Parses a document.
pub(super) fn parse(text: &str) -> Result<Rules, Error> {
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

/// Parses a time such as `50ms`, `2s`, `1.5s` or `1m`, above 0.
fn time(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time {text:?} is invalid, must be above 0 such as \"50ms\", \"2s\" or \"1m\"");
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(unit);
    let number: f64 = number.trim().parse().map_err(|_| invalid())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(invalid()),
    };
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    if time.is_zero() { Err(invalid()) } else { Ok(time) }
}

/// Deserializes a value from text.
fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| time(text).map(Self))
    }
}

impl<'de> Deserialize<'de> for ServicePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| {
            let (name, version) = match text.split_once(':') {
                Some((name, version)) => (name, Some(version.to_owned())),
                None => (text, None),
            };
            let checked = ServiceId::new(name, version.clone().unwrap_or_else(|| "1".to_owned()));
            checked.map_err(|error| error.message().to_owned())?;
            Ok(Self { name: name.to_owned(), version })
        })
    }
}

impl<'de> Deserialize<'de> for BalanceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| match text {
            "random" => Ok(Self(Balance::Random)),
            "round-robin" => Ok(Self(Balance::RoundRobin)),
            "two-choices" => Ok(Self(Balance::PowerOfTwoChoices)),
            "peak-ewma" => Ok(Self(Balance::PeakEwma)),
            _ => Err(format!("balance {text:?} is unknown, must be random, round-robin, two-choices or peak-ewma")),
        })
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if text.is_empty() || !text.bytes().all(legal) {
                return Err(format!("tag {text:?} is invalid, must be letters, digits, `.`, `_` and `-`"));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

impl<'de> Deserialize<'de> for MetadataKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| match Metadata::default().insert(text, "") {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(status) => Err(status.message().to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for Retries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (retries, limit) = (u32::deserialize(deserializer)?, CallOptions::MAX_RETRIES);
        if retries > limit {
            return Err(de::Error::custom(format!("retries is {retries}, must be at most {limit}")));
        }
        Ok(Self(retries))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(de::Error::custom(format!("percent is {percent}, must be 0 to 100")));
        }
        Ok(Self(percent))
    }
}

impl<'de> Deserialize<'de> for HedgeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = HedgeTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("false, a time such as \"50ms\", or a percentile such as \"p95\"")
            }

            fn visit_bool<E: de::Error>(self, hedge: bool) -> Result<HedgeTime, E> {
                if hedge { Err(E::invalid_value(de::Unexpected::Bool(true), &self)) } else { Ok(HedgeTime::Never) }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HedgeTime, E> {
                let Some(percent) = text.strip_prefix('p') else {
                    return time(text).map(HedgeTime::After).map_err(E::custom);
                };
                match percent.parse() {
                    Ok(percent) if (50.0..100.0).contains(&percent) => Ok(HedgeTime::Percentile(percent)),
                    _ => Err(E::custom(format!("percentile {text:?} is invalid, must be \"p50\" to below \"p100\""))),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::rng::RngSource;

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
