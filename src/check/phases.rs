//! The table of phases in the output of `llmload check`, with a small curve for each load.

use std::sync::Arc;
use std::time::Duration;

use super::chart::sparkline;
use super::demand::Demand;
use super::forecast::{PhaseForecast, ScenarioForecast};
use super::numbers::{count, rate, time_range};
use super::text::{cut, width};
use crate::capacity::{self, Search};
use crate::config::HumanDuration;
use crate::plan::{Scenario, Start};
use crate::schedule::{Load, Repeat, Shard};

/// The most phases in the table. A schedule with `repeat` loops can have thousands.
const MAX_PHASES: usize = 40;
/// The width of the curve of a phase, in characters.
const CURVE_WIDTH: u32 = 8;
/// The most columns of a phase name. A longer name is cut.
const LONGEST_NAME: usize = 24;

/// Returns the length of one pass through the schedule, and the number of passes.
pub fn summary(scenario: &Scenario, forecast: &ScenarioForecast) -> String {
    if forecast.endless {
        return "the same load for ever".to_owned();
    }
    let length = HumanDuration(forecast.cycle);
    let untimed = if scenario.schedule.has_search() { "searches" } else { "`requests` phases" };
    let length = match (forecast.counts_requests, forecast.cycle.is_zero()) {
        (true, true) => format!("unknown length ({untimed})"),
        (true, false) => format!("{length} plus the {untimed}"),
        (false, _) => length.to_string(),
    };
    let times = match (&scenario.start, scenario.repeat) {
        (Start::WallClock(_), _) | (_, Repeat::Forever) => "repeats for ever".to_owned(),
        (_, Repeat::Times(times)) if times.get() == 1 => "once".to_owned(),
        (_, Repeat::Times(times)) => format!("{times} times"),
    };
    let each = if matches!(scenario.start, Start::Cron(_)) { " per cron firing" } else { "" };
    format!("{length}, {times}{each}")
}

/// Returns one line for each phase. All curves have the same scale.
pub fn table(scenario: &Scenario, forecast: &ScenarioForecast, shard: Shard) -> Vec<String> {
    let loads = || scenario.schedule.phases().iter().map(|phase| &phase.load);
    let shown = &forecast.phases[..forecast.phases.len().min(MAX_PHASES)];
    let rows: Vec<[String; 4]> =
        shown.iter().zip(loads()).map(|(phase, load)| row(load, phase, forecast.endless)).collect();
    let widest = |cell: usize| rows.iter().map(|row| width(&row[cell])).max().unwrap_or(0);
    let [names, lengths, levels, counts] = [0, 1, 2, 3].map(widest);
    let demand = Demand::new(scenario, shard);
    let placed = (0..shown.len()).filter_map(|index| scenario.schedule.phase_span(index));
    let means: Vec<Vec<f64>> = placed.map(|placed| demand.means(&placed, CURVE_WIDTH)).collect();
    // The bars are mean rates, but the scale ends at the highest rate, as in the chart.
    let highest = forecast.phases.iter().map(|phase| phase.rate_max);
    let top = means.iter().flatten().copied().chain(highest).fold(0.0, f64::max);
    let most = forecast.phases.iter().map(|phase| phase.closed_loop_slots).max().unwrap_or(0);
    let line = |((phase, means), [name, length, load, requests]): (
        (&PhaseForecast, &Vec<f64>),
        &[String; 4],
    )| {
        let curve = match phase.closed_loop_slots {
            0 => sparkline(means.iter().copied(), top),
            slots => sparkline(means.iter().map(|_| f64::from(slots)), f64::from(most)),
        };
        let pad = " ".repeat(names - width(name));
        let line = format!(
            "    {curve}  {name}{pad}  {length:>lengths$}  {load:levels$}  {requests:>counts$}"
        );
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = shown.iter().zip(&means).zip(&rows).map(line).collect();
    let more = forecast.phases.len() - shown.len();
    if more > 0 {
        #[allow(clippy::cast_precision_loss)]
        lines.push(format!("    and {} more phases", count(more as f64)));
    }
    lines
}

pub fn peak(scenario: &Scenario, forecast: &ScenarioForecast) -> String {
    let mut phases = scenario.schedule.phases().iter().zip(&forecast.phases);
    let at = phases.find(|(_, phase)| Some(&phase.name) == forecast.peak_phase.as_ref());
    let place = at.map_or_else(String::new, |(phase, row)| {
        let length = HumanDuration(row.length);
        let unit = if phase.load.trace().is_some() { ", counted per second" } else { "" };
        format!(" in {} ({length}){unit}", cut(&row.name, LONGEST_NAME))
    });
    format!("peak {}{place}", rate(forecast.peak_rate))
}

/// Returns the cells of a phase: name, length, load and requests.
fn row(load: &Load, phase: &PhaseForecast, endless: bool) -> [String; 4] {
    let (low, high) = (rate(phase.rate_min), rate(phase.rate_max));
    let level = match load {
        Load::Constant(_) => low,
        Load::Ramp { .. } | Load::Sine { .. } if low == high => low,
        Load::Ramp { from, to } if from > to => format!("{high} to {low}"),
        Load::Ramp { .. } | Load::Sine { .. } => format!("{low} to {high}"),
        Load::Replay(_) => format!("up to {high}"),
        Load::Pause => String::new(),
        Load::Concurrency(_) | Load::Requests { .. } => {
            format!("{} in flight", count(f64::from(phase.closed_loop_slots)))
        }
        Load::Search(spec) => spec.range.to_string(),
    };
    let has_total = match load {
        Load::Constant(_) | Load::Ramp { .. } | Load::Sine { .. } | Load::Replay(_) => !endless,
        Load::Requests { .. } => true,
        Load::Pause | Load::Concurrency(_) | Load::Search(_) => false,
    };
    let requests = if has_total {
        format!("{} requests", count(phase.requests))
    } else {
        let most = load.search().and_then(|spec| capacity::most_requests(spec));
        most.map_or_else(String::new, |most| format!("at most {} requests", count(most)))
    };
    let length = match (load.count(), load.search()) {
        (Some(_), _) => "?".to_owned(),
        (None, Some(spec)) => format!(
            "about {}, at most {}",
            time_range(Search::new(Arc::clone(spec)).expected_time(Duration::ZERO)),
            HumanDuration(capacity::longest_time(spec))
        ),
        (None, None) if endless => "for ever".to_owned(),
        (None, None) => HumanDuration(phase.length).to_string(),
    };
    [cut(&phase.name, LONGEST_NAME), length, level, requests]
}
