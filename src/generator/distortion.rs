//! The detection of distortions. Each second, the detector compares the counters with their values
//! of 30 s ago.
//!
//! A distortion begins when this difference exceeds a threshold. It ends after 30 s in which no
//! difference exceeded the threshold. A short stall is in the differences for 30 s, so its
//! distortion lasts for about a minute. This prevents flapping, and no scrape misses a distortion.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::arrivals::ArrivalCounts;
use super::cgroup::MemoryUse;
use super::client_failures::FinishedCounts;
use super::event_loop::INTERVAL;
use crate::remedy::{STREAMS, client_remedy};

/// The time between the two compared readings.
const WINDOW: Duration = Duration::from_secs(30);
/// The probes of the event loop in a window.
#[allow(clippy::cast_possible_truncation)]
const PROBES: u64 = (WINDOW.as_millis() / INTERVAL.as_millis()) as u64;
/// The most readings: one for each second of a window, and one before it.
const READINGS: usize = 32;
/// If a distortion affects more than one in a hundred events, the 99th percentile is wrong.
const ONE_IN: u32 = 100;
/// An arrival with a longer dispatch lag is late. A fast server sends its first token in about this
/// time. The alert on `llmload_dispatch_lag_seconds` has the same limit.
pub(super) const LATE: Duration = Duration::from_millis(100);
/// A probe with a longer delay is delayed. At 40 tokens per second, a token arrives every 25 ms, so
/// after a longer delay llmload sees two tokens at once.
pub(super) const DELAYED: Duration = Duration::from_millis(25);
/// If a higher fraction of the CPUs, files or memory is in use, there is no reserve for a burst.
const FULL: f64 = 0.9;
/// Below this fraction of its CPUs, llmload had enough CPU.
const BUSY: f64 = 0.5;
/// The shortest time over which llmload judges its CPU usage, because the start of the process
/// needs much CPU.
const STARTED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distortion {
    /// llmload sends arrivals late, or drops them because they are too late.
    DispatchLag,
    /// llmload sees responses late.
    EventLoopDelay,
    /// The process has no CPU left.
    Cpu,
    /// The CPU quota of a cgroup stops the process again and again.
    Throttled,
    /// The process has nearly reached its limit of open files.
    Files,
    /// The memory of llmload has nearly reached its limit.
    Memory,
    /// Requests fail in llmload or on its machine, for example because no local port is free.
    ClientResource,
}

impl Distortion {
    pub const ALL: [Distortion; 7] = [
        Distortion::DispatchLag,
        Distortion::EventLoopDelay,
        Distortion::Cpu,
        Distortion::Throttled,
        Distortion::Files,
        Distortion::Memory,
        Distortion::ClientResource,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Distortion::DispatchLag => "dispatch_lag",
            Distortion::EventLoopDelay => "event_loop_delay",
            Distortion::Cpu => "cpu",
            Distortion::Throttled => "throttled",
            Distortion::Files => "files",
            Distortion::Memory => "memory",
            Distortion::ClientResource => "client_resource",
        }
    }

    /// Returns the effect on the measurements, as a sentence for people.
    pub fn effect(self) -> &'static str {
        match self {
            Distortion::DispatchLag => {
                "llmload does not send the scheduled load, because arrivals are late or dropped."
            }
            Distortion::EventLoopDelay => {
                "llmload sees responses late, so TTFT, inter-token latencies and durations are too \
                 high."
            }
            Distortion::Cpu => {
                "llmload has no CPU left, so it sends requests late and sees responses late."
            }
            Distortion::Throttled => {
                "The CPU limit stops llmload for a part of each period, so latencies are too high."
            }
            Distortion::Files => "The next requests can fail because llmload cannot open a socket.",
            Distortion::Memory => {
                "The kernel slows llmload down near the memory limit, and kills it at the limit."
            }
            Distortion::ClientResource => {
                "Requests fail because of llmload or its machine, so their failures say nothing \
                 about the target."
            }
        }
    }
}

