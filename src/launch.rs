//! From arrivals to requests, in open and closed loops. llmload sends an arrival at once or drops
//! it.
//!
//! | module | idea |
//! |---|---|
//! | `driver` | decides what happens next in a scenario: launch, wait or end |
//! | `mailbox` | commands to a driver that runs |
//! | `slots` | the slots of a closed loop |
//! | `alarm` | wakes the driver at an instant |
//! | `readiness` | holds the next cycle while the target is away |
//! | `route` | sends the arrivals of one scenario to one target |
//! | `template` | builds the request of an arrival |
//! | `route_table` | all routes of a scenario; a reload replaces them |
//! | `paired` | the requests of one arrival to several targets |
//! | `cancellation` | aborts the requests of a route |

mod alarm;
mod cancellation;
mod driver;
mod mailbox;
mod paired;
mod readiness;
mod route;
mod route_table;
mod slots;
mod template;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::event::Arrival;

pub use alarm::Alarm;
pub use cancellation::Cancellation;
pub use driver::Driver;
pub use mailbox::Mailbox;
pub use readiness::ReadinessGate;
pub use route::{Route, RouteState};
pub use route_table::{RouteSet, RouteTable};
pub use slots::Slot;
pub use template::{PromptSource, RequestTemplate};

/// The receiver of the arrivals that a driver launches.
pub trait Launch {
    /// Sends the arrival on `runtime`, or drops it. Must not block. In a closed loop, the request
    /// holds `slot` until it ends.
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle);
}
