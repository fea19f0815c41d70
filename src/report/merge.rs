//! Joins the reports of all shards of one run. The result has the values that one machine would
//! have reported: llmload adds up the sums and the distributions of the shards, and computes all
//! other values from them.

mod error;
mod route;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use error::MergeError;
use error::list;

use super::findings::{self, Circumstances};
use super::verdict::{self, Outcome};
use super::{Distortion, Reason, ReasonCode, Report, RouteReport, ShardReport, Tested, comparison};

/// The report of one shard.
#[derive(Clone, Debug)]
pub struct ShardRun {
    /// The argument of the command line.
    pub argument: String,
    pub report: Report,
}

/// One shard of the run.
struct Part<'a> {
    report: &'a Report,
    shard: &'a ShardReport,
}

/// Joins the reports of all shards of a run, in any order.
///
/// # Errors
/// If a report is not of a shard, if the reports are of different runs, or if a shard is missing
/// or is there twice.
pub fn merge(runs: &[ShardRun]) -> Result<Report, MergeError> {
    let parts = parts(runs)?;
    let [first, ..] = parts.as_slice() else { return Err(MergeError::NoReport) };
    let routes: Vec<RouteReport> = (0..first.report.routes.len())
        .map(|index| {
            let of_route = parts.iter().filter_map(|part| {
                Some((part.report.routes.get(index)?, part.shard.sums.get(index)?))
            });
            route::merge(&of_route.collect::<Vec<_>>())
        })
        .collect();
    let distortions = distortions(&parts);
    let interrupted = parts.iter().any(|part| part.report.interrupted);
    let limit = first.shard.time_limit_seconds;
    let time_limit = limit.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
    let end = verdict::End { error: error_of_a_shard(&parts), interrupted, time_limit };
    let mut verdict = verdict::judge(&routes, &distortions, end);
    if let Some(reason) = client_failures(&parts).filter(|reason| !verdict.has(reason.code)) {
        // The other shards do not make up for a shard whose machine has spoiled its part.
        (verdict.result, verdict.sure) = (Outcome::Invalid, false);
        verdict.reasons.push(reason);
    }
    let config_file = first.shard.config_file.as_deref();
    let circumstances = Circumstances { distortions: &distortions, time_limit, config_file };
    let started = parts.iter().map(|part| &part.report.started).min();
    Ok(Report {
        started: started.cloned().unwrap_or_default(),
        seconds: parts.iter().map(|part| part.report.seconds).fold(0.0, f64::max),
        interrupted,
        tested: tested(&parts),
        findings: findings::find(&routes, circumstances),
        verdict,
        distortions,
        side_by_side: comparison::side_by_side(&routes),
        routes,
        archive: None,
        shards: Some(first.shard.of),
        shard: None,
        ..first.report.clone()
    })
}

/// Returns all shards in the order of their numbers.
fn parts(runs: &[ShardRun]) -> Result<Vec<Part<'_>>, MergeError> {
    let mut by_index: BTreeMap<u32, (&ShardRun, Part<'_>)> = BTreeMap::new();
    let mut first: Option<(&ShardRun, &ShardReport)> = None;
    for run in runs {
        let report = &run.report;
        let shard = report
            .shard
            .as_ref()
            .ok_or_else(|| MergeError::NotAShard { argument: run.argument.clone() })?;
        let (other, of_other) = *first.get_or_insert((run, shard));
        if let Some(what) = difference((&other.report, of_other), (report, shard)) {
            return Err(MergeError::DifferentRuns {
                one: other.argument.clone(),
                other: run.argument.clone(),
                what,
            });
        }
        if let Some((known, _)) = by_index.insert(shard.index, (run, Part { report, shard })) {
            return Err(MergeError::Twice {
                index: shard.index,
                one: known.argument.clone(),
                other: run.argument.clone(),
            });
        }
    }
    let count = first.map_or(0, |(_, shard)| shard.of);
    let missing: Vec<u32> = (0..count).filter(|index| !by_index.contains_key(index)).collect();
    if !missing.is_empty() {
        return Err(MergeError::Missing { missing, count });
    }
    Ok(by_index.into_values().map(|(_, part)| part).collect())
}

/// Returns the first fact in which two reports differ, although all shards of a run share it.
fn difference(
    one: (&Report, &ShardReport),
    other: (&Report, &ShardReport),
) -> Option<&'static str> {
    let ((one, one_shard), (other, other_shard)) = (one, other);
    let facts = [
        (one.version == other.version, "versions of llmload"),
        (one_shard.of == other_shard.of, "numbers of shards"),
        (one_shard.start_at == other_shard.start_at, "starts (--start-at)"),
        (one.tested.config_hash == other.tested.config_hash, "configurations"),
        (one.seed == other.seed, "seeds"),
        (one_shard.time_limit_seconds == other_shard.time_limit_seconds, "lengths (--for)"),
        (have_same_routes((one, one_shard), (other, other_shard)), "schedules"),
    ];
    facts.into_iter().find(|(is_equal, _)| !is_equal).map(|(_, what)| what)
}

