//! [`Results`]: the measurements of a comparison.

use std::collections::BTreeMap;

use super::{measurement::Measurement, workload::Workload};
use crate::peers::Peer;

/// The measurement of each peer, for each workload.
pub(super) type Results = Vec<(Workload, BTreeMap<Peer, Measurement>)>;
