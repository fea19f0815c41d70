//! The resources of this machine: its CPUs and memory, and its GPUs if `nvidia-smi` knows some.
//!
//! A thread reads them, because a system call or a program can hang. No request and no scrape waits
//! for the thread: a scrape gets the latest values.

mod gpu;
mod host;
mod query;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Resources;
pub use gpu::Gpu;
pub use host::{CpuMode, Host};
use query::GpuReader;

/// The time between two readings of CPU and memory.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time between two looks at a program that still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The latest values. They are absent if the configuration does not request them, or if this
/// machine does not have them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub host: Option<Host>,
    pub gpus: Vec<Gpu>,
}

#[derive(Debug, Default)]
pub struct MachineMonitor {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Resources,
    snapshot: Snapshot,
    has_thread: bool,
}

impl MachineMonitor {
    /// Starts to read the resources in `wanted`, and forgets all others.
    pub fn configure(self: &Arc<Self>, wanted: Resources) {
        let mut state = self.state();
        state.wanted = wanted;
        if !wanted.host {
            state.snapshot.host = None;
        }
        if !wanted.gpu {
            state.snapshot.gpus.clear();
        }
        if wanted == Resources::default() || state.has_thread {
            return;
        }
        let monitor = Arc::downgrade(self);
        let started =
            thread::Builder::new().name("machine".to_owned()).spawn(move || watch(&monitor));
        match started {
            Ok(_) => state.has_thread = true,
            Err(error) => {
                tracing::warn!(%error, "no metrics of this machine: no thread could start");
            }
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.state().snapshot.clone()
    }

    /// Sets the values that a scrape with these resources has. `check` counts its series.
    pub fn set_any_host(&self, wanted: Resources) {
        self.state().snapshot.host = wanted.host.then(Host::default);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves the state valid, so poisoning is ignored.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the monitor is dropped, or when the configuration requests no resources.
fn watch(monitor: &Weak<MachineMonitor>) {
    let mut gpus = GpuReader::default();
    let mut next_host = Instant::now();
    loop {
        let Some(monitor) = monitor.upgrade() else { return };
        let wanted = monitor.state().wanted;
        let now = Instant::now();
        if wanted.host && now >= next_host {
            let host = Host::read();
            next_host = now + INTERVAL;
            monitor.update(|snapshot| snapshot.host = host);
        }
        if wanted.gpu {
            if let Some(read) = gpus.poll(now) {
                monitor.update(|snapshot| snapshot.gpus = read);
            }
        } else {
            gpus.stop(now);
        }
        let mut state = monitor.state();
        if state.wanted == Resources::default() && !gpus.is_busy() {
            state.has_thread = false;
            return;
        }
        drop(state);
        // While the thread sleeps, somebody else can drop the monitor.
        drop(monitor);
        thread::park_timeout(if gpus.is_busy() { POLL_INTERVAL } else { INTERVAL });
    }
}

impl MachineMonitor {
    /// Changes the snapshot. A reload can have removed a resource in the meantime.
    fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut state = self.state();
        change(&mut state.snapshot);
        if !state.wanted.host {
            state.snapshot.host = None;
        }
        if !state.wanted.gpu {
            state.snapshot.gpus.clear();
        }
    }
}