/// The inputs at one instant. Counts and times are totals since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub at: Instant,
    /// The instant of the values from the kernel, which are at most about a second older.
    pub used_at: Instant,
    pub arrivals: ArrivalCounts,
    pub probes: u64,
    /// Probes with more delay than [`DELAYED`].
    pub delayed: u64,
    /// The CPU time of the process.
    pub cpu: Option<Duration>,
    /// The number of usable CPUs.
    pub cpus: Option<f64>,
    /// The periods in which the CPU quota stopped the process.
    pub throttled: Option<u64>,
    /// The length of such a period.
    pub period: Duration,
    pub open_files: Option<u64>,
    pub max_files: Option<u64>,
    pub memory: Option<MemoryUse>,
    pub finished: FinishedCounts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DetectedDistortion {
    pub kind: Distortion,
    /// The measured values and, after a semicolon, the remedy.
    pub message: String,
    /// The latest instant at which the threshold was exceeded.
    pub last: Instant,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    pub began: Vec<DetectedDistortion>,
    /// True if the last active distortion has just ended.
    pub recovered: bool,
}

#[derive(Debug, Default)]
pub(super) struct DistortionDetector {
    readings: VecDeque<Reading>,
    /// In the order of [`Distortion::ALL`].
    active: [Option<DetectedDistortion>; Distortion::ALL.len()],
}

/// The values of all inputs at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot(pub(super) Reading);

/// Returns the distortions between two readings.
pub(super) fn between(first: &Reading, last: &Reading) -> Vec<DetectedDistortion> {
    let detected = |kind: Distortion| {
        let message = kind.detect(first, last)?;
        Some(DetectedDistortion { kind, message, last: last.at })
    };
    Distortion::ALL.into_iter().filter_map(detected).collect()
}

impl DistortionDetector {
    pub(super) fn active_distortions(&self) -> impl Iterator<Item = &DetectedDistortion> {
        self.active.iter().flatten()
    }

    /// Adds the reading of this second.
    pub(super) fn add(&mut self, now: Reading) -> Change {
        let first = self.slide_window(now);
        let mut change = Change::default();
        let was_distorted = self.active_distortions().next().is_some();
        for (kind, active) in Distortion::ALL.into_iter().zip(&mut self.active) {
            if let Some(message) = kind.detect(&first, &now) {
                let detected = DetectedDistortion { kind, message, last: now.at };
                if active.is_none() {
                    change.began.push(detected.clone());
                }
                *active = Some(detected);
            } else if active.as_ref().is_some_and(|active| active.last + WINDOW <= now.at) {
                *active = None;
            }
        }
        change.recovered = was_distorted && self.active_distortions().next().is_none();
        change
    }

    /// Moves the window to end with `now`, and returns its first reading.
    fn slide_window(&mut self, now: Reading) -> Reading {
        let is_before = |reading: &Reading| reading.at + WINDOW <= now.at;
        let before = self.readings.partition_point(is_before);
        // The last reading before the window has the totals at the start of the window.
        self.readings.drain(..before.saturating_sub(1));
        self.readings.truncate(READINGS - 1);
        self.readings.push_back(now);
        self.readings.front().copied().unwrap_or(now)
    }
}

impl Distortion {
    /// Returns the measured values and the remedy, if the two readings show this distortion.
    fn detect(self, first: &Reading, last: &Reading) -> Option<String> {
        match self {
            Distortion::DispatchLag => dispatch_lag(first, last),
            Distortion::EventLoopDelay => event_loop_delay(first, last),
            Distortion::Cpu => cpu(first, last),
            Distortion::Throttled => throttled(first, last),
            Distortion::Files => files(last),
            Distortion::Memory => memory(last),
            Distortion::ClientResource => client_resource(first, last),
        }
    }
}

fn span(first: &Reading, last: &Reading) -> Duration {
    last.at.saturating_duration_since(first.at)
}

/// The time between the values from the kernel.
fn used_span(first: &Reading, last: &Reading) -> Duration {
    last.used_at.saturating_duration_since(first.used_at)
}

fn dispatch_lag(first: &Reading, last: &Reading) -> Option<String> {
    let arrivals = last.arrivals.total - first.arrivals.total;
    let late = last.arrivals.late - first.arrivals.late;
    let for_streams = last.arrivals.late_for_streams - first.arrivals.late_for_streams;
    let (cause, remedy) = if 2 * for_streams > late {
        (", most often because no HTTP/2 stream was free", STREAMS.to_owned())
    } else {
        ("", delay_remedy(first, last))
    };
    (late * u64::from(ONE_IN) > arrivals).then(|| {
        format!(
            "in the last {:.0} s, {late} of {arrivals} arrivals were sent more than {} ms late or \
             dropped as late{cause}; {remedy}",
            span(first, last).as_secs_f64(),
            LATE.as_millis(),
        )
    })
}

