//! The number of files that llmload can have open while it runs a plan. Both the daemon and `check`
//! compare this number with the limit of the system.

use std::num::NonZeroU32;

use super::{Location, Plan};

/// The number of file descriptors for everything except requests, such as the connections of the
/// web server.
pub const OTHER_FILES: u64 = 640;

impl Plan {
    /// Returns the highest number of files that are open at the same time.
    pub fn open_files(&self) -> u64 {
        let routes = self.scenarios.iter().flat_map(|scenario| {
            scenario.targets().map(|target| (&target.location, scenario.max_concurrency))
        });
        let connections = routes.map(|(location, max_concurrency)| match location {
            Location::Url(_) => connection_limit(max_concurrency),
            // The simulator ends the body of a response at once.
            Location::Simulator(_) => {
                u64::from(max_concurrency.get()) * location.sockets_per_connection()
            }
        });
        connections.sum::<u64>() + OTHER_FILES
    }
}

impl Location {
    /// Returns the number of sockets that one connection needs in this process.
    pub fn sockets_per_connection(&self) -> u64 {
        match self {
            Location::Url(_) => 1,
            // The simulator runs in this process, so both ends of the connection are here.
            Location::Simulator(_) => 2,
        }
    }
}

/// Returns the highest number of connections of one route (one scenario on one target). It is
/// higher than `max_concurrency`: a request that has ended keeps its connection while llmload reads
/// the rest of the response body.
pub fn connection_limit(max_concurrency: NonZeroU32) -> u64 {
    let requests = u64::from(max_concurrency.get());
    requests + requests.div_ceil(4)
}
