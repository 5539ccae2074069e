//! [`Provider`]: an instance in the registry, as commands print it.

use chrono::{DateTime, SecondsFormat};
use rpc_core::Instance;
use serde::Serialize;

use crate::printable::printable;

/// The properties of an instance, in the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Provider {
    pub(crate) address: String,
    pub(crate) weight: f64,
    enabled: bool,
    /// Whether the instance belongs to another framework.
    foreign: bool,
    pub(crate) zone: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) contract: Option<String>,
    /// The time of the start in UTC.
    pub(crate) started: Option<String>,
}

impl From<&Instance> for Provider {
    fn from(instance: &Instance) -> Self {
        let metadata = |key: &str| instance.metadata().get(key).filter(|value| !value.is_empty()).cloned();
        let started = metadata(Instance::STARTED).and_then(|seconds| {
            let time = DateTime::from_timestamp(seconds.parse().ok()?, 0)?;
            Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
        });
        let tags = metadata(Instance::TAGS).unwrap_or_default();
        Self {
            address: instance.address().to_string(),
            weight: instance.weight(),
            enabled: instance.is_enabled(),
            foreign: is_foreign(instance),
            zone: metadata(Instance::ZONE),
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            contract: metadata(Instance::CONTRACT),
            started,
        }
    }
}

impl Provider {
    /// The headings of [`cells`](Self::cells).
    pub(crate) const HEADINGS: [&str; 7] = ["ADDRESS", "WEIGHT", "STATE", "ZONE", "TAGS", "CONTRACT", "STARTED"];

    /// Returns whether clients may call the instance.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self { foreign: true, .. } => "foreign",
            Self { enabled: true, .. } => "enabled",
            _ => "disabled",
        }
    }

    /// Returns the properties as cells of a table.
    pub(crate) fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let tags = (!self.tags.is_empty()).then(|| self.tags.join(","));
        vec![
            printable(&self.address),
            self.weight.to_string(),
            self.state().to_owned(),
            printable(&or_dash(&self.zone)),
            printable(&or_dash(&tags)),
            printable(&or_dash(&self.contract)),
            or_dash(&self.started),
        ]
    }
}

/// Returns whether another framework has registered the instance, which clients of msnb do not call.
pub(crate) fn is_foreign(instance: &Instance) -> bool {
    instance.metadata().get("protocol").is_some_and(|protocol| protocol != "msnb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_become_cells() {
        let instance = Instance::new(([127, 0, 0, 1], 7788).into())
            .with_metadata(Instance::ZONE, "east\u{1b}[2J")
            .with_metadata(Instance::TAGS, "blue,green")
            .with_metadata(Instance::STARTED, "1700000000");
        let cells = Provider::from(&instance).cells();
        let expected = ["127.0.0.1:7788", "1", "enabled", "east\u{fffd}[2J", "blue,green", "-", "2023-11-14T22:13:20Z"];
        assert_eq!(cells, expected);
        let invalid = Instance::new(([127, 0, 0, 1], 1).into()).with_metadata(Instance::STARTED, "soon");
        assert_eq!(Provider::from(&invalid).cells()[6], "-");
        assert_eq!(Provider::from(&invalid.with_metadata("protocol", "dubbo")).cells()[2], "foreign");
    }
}
