//! Turns arrivals into requests, in open and closed loops. llmload sends an arrival as soon as it
//! is due, or drops the arrival. No queue delays it.
//!
//! | module | idea |
//! |---|---|
//! | `driver` | decides the next step of a scenario: launch an arrival, wait or end |
//! | `mailbox` | holds the commands that a running driver has not applied yet |
//! | `slots` | counts the free and the busy slots of a closed loop |
//! | `session` | a conversation of several turns, between two requests or during one |
//! | `alarm` | reads the clocks, and wakes the driver at an instant |
//! | `readiness` | delays the next cycle while the target is not ready |
//! | `route` | sends the arrivals of one scenario to one target |
//! | `route_state` | the part of a route that survives a reload |
//! | `template` | builds the request of an arrival |
//! | `route_table` | contains all routes of a scenario; a reload can replace the routes |
//! | `paired` | compares the timings of several targets for the same arrival |
//! | `cancellation` | aborts the requests of a route |

mod alarm;
mod cancellation;
mod driver;
mod mailbox;
mod manual_rate;
mod paired;
mod readiness;
mod route;
mod route_state;
mod route_table;
mod session;
mod slots;
mod template;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::event::Arrival;

pub use alarm::{Alarm, TestWallClock, read_clocks};
pub use cancellation::Cancellation;
pub use driver::Driver;
pub use mailbox::Mailbox;
pub use readiness::ReadinessGate;
pub use route::Route;
pub use route_state::RouteState;
pub use route_table::{RouteSet, RouteTable};
pub use session::{Session, SessionState, Sessions, TurnQueue};
pub use slots::Slot;
pub use template::{PromptSource, RequestTemplate};

/// The parts of the driver that a request holds until it ends.
#[derive(Debug)]
pub struct LaunchContext {
    /// In a closed loop, the slot of the request or of its session.
    pub slot: Option<Arc<Slot>>,
    /// The session of a later turn.
    pub session: Option<Box<Session>>,
    /// The queue through which a session returns to the driver.
    pub turns: Arc<TurnQueue>,
}

/// The receiver of the arrivals that a driver launches.
pub trait Launch {
    /// Sends the arrival in a new task on `runtime`, or drops the arrival. Must not block.
    fn launch(&self, arrival: Arrival, context: LaunchContext, runtime: &Handle);

    /// Returns true if a request is in flight. Requests to a target that a reload has removed do
    /// not count.
    fn has_requests_in_flight(&self) -> bool;
}
