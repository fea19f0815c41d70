//! "Is it me?": the generator watches itself, and says so when it distorts what it measures.
//!
//! What is sent late is counted where it is sent ([`Generator::record_sent`]); a probe on the runtime that
//! requests run on tells how late that is; once a second both are read, with what the kernel tells of
//! the process and of its control group, and judged together.

mod cgroup;
mod distortion;
mod event_loop;
mod process;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

pub use cgroup::{Cgroup, Quota, Throttling};
pub use distortion::{DetectedDistortion, Distortion};
use distortion::{DistortionDetector, Reading};
pub use process::Process;

/// Where the kernel tells about processes.
const PROC: &str = "/proc";

/// What the generator knows of itself.
#[derive(Debug)]
pub struct Generator {
    booted: Option<u64>,
    levels: cgroup::Levels,
    /// Arrivals sent, or dropped as late, and those of them that were late.
    arrivals: AtomicU64,
    late: AtomicU64,
    probes: AtomicU64,
    delayed: AtomicU64,
    judge: Mutex<DistortionDetector>,
    /// What the kernel told last.
    told: Mutex<ResourceUsage>,
    /// It is being asked.
    asking: AtomicBool,
    /// Each kind of distortion that was claimed since the start, as it was first.
    ever: Mutex<Vec<DetectedDistortion>>,
}

/// What the kernel tells of it at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResourceUsage {
    /// The process.
    pub process: Process,
    /// Its control groups.
    pub cgroup: Cgroup,
}

impl ResourceUsage {
    /// How many CPUs the process may use: those that it may run on, but no more than its quota.
    pub fn cpus(&self) -> Option<f64> {
        let quota = self.cgroup.quota.map(|quota| quota.cpus);
        let here = self.process.cpus.map(f64::from);
        quota.zip(here).map(|(quota, here)| quota.min(here)).or(quota).or(here)
    }
}

impl Generator {
    /// This process, with nothing against it.
    pub fn new() -> Arc<Generator> {
        let (booted, levels) =
            (process::booted(Path::new(PROC)), cgroup::Levels::find(Path::new(PROC)));
        let told = ResourceUsage {
            process: Process::read(Path::new(PROC), booted),
            cgroup: levels.read(),
        };
        Arc::new(Generator {
            booted,
            levels,
            told: Mutex::new(told),
            asking: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            late: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            judge: Mutex::default(),
            ever: Mutex::default(),
        })
    }

    /// An arrival was sent, so long after it was due.
    pub fn record_sent(&self, lag: Duration) {
        self.arrivals.fetch_add(1, Relaxed);
        if lag > distortion::LAG {
            self.late.fetch_add(1, Relaxed);
        }
    }

    /// An arrival was so late that it was not sent.
    pub fn record_late_drop(&self) {
        self.arrivals.fetch_add(1, Relaxed);
        self.late.fetch_add(1, Relaxed);
    }

    /// What speaks against it.
    pub fn active_distortions(&self) -> Vec<DetectedDistortion> {
        self.lock().active_distortions().cloned().collect()
    }

