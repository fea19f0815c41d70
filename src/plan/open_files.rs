//! The number of files that a plan can open at once. The daemon and `check` compare it with the
//! limit of the system.

use std::num::NonZeroU32;

use super::{Location, Plan};

/// Files that belong to no request, such as connections of the web server.
pub const OTHER_FILES: u64 = 640;

impl Plan {
    pub fn open_files(&self) -> u64 {
        let routes = self.scenarios.iter().flat_map(|scenario| {
            scenario.targets().map(|target| (&target.location, scenario.max_concurrency))
        });
        let connections = routes.map(|(location, max_concurrency)| match location {
            Location::Url(_) => connection_limit(max_concurrency),
            // The simulator ends a body at once, so no request needs a second connection.
            Location::Simulator(_) => {
                u64::from(max_concurrency.get()) * location.sockets_per_connection()
            }
        });
        connections.sum::<u64>() + OTHER_FILES
    }
}

impl Location {
    /// The number of sockets in this process for one connection.
    pub fn sockets_per_connection(&self) -> u64 {
        match self {
            Location::Url(_) => 1,
            // The simulator has the other end of the connection.
            Location::Simulator(_) => 2,
        }
    }
}

/// The highest number of connections of a route, which is one scenario on one target. It is above
/// `max_concurrency`, because a request that has ended keeps its connection until llmload has read
/// the remaining body.
pub fn connection_limit(max_concurrency: NonZeroU32) -> u64 {
    let requests = u64::from(max_concurrency.get());
    requests + requests.div_ceil(4)
}
