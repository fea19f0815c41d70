//! Times of a forecast as text: clock times if the schedule follows a clock, else times from its
//! start.

use std::time::{Duration, SystemTime};

use super::forecast::Forecast;
use super::numbers::short_seconds;
use crate::calendar::{Anchor, Zone};
use crate::config::HumanDuration;
use crate::plan::{Scenario, Start};

/// Clock times show minutes only, so a shorter axis shows times from the start.
const SHORTEST_WITH_CLOCK_TIMES: Duration = Duration::from_hours(1);

/// The time zone that a scenario follows, if any.
pub fn zone(scenario: &Scenario) -> Option<Zone> {
    match &scenario.start {
        Start::WallClock(Anchor::Midnight(zone)) => Some(zone.clone()),
        Start::WallClock(Anchor::Epoch) => Some(Zone::UTC),
        Start::Cron(cron) => Some(cron.zone().clone()),
        Start::WhenReady | Start::Now => scenario.active.as_ref()?.zone().cloned(),
    }
}

/// The start of a scenario.
pub fn start(scenario: &Scenario, firings: &[SystemTime]) -> String {
    match &scenario.start {
        Start::WhenReady => "when the target is ready".to_owned(),
        Start::Now => "immediately".to_owned(),
        Start::WallClock(anchor) => format!("by the wall clock, {anchor}"),
        Start::Cron(cron) => {
            let next: Vec<String> =
                firings.iter().map(|at| cron.zone().day_and_time(*at)).collect();
            format!("by cron `{cron}` in {}; next {}", cron.zone(), next.join(", "))
        }
    }
}

/// The active windows of a scenario, and their state now.
pub fn active(scenario: &Scenario, now: SystemTime) -> Option<String> {
    let windows = scenario.active.as_ref()?;
    let zone = windows.zone()?;
    let state = match windows.state_at(now) {
        (true, Some(closes)) => format!("active until {}", zone.day_and_time(closes)),
        (true, None) => "always active".to_owned(),
        (false, Some(opens)) => format!("inactive until {}", zone.day_and_time(opens)),
        (false, None) => "never active".to_owned(),
    };
    Some(format!("{windows}; now {state}"))
}

/// The time axis of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The texts at the ends of its quarters.
    pub marks: [String; 5],
    /// The meaning of the texts. Empty if they count from the start.
    pub caption: String,
}

impl Axis {
    /// An axis with times from the start of a schedule.
    pub fn from_start(span: Duration) -> Axis {
        Axis {
            marks: [0, 1, 2, 3, 4].map(|quarter| offset(span * quarter / 4)),
            caption: String::new(),
        }
    }

    /// An axis from now on, with the clock times of a zone if there is one.
    pub fn from_now(forecast: &Forecast, zone: Option<&Zone>) -> Axis {
        let Some(zone) = zone.filter(|_| forecast.span >= SHORTEST_WITH_CLOCK_TIMES) else {
            return Axis::from_start(forecast.span);
        };
        let marks = [0, 1, 2, 3, 4]
            .map(|quarter| zone.time_of_day(forecast.from + forecast.span * quarter / 4));
        let caption = format!("times in {zone}, from {}", zone.day_and_time(forecast.from));
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