    /// What spoke against it at any time, each kind as it was first.
    pub fn all_distortions(&self) -> Vec<DetectedDistortion> {
        self.ever.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the kernel told last.
    pub fn resource_usage(&self) -> ResourceUsage {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges what there is by now: once a second, and once more at the end of a run.
    pub async fn update(self: &Arc<Self>) {
        self.read_resource_usage().await;
        self.judge(self.reading(Instant::now(), &self.resource_usage()));
    }

    /// Asks the kernel anew, where that holds up nobody: a folder of ten thousand open files takes its time
    /// on an old one. Whoever asks while it is asked gets along with what it told last.
    pub async fn read_resource_usage(self: &Arc<Self>) {
        if self.asking.swap(true, Relaxed) {
            return;
        }
        let this = Arc::clone(self);
        // Without an answer, as when the runtime ends, what it told last stands.
        let _asked = tokio::task::spawn_blocking(move || {
            let process = Process::read(Path::new(PROC), this.booted);
            *this.told.lock().unwrap_or_else(PoisonError::into_inner) =
                ResourceUsage { process, cgroup: this.levels.read() };
            this.asking.store(false, Relaxed);
        })
        .await;
    }

    fn reading(&self, at: Instant, vitals: &ResourceUsage) -> Reading {
        // What was late is read first: counted meanwhile, it must not outnumber what it is a part of.
        let (late, delayed) = (self.late.load(Relaxed), self.delayed.load(Relaxed));
        Reading {
            at,
            late,
            delayed,
            arrivals: self.arrivals.load(Relaxed),
            probes: self.probes.load(Relaxed),
            cpu: vitals.process.cpu,
            cpus: vitals.cpus(),
            throttled: vitals.cgroup.throttling.map(|throttling| throttling.throttled),
            period: vitals.cgroup.period(),
            open_files: vitals.process.open_files,
            max_files: vitals.process.max_files,
        }
    }

    fn judge(&self, reading: Reading) {
        let change = self.lock().note(reading);
        for claim in change.began {
            let kind = claim.kind.as_str();
            tracing::warn!(kind, "llmload distorts what it measures: {}", claim.message);
            let mut ever = self.ever.lock().unwrap_or_else(PoisonError::into_inner);
            if ever.iter().all(|told| told.kind != claim.kind) {
                ever.push(claim);
            }
        }
        if change.recovered {
            tracing::info!("nothing distorts what llmload measures any more");
        }
    }

    fn lock(&self) -> MutexGuard<'_, DistortionDetector> {
        // A distortion is a value that a panic leaves whole.
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the generator for as long as it is polled; `delayed` is told how late the event loop was
/// at each instant at which it was looked at.
pub async fn watch(generator: Arc<Generator>, delayed: impl Fn(Duration)) {
    tokio::join!(look(&generator), probe(&generator, delayed));
}

async fn look(generator: &Arc<Generator>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        generator.update().await;
    }
}

async fn probe(generator: &Generator, delayed: impl Fn(Duration)) {
    let mut probe = event_loop::EventLoopProbe::new(Instant::now());
    loop {
        tokio::time::sleep_until(probe.next()).await;
        for delay in probe.woke(Instant::now()) {
            generator.probes.fetch_add(1, Relaxed);
            if delay > distortion::DELAY {
                generator.delayed.fetch_add(1, Relaxed);
            }
            delayed(delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_of_quota_and_affinity_is_what_it_may_use() {
        let cpus = |quota: Option<f64>, here| {
            let quota = quota.map(|cpus| Quota { cpus, period: Duration::from_millis(100) });
            let process = Process { cpus: here, ..Process::default() };
            ResourceUsage { process, cgroup: Cgroup { quota, throttling: None } }.cpus()
        };
        assert_eq!(cpus(Some(1.5), Some(4)), Some(1.5));
        assert_eq!(cpus(Some(8.0), Some(4)), Some(4.0));
        assert_eq!(cpus(None, Some(4)), Some(4.0));
        assert_eq!(cpus(Some(0.5), None), Some(0.5));
        assert_eq!(cpus(None, None), None);
    }

    #[tokio::test]
    async fn while_the_kernel_is_asked_what_it_told_last_stands() {
        let generator = Generator::new();
        let of_nothing = || *generator.told.lock().unwrap() = ResourceUsage::default();
        of_nothing();
        generator.asking.store(true, Relaxed);
        generator.read_resource_usage().await;
        assert_eq!(generator.resource_usage(), ResourceUsage::default());
        generator.asking.store(false, Relaxed);
        generator.read_resource_usage().await;
        assert!(generator.resource_usage().process.resident > Some(0));
        of_nothing();
        generator.read_resource_usage().await;
        assert!(generator.resource_usage().process.resident > Some(0), "it is asked again");
    }

    #[test]
    fn what_is_sent_late_or_not_at_all_counts_against_it() {
        let generator = Generator::new();
        let kinds = || {
            generator.active_distortions().into_iter().map(|claim| claim.kind).collect::<Vec<_>>()
        };
        let begin = Instant::now();
        let after = |seconds| {
            generator.reading(begin + Duration::from_secs(seconds), &ResourceUsage::default())
        };
        generator.judge(after(0));
        for _ in 0..198 {
            generator.record_sent(distortion::LAG);
        }
        generator.record_sent(distortion::LAG + Duration::from_nanos(1));
        generator.judge(after(1));
        assert_eq!(kinds(), []);
        generator.record_sent(Duration::ZERO);
        generator.record_late_drop();
        generator.judge(after(2));
        assert_eq!(kinds(), [], "2 of 200");
        generator.record_late_drop();
        generator.judge(after(3));
        assert_eq!(kinds(), [Distortion::DispatchLag]);
        // It recovers, and it is not forgotten.
        for second in (4..200).step_by(10) {
            generator.judge(after(second));
        }
        assert_eq!(kinds(), []);
        assert_eq!(generator.all_distortions().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_judged_once_a_second_and_recovers_after_a_quiet_half_minute() {
        let generator = Generator::new();
        let until = async |valid| {
            while generator.active_distortions().is_empty() != valid {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Instant::now()
        };
        let story = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let began = Instant::now();
            generator.record_sent(Duration::from_secs(1));
            let fell = until(false).await;
            assert!(fell - began < Duration::from_secs(2), "{:?}", fell - began);
            let stood = until(true).await - fell;
            assert!((58..62).contains(&stood.as_secs()), "{stood:?}");
        };
        tokio::select! {
            () = watch(Arc::clone(&generator), |_| {}) => {}
            () = story => {}
        }
    }

    /// The loop that is probed is the one that is held up.
    #[tokio::test]
    async fn a_loop_that_is_held_up_is_seen() {
        let generator = Generator::new();
        let told = Mutex::new(Vec::new());
        let watched = probe(&generator, |delay| told.lock().unwrap().push(delay));
        let hold_up = async {
            tokio::time::sleep(event_loop::INTERVAL).await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(600) {
                std::hint::spin_loop();
            }
            while generator.delayed.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = watched => {}
            () = hold_up => {}
        }
        // 600 ms hold six instants of the grid, all but the last of which were late for sure.
        assert!(generator.delayed.load(Relaxed) >= 5, "{generator:?}");
        let told = told.into_inner().unwrap();
        assert_eq!(told.len() as u64, generator.probes.load(Relaxed));
        assert!(told.iter().max() > Some(&Duration::from_millis(490)), "{told:?}");
    }
}
