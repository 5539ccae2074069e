//! [`Overrides`]: the changes of an operator to the instances of one service, in a file of its directory.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
};

use rpc_core::Instance;
use serde::{Deserialize, Serialize};

use super::service_directory::ServiceDirectory;
use crate::InstanceChange;

/// The changed properties by address. They outlive the provider's process.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Overrides {
    format: u32,
    instances: BTreeMap<SocketAddr, Override>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Override {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

/// The name of the file. Earlier versions of msnb skip it, because it is not the name of an announcement.
const FILE: &str = "overrides.json";

/// The only format version. Readers reject files of other versions.
const FORMAT: u32 = 1;

/// The maximum length of the file, in bytes: about 10 000 instances.
const MAX_LEN: u64 = 1024 * 1024;

impl Overrides {
    /// Reads the file; without it, there are no overrides. Blocks.
    pub(super) fn read(directory: &ServiceDirectory) -> io::Result<Self> {
        let Some(file) = directory.open_file(FILE)? else { return Ok(Self::default()) };
        let mut text = Vec::new();
        file.take(MAX_LEN + 1).read_to_end(&mut text)?;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {what}"));
        if text.len() as u64 > MAX_LEN {
            return Err(invalid(format!("the file is longer than {MAX_LEN} bytes")));
        }
        let read: Self = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if read.format != FORMAT {
            return Err(invalid(format!("the file has format version {}, supported is {FORMAT}", read.format)));
        }
        Ok(read)
    }

    /// Returns the instance with the changes of the operator.
    pub(super) fn apply(&self, instance: Instance) -> Instance {
        match self.instances.get(&instance.address()) {
            Some(Override { enabled, weight }) => InstanceChange { enabled: *enabled, weight: *weight }.apply(instance),
            None => instance,
        }
    }

    fn add(&mut self, address: SocketAddr, change: InstanceChange) {
        let entry = self.instances.entry(address).or_default();
        entry.enabled = change.enabled.or(entry.enabled).filter(|enabled| !enabled);
        entry.weight = change.weight.or(entry.weight);
        if *entry == Override::default() {
            self.instances.remove(&address);
        }
    }
}

/// Adds a change to the file of a service, which is written as `unpublished` first. Of two simultaneous changes, one may be lost. Blocks.
pub(super) fn change(
    directory: &Path,
    unpublished: &str,
    address: SocketAddr,
    change: InstanceChange,
) -> io::Result<()> {
    let directory = ServiceDirectory::open_or_create(directory)?;
    let mut overrides = Overrides::read(&directory)?;
    overrides.format = FORMAT;
    overrides.add(address, change);
    if overrides.instances.is_empty() {
        return directory.remove(FILE);
    }
    let text = serde_json::to_vec(&overrides)?;
    if text.len() as u64 > MAX_LEN {
        let message = format!("the overrides are {} bytes, limit is {MAX_LEN}", text.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // Readers find either the old or the new file. An abandoned file is removed like that of a provider.
    let mut file = directory.create_file(unpublished)?;
    file.write_all(&text)?;
    directory.rename(unpublished, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_kept_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let service = scratch.path().join("a@1");
        let read = || Overrides::read(&ServiceDirectory::open_or_create(&service).unwrap()).unwrap();
        let (one, other) = (([10, 0, 0, 1], 1).into(), ([10, 0, 0, 1], 2).into());
        change(&service, "1.new", one, InstanceChange { enabled: Some(false), weight: None }).unwrap();
        change(&service, "1.new", one, InstanceChange { enabled: None, weight: Some(3.0) }).unwrap();
        let expected = Instance::new(one).with_enabled(false).with_weight(3.0);
        assert_eq!(read().apply(Instance::new(one)), expected);
        assert_eq!(read().apply(Instance::new(other)), Instance::new(other));
        change(&service, "1.new", one, InstanceChange { enabled: Some(true), weight: None }).unwrap();
        assert_eq!(read().apply(Instance::new(one)), Instance::new(one).with_weight(3.0));
        change(&service, "1.new", other, InstanceChange { enabled: Some(true), weight: None }).unwrap();
        assert_eq!(read().instances.len(), 1);
    }

    #[test]
    fn other_files_are_rejected() {
        let scratch = tempfile::tempdir().unwrap();
        let service = scratch.path().join("a@1");
        let directory = ServiceDirectory::open_or_create(&service).unwrap();
        assert_eq!(Overrides::read(&directory).unwrap(), Overrides::default());
        for text in ["{", r#"{"format":2,"instances":{}}"#, &" ".repeat(MAX_LEN as usize + 1)] {
            std::fs::write(service.join(FILE), text).unwrap();
            assert!(Overrides::read(&directory).is_err());
        }
    }
}
