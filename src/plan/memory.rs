//! The memory that a plan can need. The daemon and `check` compare it with the limit of the system.

use super::Plan;

/// The memory of llmload without requests, in bytes.
const BASE: u64 = 32 << 20;
/// The memory for a request in flight, in bytes: its connection, its buffers and its task. Measured
/// with 2,000 streams: 35 KiB.
const PER_REQUEST: u64 = 48 << 10;

impl Plan {
    /// Estimates the memory with `max_concurrency` requests in flight in each scenario, in bytes.
    /// The prompts are not included.
    pub fn peak_memory(&self) -> u64 {
        let per_target = self.scenarios.iter().flat_map(|scenario| {
            let limit = u64::from(scenario.max_concurrency.get());
            scenario.targets().map(move |target| limit * target.location.sockets_per_connection())
        });
        BASE + per_target.sum::<u64>() * PER_REQUEST
    }
}
