//! Self-monitoring: llmload, the load generator, detects when it distorts its own measurements.
//!
//! The detection has four inputs:
//!
//! - Late arrivals: [`GeneratorMonitor::record_sent`] and [`GeneratorMonitor::record_late_drop`].
//! - The delay of the event loop. A probe, which is a timer that is due ten times a second,
//!   measures it on the runtime that also runs the requests.
//! - Requests that fail in llmload or its machine: [`GeneratorMonitor::record_finished`].
//! - Values from the kernel about the process and its cgroups.
//!
//! The monitor also counts and logs steps of the wall clock. They distort no measurement, because
//! durations are on the monotonic clock. But they change the load of a schedule that follows the
//! wall clock.

mod arrivals;
mod cgroup;
mod client_failures;
mod distortion;
mod event_loop;
mod process;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::HumanDuration;
use crate::launch::read_clocks;
use crate::timetable::{Moment, StepDetector, StepDirection};
use arrivals::ArrivalCounter;
pub use cgroup::{Cgroup, CpuQuota, MemoryUse, Throttling, memory_limit};
use client_failures::FinishedCounter;
use distortion::{DELAYED, DistortionDetector, Reading};
pub use distortion::{DetectedDistortion, Distortion, Snapshot};
use event_loop::{EventLoopProbe, RecentLoad};
pub use process::Process;

use crate::measurement::FailureDetail;

const PROC: &str = "/proc";
/// The longest wait for new values from the kernel.
const READ_TIMEOUT: Duration = Duration::from_millis(250);

/// The monitor whose resource usage is read, and the signal that the reading is complete.
type ReadRequest = (Arc<GeneratorMonitor>, oneshot::Sender<()>);

#[derive(Debug)]
pub struct GeneratorMonitor {
    /// In seconds of Unix time.
    boot_time: Option<u64>,
    groups: cgroup::Groups,
    arrivals: ArrivalCounter,
    /// The probes of the event loop.
    probes: AtomicU64,
    /// The delayed probes.
    delayed: AtomicU64,
    finished: FinishedCounter,
    detector: Mutex<DistortionDetector>,
    resource_usage: Mutex<ResourceUsage>,
    /// True while the thread reads the resource usage.
    is_reading: AtomicBool,
    /// Starts a reading in the thread.
    reader: OnceLock<SyncSender<ReadRequest>>,
    /// The first distortion of each kind since the start.
    first_distortions: Mutex<Vec<DetectedDistortion>>,
    clock: Mutex<ClockMonitor>,
}

