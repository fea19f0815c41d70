//! Whether the generator distorts what it measures: readings of the last half minute in, claims out.
//!
//! A claim stands from the first second whose window says so until none has said so for a whole
//! window. So it does not flap, and what happened once is seen for a minute: by every scrape.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::event_loop::INTERVAL;

/// What is judged together.
const WINDOW: Duration = Duration::from_secs(30);
/// The probes of a window in which none is missing.
#[allow(clippy::cast_possible_truncation)]
const PROBES: u64 = (WINDOW.as_millis() / INTERVAL.as_millis()) as u64;
/// No window holds more seconds, one before it included.
const READINGS: usize = 32;
/// One in a hundred: more of them, and they are what a 99th percentile is made of.
const FEW: u32 = 100;
/// An arrival that was sent later than this was late. The tenth of a second in which a first token comes at
/// best; the alert on the histogram of dispatch lag has the same edge.
pub(super) const LAG: Duration = Duration::from_millis(100);
/// An event seen later than this was seen late: the gap between tokens at 40 a second, so that tokens
/// run together from here on.
pub(super) const DELAY: Duration = Duration::from_millis(25);
/// Of the CPUs and of the files that there are: beyond it, the next burst finds none.
const FULL: f64 = 0.9;
/// CPU used in less time than this says how it started, not how it runs.
const STARTED: Duration = Duration::from_secs(10);

/// A way in which the generator distorts what it measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distortion {
    /// Arrivals are sent late, or so late that they are not sent.
    DispatchLag,
    /// What endpoints send is seen late.
    EventLoopDelay,
    /// The process has no CPU left.
    Cpu,
    /// Its control group stops it time and again.
    Throttled,
    /// Hardly any file is left to be opened.
    Files,
}

impl Distortion {
    /// Each of them.
    pub const ALL: [Distortion; 5] = [
        Distortion::DispatchLag,
        Distortion::EventLoopDelay,
        Distortion::Cpu,
        Distortion::Throttled,
        Distortion::Files,
    ];

    /// The value of the `kind` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Distortion::DispatchLag => "dispatch_lag",
            Distortion::EventLoopDelay => "event_loop_delay",
            Distortion::Cpu => "cpu",
            Distortion::Throttled => "throttled",
            Distortion::Files => "files",
        }
    }

    /// What it does to the figures.
    pub fn effect(self) -> &'static str {
        match self {
            Distortion::DispatchLag => "The load is not the one that the schedule asks for.",
            Distortion::EventLoopDelay => {
                "Answers are seen late: times to first token, gaps and durations read too long."
            }
            Distortion::Cpu => "The generator has no CPU left: it sends and sees late.",
            Distortion::Throttled => {
                "The generator is stopped for a part of each period of its CPU limit."
            }
            Distortion::Files => "The next requests may find no socket to go out by.",
        }
    }
}

/// What one second saw. Counts and times are those since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub at: Instant,
    /// Arrivals sent, or dropped as late.
    pub arrivals: u64,
    /// Those sent later than [`LAG`], or dropped as late.
    pub late: u64,
    /// Instants at which the event loop was looked at.
    pub probes: u64,
    /// Those at which it was later than [`DELAY`].
    pub delayed: u64,
    pub cpu: Option<Duration>,
    /// The CPUs that the process may use.
    pub cpus: Option<f64>,
    /// Periods in which its group was stopped.
    pub throttled: Option<u64>,
    /// Their length.
    pub period: Duration,
    pub open_files: Option<u64>,
    pub max_files: Option<u64>,
}

/// A distortion that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedDistortion {
    /// Which one.
    pub kind: Distortion,
    /// The figures, and the remedy.
    pub message: String,
    /// The last second whose window said so.
    pub last: Instant,
}

/// What a reading changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    pub began: Vec<DetectedDistortion>,
    pub recovered: bool,
}

/// The window, and the claims that stand.
#[derive(Debug, Default)]
pub(super) struct DistortionDetector {
    readings: VecDeque<Reading>,
    claims: [Option<DetectedDistortion>; Distortion::ALL.len()],
}

impl DistortionDetector {
    /// The claims that stand.
    pub(super) fn active_distortions(&self) -> impl Iterator<Item = &DetectedDistortion> {
        self.claims.iter().flatten()
    }

    /// Takes the reading of a second.
    pub(super) fn note(&mut self, now: Reading) -> Change {
        let window = |reading: &Reading| reading.at + WINDOW <= now.at;
        // The last one before the window stays: the window begins with what it read.
        let whole = self.readings.partition_point(window);
        self.readings.drain(..whole.saturating_sub(1));
        self.readings.truncate(READINGS - 1);
        self.readings.push_back(now);
        let first = self.readings.front().unwrap_or(&now);

        let mut change = Change::default();
        let stood = self.active_distortions().next().is_some();
        for (kind, claim) in Distortion::ALL.into_iter().zip(&mut self.claims) {
            if let Some(message) = kind.found(first, &now) {
                let new = DetectedDistortion { kind, message, last: now.at };
                if claim.is_none() {
                    change.began.push(new.clone());
                }
                *claim = Some(new);
            } else if claim.as_ref().is_some_and(|claim| claim.last + WINDOW <= now.at) {
                *claim = None;
            }
        }
        change.recovered = stood && self.active_distortions().next().is_none();
        change
    }
}

