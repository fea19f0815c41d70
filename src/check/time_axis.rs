//! Times ahead in words: by the clock on the wall where a schedule goes by it, else from its start.

use std::time::{Duration, SystemTime};

use super::forecast::Forecast;
use super::numbers::short_seconds;
use crate::calendar::{Anchor, Zone};
use crate::config::HumanDuration;
use crate::plan::{Scenario, Start};

/// Marks on the clock say no more than the minute.
const SHORTEST_BY_THE_CLOCK: Duration = Duration::from_hours(1);

/// Whose clock a scenario goes by, if by any.
pub fn zone(scenario: &Scenario) -> Option<Zone> {
    match &scenario.start {
        Start::WallClock(Anchor::Midnight(zone)) => Some(zone.clone()),
        Start::WallClock(Anchor::Epoch) => Some(Zone::UTC),
        Start::Cron(cron) => Some(cron.zone().clone()),
        Start::WhenReady | Start::Now => scenario.active.as_ref()?.zone().cloned(),
    }
}

/// When a scenario begins.
pub fn start(scenario: &Scenario, firings: &[SystemTime]) -> String {
    match &scenario.start {
        Start::WhenReady => "once the target answers".to_owned(),
        Start::Now => "at once".to_owned(),
        Start::WallClock(anchor) => format!("by the clock on the wall, {anchor}"),
        Start::Cron(cron) => {
            let next: Vec<String> =
                firings.iter().map(|at| cron.zone().day_and_time(*at)).collect();
            format!("whenever `{cron}` fires in {}: next {}", cron.zone(), next.join(", "))
        }
    }
}

/// Its windows, and which of them is open.
pub fn active(scenario: &Scenario, now: SystemTime) -> Option<String> {
    let windows = scenario.active.as_ref()?;
    let zone = windows.zone()?;
    let state = match windows.state_at(now) {
        (true, Some(closes)) => format!("open until {}", zone.day_and_time(closes)),
        (true, None) => "always open".to_owned(),
        (false, Some(opens)) => format!("closed until {}", zone.day_and_time(opens)),
        (false, None) => "never open".to_owned(),
    };
    Some(format!("{windows}; now {state}"))
}

/// The axis of the time ahead.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What stands below each quarter of it.
    pub marks: [String; 5],
    /// What they mean; nothing where they count from the start.
    pub caption: String,
}

impl Axis {
    /// From the start of a schedule on.
    pub fn since_start(span: Duration) -> Axis {
        Axis {
            marks: [0, 1, 2, 3, 4].map(|quarter| offset(span * quarter / 4)),
            caption: String::new(),
        }
    }

    /// From now on, by the clock of a zone if there is one.
    pub fn ahead(forecast: &Forecast, zone: Option<&Zone>) -> Axis {
        let Some(zone) = zone.filter(|_| forecast.span >= SHORTEST_BY_THE_CLOCK) else {
            return Axis::since_start(forecast.span);
        };
        let marks = [0, 1, 2, 3, 4]
            .map(|quarter| zone.time_of_day(forecast.from + forecast.span * quarter / 4));
        let caption = format!("from {} on, the time in {zone}", zone.day_and_time(forecast.from));
        Axis { marks, caption }
    }
}

fn offset(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        return short_seconds(seconds).replace(' ', "");
    }
    HumanDuration(Duration::from_secs_f64(seconds.round())).to_string()
}