/// Returns true if both reports have the same routes, phases and objectives. The routes of a shard
/// whose target was never ready lack their model.
fn have_same_routes(one: (&Report, &ShardReport), other: (&Report, &ShardReport)) -> bool {
    let count = |(report, shard): (&Report, &ShardReport)| [report.routes.len(), shard.sums.len()];
    let routes = one.0.routes.iter().zip(&other.0.routes);
    let sums = one.1.sums.iter().zip(&other.1.sums);
    count(one) == count(other)
        && count(one)[0] == count(one)[1]
        && routes.zip(sums).all(|((one, other), (sums, other_sums))| {
            (&one.scenario, &one.target) == (&other.scenario, &other.target)
                && sums.planned == other_sums.planned
                && one.phases.len() == other.phases.len()
                && one.phases.len() == sums.tally.phases.len()
                && one.phases.iter().zip(&other.phases).all(|(one, other)| {
                    let criteria = |phase: &super::PhaseReport| -> Vec<String> {
                        phase.slo.iter().map(super::ObjectiveResult::criterion).collect()
                    };
                    (&one.name, &one.load) == (&other.name, &other.load)
                        && criteria(one) == criteria(other)
                })
        })
}

/// Returns the distortions of all shards, one of each kind.
fn distortions(parts: &[Part<'_>]) -> Vec<Distortion> {
    let mut kinds: Vec<(&Distortion, Vec<u32>)> = Vec::new();
    for part in parts {
        for distortion in &part.report.distortions {
            match kinds.iter_mut().find(|(known, _)| known.kind == distortion.kind) {
                Some((_, shards)) => shards.push(part.shard.index),
                None => kinds.push((distortion, vec![part.shard.index])),
            }
        }
    }
    let distortion = |(first, shards): (&Distortion, Vec<u32>)| Distortion {
        kind: first.kind.clone(),
        message: format!("{}: {}", list(&shards), first.message),
    };
    kinds.into_iter().map(distortion).collect()
}

/// Returns the error that ended the first shard that did not run to its end. Only such a reason
/// belongs to no route, besides distortions and the stop of a run.
fn error_of_a_shard(parts: &[Part<'_>]) -> Option<Reason> {
    let is_error = |reason: &&Reason| {
        let has_other_cause =
            matches!(reason.code, ReasonCode::Interrupted | ReasonCode::Distorted);
        reason.route.is_none() && !has_other_cause
    };
    parts.iter().find_map(|part| of_shard(part, part.report.verdict.reasons.iter().find(is_error)?))
}

/// Returns the reason of the first shard with too many failures in llmload or its machine.
fn client_failures(parts: &[Part<'_>]) -> Option<Reason> {
    let is_of_client = |reason: &&Reason| reason.code == ReasonCode::ClientFailures;
    parts
        .iter()
        .find_map(|part| of_shard(part, part.report.verdict.reasons.iter().find(is_of_client)?))
}

#[allow(clippy::unnecessary_wraps)]
fn of_shard(part: &Part<'_>, reason: &Reason) -> Option<Reason> {
    let text = format!("{}: {}", list(&[part.shard.index]), reason.text);
    Some(Reason { text, ..reason.clone() })
}

/// Returns the facts that all shards share, and the names of all machines.
fn tested(parts: &[Part<'_>]) -> Tested {
    /// The most machines that the report names.
    const MOST_NAMES: usize = 8;
    let all = || parts.iter().map(|part| &part.report.tested);
    let Some(first) = all().next() else { return Tested::default() };
    let mut hosts: Vec<&str> = all().filter_map(|tested| tested.host.as_deref()).collect();
    hosts.dedup();
    let hosts = match hosts.len() {
        0 => None,
        count if count > MOST_NAMES => Some(format!("{count} machines")),
        _ => Some(hosts.join(", ")),
    };
    let is_common = |is_equal: fn(&Tested, &Tested) -> bool| all().all(|one| is_equal(one, first));
    Tested {
        title: first.title.clone().filter(|_| is_common(|one, other| one.title == other.title)),
        labels: first
            .labels
            .iter()
            .filter(|(name, value)| all().all(|tested| tested.labels.get(*name) == Some(*value)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        command: first.command.clone(),
        config_hash: first.config_hash.clone(),
        host: hosts,
        os: first.os.clone().filter(|_| is_common(|one, other| one.os == other.os)),
        cpu: first.cpu.clone().filter(|_| is_common(|one, other| one.cpu == other.cpu)),
        cpus: first.cpus.filter(|_| is_common(|one, other| one.cpus == other.cpus)),
    }
}
