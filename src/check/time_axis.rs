//! Formats the times of a forecast. A schedule that follows a clock has clock times; any other has
//! times since its start.

use std::time::{Duration, SystemTime};

use super::forecast::Forecast;
use super::numbers::short_seconds;
use crate::calendar::{Anchor, Zone};
use crate::config::HumanDuration;
use crate::plan::{Scenario, Start};

/// The shortest time axis with clock times, which have no seconds.
const SHORTEST_WITH_CLOCK_TIMES: Duration = Duration::from_hours(1);

/// Returns the time zone of the start or of the active windows.
pub fn zone(scenario: &Scenario) -> Option<Zone> {
    match &scenario.start {
        Start::WallClock(Anchor::Midnight(zone)) => Some(zone.clone()),
        Start::WallClock(Anchor::Epoch) => Some(Zone::UTC),
        Start::Cron(cron) => Some(cron.zone().clone()),
        Start::WhenReady | Start::Now => scenario.active.as_ref()?.zone().cloned(),
    }
}

/// Returns the entry `start`.
pub fn start_setting(scenario: &Scenario, firings: &[SystemTime], now: SystemTime) -> String {
    if let Some(after) = &scenario.after {
        return format!("when scenario {after} has ended");
    }
    match &scenario.start {
        Start::WhenReady => "when the target is ready".to_owned(),
        Start::Now => "immediately".to_owned(),
        Start::WallClock(anchor) => format!("by the wall clock, {anchor}"),
        Start::Cron(cron) => {
            let next = cron.zone().days_and_times(firings, now).join(", ");
            format!("by cron `{cron}` in {}; next {next}", cron.zone())
        }
    }
}

/// Returns the entry `active`: the windows, and whether one is open now.
pub fn active_setting(scenario: &Scenario, now: SystemTime) -> Option<String> {
    let windows = scenario.active.as_ref()?;
    let zone = windows.zone()?;
    let state = match windows.state_at(now) {
        (true, Some(closes)) => format!("active until {}", zone.day_and_time(closes, now)),
        (true, None) => "always active".to_owned(),
        (false, Some(opens)) => format!("inactive until {}", zone.day_and_time(opens, now)),
        (false, None) => "never active".to_owned(),
    };
    Some(format!("{windows}; now {state}"))
}

#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The labels at the start of the axis and at the end of each quarter.
    pub labels: [String; 5],
    /// Explains the labels. Empty for times since the start.
    pub caption: String,
}

impl Axis {
    /// Returns an axis with times since the start of a schedule.
    pub fn from_start(span: Duration) -> Axis {
        Axis {
            labels: [0, 1, 2, 3, 4].map(|quarter| offset(span * quarter / 4)),
            caption: String::new(),
        }
    }

    /// Returns an axis from now on. With a `zone`, the labels of a long axis are clock times in
    /// this zone.
    pub fn from_now(forecast: &Forecast, zone: Option<&Zone>) -> Axis {
        let Some(zone) = zone.filter(|_| forecast.span >= SHORTEST_WITH_CLOCK_TIMES) else {
            return Axis::from_start(forecast.span);
        };
        let labels = [0, 1, 2, 3, 4]
            .map(|quarter| zone.time_of_day(forecast.from + forecast.span * quarter / 4));
        let caption =
            format!("times in {zone}, from {}", zone.day_and_time(forecast.from, forecast.from));
        Axis { labels, caption }
    }
}

fn offset(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        return short_seconds(seconds).replace(' ', "");
    }
    HumanDuration(Duration::from_secs_f64(seconds.round())).to_string()
}
