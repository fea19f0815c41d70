//! The part of a run that one shard sent. The report of a shard contains the sums behind its
//! values, so `llmload merge` can add up the shards without an error of rounding.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Level, LevelKind, RunInfo};
use crate::calendar::rfc3339;
use crate::pairing::PairedSnapshot;
use crate::schedule::Shard;
use crate::tally::TallySnapshot;

/// A shard of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    /// The number of the shard, from 0.
    pub index: u32,
    /// The number of shards of the run.
    pub of: u32,
    /// The start of the schedule on all shards, in the format of RFC 3339.
    pub start_at: String,
    /// The value of `--for`.
    pub time_limit_seconds: Option<f64>,
    /// The path of the configuration file. `None` if options defined the load.
    pub config_file: Option<String>,
    /// The sums of each route, for `llmload merge` of the same version.
    pub sums: Vec<RouteSums>,
}

/// The sums of one route in one shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteSums {
    pub tally: TallySnapshot,
    /// One entry per phase of `tally`.
    pub planned: Vec<PlannedPhase>,
    pub difference: PairedSnapshot,
    /// One entry per phase of `tally`.
    pub phase_differences: Vec<PairedSnapshot>,
}

/// The values of a phase in the schedule of all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedPhase {
    pub level: Option<Level>,
    pub arrivals: Option<u64>,
}

impl ShardReport {
    pub(super) fn new(
        shard: Shard,
        start: SystemTime,
        run: &RunInfo<'_>,
        sums: Vec<Option<RouteSums>>,
    ) -> ShardReport {
        ShardReport {
            index: shard.index(),
            of: shard.count(),
            start_at: rfc3339(start),
            time_limit_seconds: run.time_limit.map(|limit| limit.as_secs_f64()),
            config_file: run.config_file.clone(),
            sums: sums.into_iter().flatten().collect(),
        }
    }

    /// False if llmload cannot have written these values, so the file has been damaged.
    pub(super) fn is_plausible(&self) -> bool {
        let is_plausible = |sums: &RouteSums| {
            let phases = sums.tally.phases.len();
            sums.tally.is_plausible()
                && sums.planned.len() == phases
                && sums.phase_differences.len() == phases
        };
        self.index < self.of && self.sums.iter().all(is_plausible)
    }
}

impl RouteSums {
    /// Adds the sums of another shard.
    pub(super) fn add(&mut self, other: &RouteSums) {
        self.tally.add_shard(&other.tally);
        self.difference.merge(&other.difference);
        for (sums, others) in self.phase_differences.iter_mut().zip(&other.phase_differences) {
            sums.merge(others);
        }
    }
}

/// Returns the part of a level that one shard sends.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
pub(super) fn level_of_shard(level: Level, shard: Shard) -> Level {
    let value = match level.kind {
        LevelKind::Rate => level.value / f64::from(shard.count()),
        LevelKind::Concurrency => shard.part(level.value as u64) as f64,
    };
    Level { value, ..level }
}