impl Distortion {
    /// The figures and the remedy, if what lies between two readings shows it.
    #[allow(clippy::cast_precision_loss)]
    fn found(self, first: &Reading, last: &Reading) -> Option<String> {
        let span = last.at.saturating_duration_since(first.at);
        let seconds = span.as_secs_f64();
        match self {
            Distortion::DispatchLag => {
                let arrivals = last.arrivals - first.arrivals;
                let late = last.late - first.late;
                (late * u64::from(FEW) > arrivals).then(|| {
                    format!(
                        "within {seconds:.0} s, {late} of {arrivals} arrivals were sent more than {LAG:?} late or \
                         dropped as late; give llmload more CPU, ask for less load, or spread it over several \
                         machines"
                    )
                })
            }
            Distortion::EventLoopDelay => {
                // At the start there are few, and one of them shall not speak for a whole window.
                let probes = (last.probes - first.probes).max(PROBES);
                let delayed = last.delayed - first.delayed;
                (delayed * u64::from(FEW) > probes).then(|| {
                    format!(
                        "the event loop was more than {DELAY:?} late for {:.1} % of the last {:.0} s; give llmload \
                         more CPU or a quieter machine, or ask for less load",
                        delayed as f64 / probes as f64 * 100.0,
                        seconds.max(WINDOW.as_secs_f64())
                    )
                })
            }
            Distortion::Cpu => {
                let cpus = last.cpus?;
                let used = last.cpu?.saturating_sub(first.cpu?).as_secs_f64() / seconds;
                (span >= STARTED && used > FULL * cpus).then(|| {
                    format!(
                        "within {seconds:.0} s, it used {used:.2} of the {cpus} CPUs that it may use; give it more, or \
                         ask for less load"
                    )
                })
            }
            Distortion::Throttled => {
                let throttled = last.throttled?.saturating_sub(first.throttled?);
                // At the most: how long a period stopped it is told for all CPUs together only.
                let stopped =
                    last.period.saturating_mul(u32::try_from(throttled).unwrap_or(u32::MAX));
                (stopped > span.max(WINDOW) / FEW).then(|| {
                    format!(
                        "within {seconds:.0} s, its control group was stopped in {throttled} periods of {:?} for want of \
                         CPU; raise its CPU limit (resources.limits.cpu in Kubernetes, --cpus in Docker), or take \
                         it away",
                        last.period
                    )
                })
            }
            Distortion::Files => {
                let (open, most) = (last.open_files?, last.max_files?);
                (open as f64 > FULL * most as f64).then(|| {
                    format!(
                        "{open} of the {most} files that it may open are open; raise `ulimit -n` (LimitNOFILE in \
                         systemd), or lower max_concurrency"
                    )
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator at rest, with all there is to read.
    fn rest(at: Instant) -> Reading {
        Reading {
            at,
            arrivals: 1_000_000,
            late: 500,
            probes: 50_000,
            delayed: 70,
            cpu: Some(Duration::from_secs(100)),
            cpus: Some(2.0),
            throttled: Some(40),
            period: Duration::from_millis(100),
            open_files: Some(100),
            max_files: Some(1000),
        }
    }

    /// The kinds that stand after a window at rest, then this.
    fn judged(after: impl Fn(&mut Reading)) -> Vec<Distortion> {
        let begin = Instant::now();
        let mut judge = DistortionDetector::default();
        judge.note(rest(begin));
        let mut last = rest(begin + WINDOW);
        last.probes += 300;
        after(&mut last);
        judge.note(last);
        judge.active_distortions().map(|claim| claim.kind).collect()
    }

    #[test]
    fn kinds_stand_in_the_order_of_their_claims() {
        for (i, kind) in Distortion::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
        }
    }

    #[test]
    fn each_is_claimed_just_beyond_its_threshold_and_by_itself() {
        type Case = (Option<Distortion>, fn(&mut Reading));
        let cases: [Case; 21] = [
            (None, |_| {}),
            (None, |r| (r.arrivals, r.late) = (r.arrivals + 1000, r.late + 10)),
            (Some(Distortion::DispatchLag), |r| {
                (r.arrivals, r.late) = (r.arrivals + 1000, r.late + 11)
            }),
            (Some(Distortion::DispatchLag), |r| {
                (r.arrivals, r.late) = (r.arrivals + 1, r.late + 1)
            }),
            (None, |r| r.delayed += 3),
            (Some(Distortion::EventLoopDelay), |r| r.delayed += 4),
            (None, |r| (r.probes, r.delayed) = (r.probes + 300, r.delayed + 6)),
            (None, |r| r.cpu = Some(Duration::from_secs(100 + 54))),
            (Some(Distortion::Cpu), |r| r.cpu = Some(Duration::from_millis(154_010))),
            (Some(Distortion::Cpu), |r| {
                (r.cpu, r.cpus) = (Some(Duration::from_secs(114)), Some(0.5))
            }),
            (None, |r| (r.cpu, r.cpus) = (Some(Duration::from_secs(113)), Some(0.5))),
            (None, |r| (r.cpu, r.cpus) = (Some(Duration::from_secs(160)), None)),
            (None, |r| (r.cpu, r.cpus) = (None, Some(0.1))),
            (None, |r| r.throttled = Some(43)),
            (Some(Distortion::Throttled), |r| r.throttled = Some(44)),
            (None, |r| (r.throttled, r.period) = (Some(46), Duration::from_millis(50))),
            (Some(Distortion::Throttled), |r| {
                (r.throttled, r.period) = (Some(47), Duration::from_millis(50));
            }),
            (None, |r| r.throttled = None),
            (None, |r| r.open_files = Some(900)),
            (Some(Distortion::Files), |r| r.open_files = Some(901)),
            (None, |r| (r.open_files, r.max_files) = (Some(901), None)),
        ];
        for (i, (expected, after)) in cases.into_iter().enumerate() {
            assert_eq!(judged(after), Vec::from_iter(expected), "case {i}");
        }
    }

    #[test]
    fn a_stop_is_claimed_at_once_said_once_and_over_after_a_quiet_window() {
        let begin = Instant::now();
        let mut judge = DistortionDetector::default();
        let reading = |second: u64, late: u64| {
            let mut reading = rest(begin + Duration::from_secs(second));
            reading.probes += second * 10;
            reading.arrivals += second * 200;
            reading.late += late;
            reading
        };
        for second in 0..100 {
            assert_eq!(judge.note(reading(second, 0)), Change::default(), "{second}");
        }
        // It stood still from second 99 to 102, at 200 arrivals a second.
        let change = judge.note(reading(102, 580));
        assert!(!change.recovered);
        let [claim] = &change.began[..] else { panic!("{change:?}") };
        assert_eq!(claim.kind, Distortion::DispatchLag);
        assert_eq!(
            claim.message,
            "within 30 s, 580 of 6000 arrivals were sent more than 100ms late or dropped as late; give llmload more \
             CPU, ask for less load, or spread it over several machines"
        );
        // The window holds it for half a minute, and then has to be quiet for another one.
        for second in 103..161 {
            assert_eq!(judge.note(reading(second, 580)), Change::default(), "{second}");
            assert_eq!(judge.active_distortions().count(), 1);
        }
        assert_eq!(judge.note(reading(161, 580)), Change { began: Vec::new(), recovered: true });
        assert_eq!(judge.active_distortions().count(), 0);
        assert_eq!(judge.note(reading(162, 580)), Change::default());
        assert_eq!(judge.note(reading(163, 700)).began.len(), 1, "and again");
    }

    #[test]
    fn it_recovers_when_the_last_of_several_is_over() {
        let begin = Instant::now();
        let mut judge = DistortionDetector::default();
        let mut reading = rest(begin);
        reading.open_files = Some(950);
        assert_eq!(judge.note(reading).began.len(), 1);
        reading.at += Duration::from_secs(20);
        reading.throttled = Some(400);
        assert_eq!(judge.note(reading).began.len(), 1);
        reading.open_files = Some(10);
        for second in 21..100 {
            reading.at = begin + Duration::from_secs(second);
            let change = judge.note(reading);
            let expected = match second {
                ..50 => 2,
                50..79 => 1,
                _ => 0,
            };
            assert_eq!(judge.active_distortions().count(), expected, "{second}");
            assert_eq!(change.recovered, second == 79, "{second}");
        }
    }

    #[test]
    fn cpu_used_to_start_and_a_late_probe_at_the_start_are_no_verdict() {
        let begin = Instant::now();
        let mut judge = DistortionDetector::default();
        judge.note(rest(begin));
        for second in 1..=10 {
            let mut reading = rest(begin + Duration::from_secs(second));
            reading.probes += second * 10;
            reading.delayed += 3;
            reading.cpu = reading.cpu.map(|cpu| cpu + Duration::from_secs(2 * second));
            let began = judge.note(reading).began;
            assert_eq!(began.len(), usize::from(second == 10), "{began:?}");
        }
    }

    #[test]
    fn the_window_does_not_grow() {
        let begin = Instant::now();
        let mut judge = DistortionDetector::default();
        for k in 0..10_000 {
            judge.note(rest(begin + Duration::from_millis(k * 137)));
        }
        assert!(judge.readings.len() <= READINGS);
    }

    #[test]
    fn every_message_ends_with_a_remedy() {
        let first = rest(Instant::now());
        let mut last = rest(first.at + WINDOW);
        (last.arrivals, last.late, last.probes, last.delayed) = (1_000_010, 510, 50_300, 300);
        (last.cpu, last.throttled) = (Some(Duration::from_secs(160)), Some(50));
        last.open_files = Some(1000);
        for kind in Distortion::ALL {
            let message = kind.found(&first, &last).unwrap();
            assert!(
                message.split_once("; ").is_some_and(|(_, remedy)| !remedy.is_empty()),
                "{message}"
            );
            assert!(kind.effect().ends_with('.'));
        }
    }
}
