//! The fields of a document of rules.

use std::{fmt, num::NonZeroU32, time::Duration};

use rpc_core::{CallOptions, Metadata, ServiceId};
use serde::{Deserialize, Deserializer, de};

use crate::discovery::balance::Balance;

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
    /// The key of the metadata entry whose value decides whether a call is in the percentage.
    pub(super) sticky: Option<MetadataKey>,
    #[serde(default)]
    pub(super) force: bool,
}

/// The service of a rule: its name, or its name and version.
#[derive(Debug, PartialEq)]
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
            "latency-aware" => Ok(Self(Balance::LatencyAware)),
            "peak-ewma" => Ok(Self(Balance::PeakEwma)),
            _ => Err(format!(
                "balance {text:?} is unknown, must be random, round-robin, two-choices, latency-aware or peak-ewma"
            )),
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