#[allow(clippy::cast_precision_loss)]
fn event_loop_delay(first: &Reading, last: &Reading) -> Option<String> {
    // Just after the start, the window has few probes. The percentage is of a full window, so one
    // delayed probe is no distortion.
    let probes = (last.probes - first.probes).max(PROBES);
    let delayed = last.delayed - first.delayed;
    (delayed * u64::from(ONE_IN) > probes).then(|| {
        format!(
            "the event loop was more than {} ms late for {:.1} % of the last {:.0} s; {}",
            DELAYED.as_millis(),
            delayed as f64 / probes as f64 * 100.0,
            span(first, last).max(WINDOW).as_secs_f64(),
            delay_remedy(first, last)
        )
    })
}

/// Returns the remedy for a delay. More CPU helps only if llmload used most of its CPU.
fn delay_remedy(first: &Reading, last: &Reading) -> String {
    match used_cpus(first, last).zip(last.cpus) {
        Some((used, cpus)) if used < BUSY * cpus => format!(
            "find out what stopped llmload, which used only {:.0} % of its CPU time: a suspended \
             machine, a stopped process, or other load on this machine",
            used / cpus * 100.0
        ),
        _ => {
            "give llmload more CPU, reduce the load, or spread it over several machines".to_owned()
        }
    }
}

fn used_cpus(first: &Reading, last: &Reading) -> Option<f64> {
    let seconds = used_span(first, last).as_secs_f64();
    let used = last.cpu?.saturating_sub(first.cpu?).as_secs_f64();
    (seconds > 0.0).then(|| used / seconds)
}

fn cpu(first: &Reading, last: &Reading) -> Option<String> {
    let cpus = last.cpus?;
    let span = used_span(first, last);
    let seconds = span.as_secs_f64();
    let used = used_cpus(first, last)?;
    (span >= STARTED && used > FULL * cpus).then(|| {
        format!(
            "in the last {seconds:.0} s, llmload used {used:.2} of the {cpus} CPUs that it can use; \
             give it more CPU, or reduce the load"
        )
    })
}

fn throttled(first: &Reading, last: &Reading) -> Option<String> {
    let periods = last.throttled?.saturating_sub(first.throttled?);
    let span = span(first, last);
    // The kernel reports the stopped time only as a sum over all CPUs. So each throttled period
    // counts with its full length.
    let stopped = last.period.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX));
    (stopped > span.max(WINDOW) / ONE_IN).then(|| {
        format!(
            "in the last {:.0} s, the CPU limit of its control group stopped llmload in {periods} \
             periods of {} ms; raise the limit (resources.limits.cpu in Kubernetes, --cpus in \
             Docker), or remove it",
            span.as_secs_f64(),
            last.period.as_millis()
        )
    })
}

#[allow(clippy::cast_precision_loss)]
fn files(last: &Reading) -> Option<String> {
    let (open, limit) = (last.open_files?, last.max_files?);
    (open as f64 > FULL * limit as f64).then(|| {
        format!(
            "llmload has {open} files open, and its limit is {limit}; raise `ulimit -n` (LimitNOFILE \
             in systemd), or lower max_concurrency"
        )
    })
}

#[allow(clippy::cast_precision_loss)]
fn memory(last: &Reading) -> Option<String> {
    let MemoryUse { used, limit } = last.memory?;
    (used as f64 > FULL * limit as f64).then(|| {
        format!(
            "the control group of llmload uses {} MiB of memory, and its limit is {} MiB; raise the \
             limit (resources.limits.memory in Kubernetes, --memory in Docker), or lower \
             max_concurrency",
            used >> 20,
            limit >> 20
        )
    })
}

fn client_resource(first: &Reading, last: &Reading) -> Option<String> {
    let finished = last.finished.since(&first.finished);
    let failed = finished.failed();
    let fault = finished.most_frequent()?;
    (failed * u64::from(ONE_IN) > finished.total).then(|| {
        format!(
            "in the last {:.0} s, {failed} of {} requests failed because of llmload or its \
             machine, most often because {}; {}",
            span(first, last).as_secs_f64(),
            finished.total,
            fault.meaning(),
            client_remedy(Some(fault))
        )
    })
}

#[cfg(test)]
mod tests;
