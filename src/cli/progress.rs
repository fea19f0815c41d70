//! The progress of a run on stderr. On a terminal, a block of lines is updated every second. In a
//! file or a CI log, a log line appears every ten seconds.

mod text;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::capacity::StepPlan;
use crate::plan::Scenario;
use crate::schedule::Repeat;
use crate::schedule_state::{Activity, SearchState};
use crate::status::{RouteMonitor, StatusBoard};
use crate::stderr;
use text::{Facts, Position};

/// The time between two lines in a file or a CI log, in seconds.
const LOG_INTERVAL: u64 = 10;

/// The planned length of a scenario.
struct Planned {
    scenario: String,
    /// The number of phases in one cycle.
    phases: u64,
    /// The number of cycles; `None` if a time limit ends them.
    cycles: Option<u64>,
    /// `None` if a phase ends after a number of requests, and the run has no time limit.
    length: Option<Duration>,
}

impl Planned {
    fn new(scenario: &Scenario, time_limit: Option<Duration>) -> Planned {
        let schedule = &scenario.schedule;
        let cycles = match scenario.repeat {
            Repeat::Times(times) => Some(u64::from(times.get())),
            Repeat::Forever => None,
        };
        let is_known = schedule.is_timed() && !scenario.endless;
        let nanos = cycles.filter(|_| is_known).map(|cycles| {
            let nanos = schedule.length().as_nanos().saturating_mul(cycles.into());
            u64::try_from(nanos).unwrap_or(u64::MAX)
        });
        Planned {
            scenario: scenario.name.clone(),
            phases: schedule.phases().len() as u64,
            cycles,
            length: nanos.map(Duration::from_nanos).into_iter().chain(time_limit).min(),
        }
    }
}

/// Shows the progress of these scenarios until the future is dropped. `has_cursor` is true if
/// stderr is a terminal with a movable cursor.
pub(super) async fn show(
    board: Arc<StatusBoard>,
    scenarios: Vec<Scenario>,
    time_limit: Option<Duration>,
    has_cursor: bool,
) {
    let planned: Vec<Planned> =
        scenarios.iter().map(|scenario| Planned::new(scenario, time_limit)).collect();
    let began = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // The last line of the log: whether it was about a wait, and its number.
    let mut last_line = (true, 0);
    loop {
        second.tick().await;
        let now = Instant::now();
        let facts = facts(&board.monitors(), &planned, began, now);
        if has_cursor {
            let columns = stderr::columns().map_or(80, usize::from);
            // The cursor is behind the last character, so a full line would move it.
            stderr::show_progress(facts.block(columns.saturating_sub(1)));
            continue;
        }
        // The lines follow the time of the schedule, which begins after a wait.
        let line = (facts.positions.is_empty(), facts.time_shown().as_secs() / LOG_INTERVAL);
        if line != last_line && line.1 > 0 {
            tracing::info!("{}", facts.line());
        }
        last_line = line;
    }
}

fn facts(
    monitors: &[Arc<RouteMonitor>],
    planned: &[Planned],
    began: Instant,
    now: Instant,
) -> Facts {
    let mut facts = Facts { elapsed: now - began, ..Facts::default() };
    for monitor in monitors {
        let counts = monitor.state.ledger.counts();
        facts.sent += counts.started;
        facts.in_flight += counts.in_flight;
        facts.failed += counts.failures().map(|failure| failure.1).sum::<u64>();
        facts.dropped += counts.dropped().map(|drop| drop.1).sum::<u64>();
        if let Some(tally) = &monitor.tally {
            let events = tally.last_seconds(now);
            match &mut facts.recent {
                Some(sum) => sum.add(&events),
                empty => *empty = Some(events),
            }
        }
    }
    let has_names = planned.len() > 1;
    // The targets of a scenario share its schedule.
    for planned in planned {
        let of_scenario = monitors.iter().find(|monitor| monitor.scenario == planned.scenario);
        let Some(monitor) = of_scenario else { continue };
        if let Activity::Waiting(reason) = monitor.schedule_state.activity() {
            facts.waiting.get_or_insert(format!("{} is waiting for {reason}", planned.scenario));
        }
        facts.positions.extend(position(monitor, planned, has_names, now));
    }
    facts
}

/// Returns the position in the schedule. `None` if no phase is on.
fn position(
    monitor: &RouteMonitor,
    planned: &Planned,
    has_name: bool,
    now: Instant,
) -> Option<Position> {
    let position = monitor.schedule_state.position(now);
    let index = position.phase_index? as u64;
    let (number, phases) = match planned.cycles {
        Some(cycles) => {
            (position.cycle * planned.phases + index + 1, planned.phases.saturating_mul(cycles))
        }
        None => (index + 1, planned.phases),
    };
    let origin = monitor.schedule_state.windows().and_then(|windows| windows.origin())?;
    let search = current_search(monitor);
    Some(Position {
        scenario: has_name.then(|| planned.scenario.clone()),
        phase: phase_and_step(search.as_ref(), position.phase.unwrap_or_default()),
        number,
        phases,
        elapsed: now.saturating_duration_since(origin),
        length: planned.length,
        remaining: search.map(|((_, began), search)| {
            search.search.expected_time(now.saturating_duration_since(began))
        }),
    })
}

/// The search that runs now, with its current step.
fn current_search(monitor: &RouteMonitor) -> Option<((StepPlan, Instant), SearchState)> {
    let mut searches = monitor.schedule_state.searches.states().into_iter();
    searches.find_map(|search| Some((search.current?, search)))
}

/// Returns the name of the phase. If it searches a capacity, returns its current step too.
fn phase_and_step(search: Option<&((StepPlan, Instant), SearchState)>, phase: String) -> String {
    match search {
        Some(((step, _), search)) => {
            format!("{phase}, step {}: {}", search.search.steps().len() + 1, step.level)
        }
        None => phase,
    }
}