#[derive(Debug, Default)]
struct ClockMonitor {
    detector: StepDetector,
    /// In the order of [`StepDirection::ALL`].
    steps: [u64; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResourceUsage {
    pub process: Process,
    pub cgroup: Cgroup,
    /// `None` before the first reading.
    pub read_at: Option<Instant>,
}

impl ResourceUsage {
    /// Returns the number of usable CPUs: the smaller of the CPU affinity and the CPU quota.
    pub fn cpus(&self) -> Option<f64> {
        let quota = self.cgroup.quota.map(|quota| quota.cpus);
        let affinity = self.process.cpus.map(f64::from);
        [quota, affinity].into_iter().flatten().reduce(f64::min)
    }
}

impl GeneratorMonitor {
    pub fn new() -> Arc<GeneratorMonitor> {
        let proc = Path::new(PROC);
        let boot_time = process::boot_time(proc);
        let groups = cgroup::Groups::find(proc);
        let usage = ResourceUsage {
            process: Process::read(proc, boot_time),
            cgroup: groups.read(),
            read_at: Some(Instant::now()),
        };
        Arc::new(GeneratorMonitor {
            boot_time,
            groups,
            resource_usage: Mutex::new(usage),
            is_reading: AtomicBool::new(false),
            reader: OnceLock::new(),
            arrivals: ArrivalCounter::default(),
            probes: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            finished: FinishedCounter::default(),
            detector: Mutex::default(),
            first_distortions: Mutex::default(),
            clock: Mutex::default(),
        })
    }

    /// Counts an arrival with its dispatch lag, of which `waited` was a wait for an HTTP/2 stream.
    pub fn record_sent(&self, lag: Duration, waited: Duration) {
        self.arrivals.record_sent(lag, waited);
    }

    /// Counts an arrival that llmload dropped because it was late.
    pub fn record_late_drop(&self) {
        self.arrivals.record_late_drop();
    }

    /// Counts a finished request. `failure` is `None` if it succeeded.
    pub fn record_finished(&self, failure: Option<&FailureDetail>) {
        self.finished.record(failure);
    }

    pub fn active_distortions(&self) -> Vec<DetectedDistortion> {
        self.detector().active_distortions().cloned().collect()
    }

    /// Returns the values of all inputs now. [`GeneratorMonitor::distortions_since`] compares them.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.reading(Instant::now(), &self.resource_usage()))
    }

    /// Returns the distortions between a snapshot and now. The thresholds are those of 30 s, so a
    /// shorter time must contain as many delays.
    pub fn distortions_since(&self, since: &Snapshot) -> Vec<DetectedDistortion> {
        distortion::between(&since.0, &self.snapshot().0)
    }

    /// Returns the first distortion of each kind since the start, even if it has ended.
    pub fn first_distortions(&self) -> Vec<DetectedDistortion> {
        self.first_distortions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the latest values from the kernel.
    pub fn resource_usage(&self) -> ResourceUsage {
        *self.resource_usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn clock_steps(&self) -> [(StepDirection, u64); 2] {
        let steps = self.clock().steps;
        [(StepDirection::Forward, steps[0]), (StepDirection::Backward, steps[1])]
    }

    /// Logs and counts a step of the wall clock.
    fn observe_clocks(&self, now: Moment) {
        let mut clock = self.clock();
        let Some(step) = clock.detector.step_at(now) else { return };
        clock.detector.accept(step);
        let (direction, size) = step.extent();
        let (index, cause) = match direction {
            StepDirection::Forward => (0, "somebody set it, or the machine was suspended"),
            StepDirection::Backward => (1, "somebody set it"),
        };
        clock.steps[index] += 1;
        // The clocks are read one after the other, so microseconds would be noise.
        let milliseconds = (size + Duration::from_micros(500)).as_millis();
        let size = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX));
        let size = HumanDuration(size);
        let direction = direction.as_str();
        tracing::warn!(
            "the wall clock moved {size} {direction} relative to the monotonic clock, because \
             {cause}; schedules with `wall_clock`, `cron` or `active` continue at the new time"
        );
    }

    /// Reads all inputs and updates the distortions. Must be called each second, and at the end of
    /// a run.
    pub async fn update(self: &Arc<Self>) {
        self.read_resource_usage().await;
        self.detect(self.reading(Instant::now(), &self.resource_usage()));
    }

    /// Reads the values from the kernel in a separate thread, because an old kernel lists ten
    /// thousand open files slowly. If the thread is busy or needs more than `READ_TIMEOUT`, the
    /// previous values remain.
    pub async fn read_resource_usage(self: &Arc<Self>) {
        if self.is_reading.swap(true, Relaxed) {
            return;
        }
        let (done, read) = oneshot::channel();
        let reader = self.reader.get_or_init(start_reader);
        if reader.try_send((Arc::clone(self), done)).is_ok() {
            let _in_time = tokio::time::timeout(READ_TIMEOUT, read).await;
        }
    }

    fn read_now(&self) {
        let process = Process::read(Path::new(PROC), self.boot_time);
        *self.resource_usage.lock().unwrap_or_else(PoisonError::into_inner) =
            ResourceUsage { process, cgroup: self.groups.read(), read_at: Some(Instant::now()) };
        self.is_reading.store(false, Relaxed);
    }

    fn reading(&self, at: Instant, usage: &ResourceUsage) -> Reading {
        // `delayed` is read first. Otherwise a probe that arrives in between could make `delayed`
        // larger than `probes`.
        let delayed = self.delayed.load(Relaxed);
        Reading {
            at,
            used_at: usage.read_at.unwrap_or(at),
            delayed,
            arrivals: self.arrivals.read(),
            probes: self.probes.load(Relaxed),
            cpu: usage.process.cpu,
            cpus: usage.cpus(),
            throttled: usage.cgroup.throttling.map(|throttling| throttling.throttled),
            period: usage.cgroup.period(),
            open_files: usage.process.open_files,
            max_files: usage.process.max_files,
            memory: usage.cgroup.memory,
            finished: self.finished.read(),
        }
    }

    fn detect(&self, reading: Reading) {
        let change = self.detector().add(reading);
        for distortion in change.began {
            let kind = distortion.kind.as_str();
            tracing::warn!(kind, "llmload distorts the measurement: {}", distortion.message);
            let mut all = self.first_distortions.lock().unwrap_or_else(PoisonError::into_inner);
            if all.iter().all(|earlier| earlier.kind != distortion.kind) {
                all.push(distortion);
            }
        }
        if change.recovered {
            tracing::info!("llmload no longer distorts the measurement");
        }
    }

    fn clock(&self) -> MutexGuard<'_, ClockMonitor> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detector(&self) -> MutexGuard<'_, DistortionDetector> {
        // A panic leaves the detector valid, so poisoning is ignored.
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread ends when the monitor is dropped.
fn start_reader() -> SyncSender<ReadRequest> {
    let (sender, requests) = mpsc::sync_channel::<ReadRequest>(1);
    let read = move || {
        for (generator, done) in requests {
            generator.read_now();
            // The caller possibly no longer waits.
            let _gone = done.send(());
        }
    };
    if let Err(error) = std::thread::Builder::new().name("resource-usage".to_owned()).spawn(read) {
        tracing::warn!(%error, "llmload cannot watch its CPU and files: no thread could start");
    }
    sender
}

/// Runs the monitor until the future is dropped. `has_requests` returns true if requests are in
/// flight. `on_delay` gets the delay of the event loop at each probe.
pub async fn watch(
    generator: Arc<GeneratorMonitor>,
    has_requests: impl Fn() -> bool,
    on_delay: impl Fn(Duration),
) {
    let probe = probe_event_loop(&generator, has_requests, on_delay);
    tokio::join!(update_each_second(&generator), probe);
}

async fn update_each_second(generator: &Arc<GeneratorMonitor>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        generator.observe_clocks(read_clocks());
        generator.update().await;
    }
}

/// Probes the event loop until the future is dropped. `on_delay` gets the delay of each probe.
async fn probe_event_loop(
    generator: &GeneratorMonitor,
    has_requests: impl Fn() -> bool,
    on_delay: impl Fn(Duration),
) {
    let mut probe = EventLoopProbe::new(Instant::now());
    let mut load = RecentLoad::new(Instant::now());
    loop {
        tokio::time::sleep_until(probe.next()).await;
        let now = Instant::now();
        for delay in probe.delays_at(now) {
            generator.probes.fetch_add(1, Relaxed);
            if delay > DELAYED {
                generator.delayed.fetch_add(1, Relaxed);
            }
            on_delay(delay);
        }
        if !load.was_seen(now, generator.arrivals.read().total, has_requests()) {
            probe.skip_idle_time();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_cpu_quota_and_cpu_affinity_limits_the_cpus() {
        let cpus = |quota: Option<f64>, affinity| {
            let quota = quota.map(|cpus| CpuQuota { cpus, period: Duration::from_millis(100) });
            let process = Process { cpus: affinity, ..Process::default() };
            let cgroup = Cgroup { quota, ..Cgroup::default() };
            ResourceUsage { process, cgroup, ..ResourceUsage::default() }.cpus()
        };
        assert_eq!(cpus(Some(1.5), Some(4)), Some(1.5));
        assert_eq!(cpus(Some(8.0), Some(4)), Some(4.0));
        assert_eq!(cpus(None, Some(4)), Some(4.0));
        assert_eq!(cpus(Some(0.5), None), Some(0.5));
        assert_eq!(cpus(None, None), None);
    }

    #[tokio::test]
    async fn a_call_during_another_call_keeps_the_previous_values() {
        let generator = GeneratorMonitor::new();
        let reset = || *generator.resource_usage.lock().unwrap() = ResourceUsage::default();
        reset();
        generator.is_reading.store(true, Relaxed);
        generator.read_resource_usage().await;
        assert_eq!(generator.resource_usage(), ResourceUsage::default());
        generator.is_reading.store(false, Relaxed);
        generator.read_resource_usage().await;
        assert!(generator.resource_usage().process.resident > Some(0));
        reset();
        generator.read_resource_usage().await;
        assert!(generator.resource_usage().process.resident > Some(0), "the next call reads again");
    }

    #[test]
    fn late_arrivals_above_one_percent_are_a_distortion() {
        let generator = GeneratorMonitor::new();
        let kinds = || {
            generator.active_distortions().into_iter().map(|active| active.kind).collect::<Vec<_>>()
        };
        let begin = Instant::now();
        let after = |seconds| {
            generator.reading(begin + Duration::from_secs(seconds), &ResourceUsage::default())
        };
        generator.detect(after(0));
        for _ in 0..198 {
            generator.record_sent(distortion::LATE, Duration::ZERO);
        }
        generator.record_sent(distortion::LATE + Duration::from_nanos(1), Duration::ZERO);
        generator.detect(after(1));
        assert_eq!(kinds(), []);
        generator.record_sent(Duration::ZERO, Duration::ZERO);
        generator.record_late_drop();
        generator.detect(after(2));
        assert_eq!(kinds(), [], "2 of 200");
        generator.record_late_drop();
        generator.detect(after(3));
        assert_eq!(kinds(), [Distortion::DispatchLag]);
        // The distortion ends, but `first_distortions` keeps it.
        for second in (4..200).step_by(10) {
            generator.detect(after(second));
        }
        assert_eq!(kinds(), []);
        assert_eq!(generator.first_distortions().len(), 1);
    }

    #[test]
    fn a_step_of_the_wall_clock_is_counted_once_in_its_direction() {
        let generator = GeneratorMonitor::new();
        let (instant, wall) = (Instant::now(), std::time::SystemTime::UNIX_EPOCH);
        for (second, shown) in
            [(0, 9000), (5, 9005), (6, 9007), (7, 9107), (8, 9108), (9, 5109), (10, 5110)]
        {
            generator.observe_clocks(Moment {
                instant: instant + Duration::from_secs(second),
                wall: wall + Duration::from_secs(shown),
            });
        }
        assert_eq!(
            generator.clock_steps(),
            [(StepDirection::Forward, 1), (StepDirection::Backward, 1)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_distortion_begins_within_two_seconds_and_ends_about_a_minute_after_its_last_event() {
        let generator = GeneratorMonitor::new();
        let until = async |valid| {
            while generator.active_distortions().is_empty() != valid {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Instant::now()
        };
        let events = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let began = Instant::now();
            generator.record_sent(Duration::from_secs(1), Duration::ZERO);
            let fell = until(false).await;
            assert!(fell - began < Duration::from_secs(2), "{:?}", fell - began);
            let lasted = until(true).await - fell;
            assert!((58..62).contains(&lasted.as_secs()), "{lasted:?}");
        };
        tokio::select! {
            () = watch(Arc::clone(&generator), || true, |_| {}) => {}
            () = events => {}
        }
    }
}
