//! The phases of one pass in words, each with its little curve.

use super::chart::sparkline;
use super::demand::Meter;
use super::forecast::{PhaseForecast, Stream};
use super::numbers::{count, rate};
use crate::config::HumanDuration;
use crate::plan::{Scenario, Start};
use crate::schedule::{Load, Repeat, Shard};

/// Phases that are drawn; a schedule may have thousands once its loops are written out.
const MOST_PHASES: usize = 40;
/// Characters of a phase's curve.
const CURVE: u32 = 8;
/// A phase's name is cut off here.
const LONGEST_NAME: usize = 24;

/// How long a pass is, and how often it comes.
pub fn summary(scenario: &Scenario, stream: &Stream) -> String {
    if stream.endless {
        return "for ever".to_owned();
    }
    let length = HumanDuration(stream.cycle);
    let length = match (stream.counts_requests, stream.cycle.is_zero()) {
        (true, true) => "as long as answers take".to_owned(),
        (true, false) => format!("{length} and as long as answers take"),
        (false, _) => length.to_string(),
    };
    let times = match (&scenario.start, scenario.repeat) {
        (Start::WallClock(_), _) | (_, Repeat::Forever) => "repeated for ever".to_owned(),
        (_, Repeat::Times(times)) if times.get() == 1 => "once".to_owned(),
        (_, Repeat::Times(times)) => format!("{times} times"),
    };
    let each = if matches!(scenario.start, Start::Cron(_)) { " at each firing" } else { "" };
    format!("{length}, {times}{each}")
}

/// A line for each phase, all on one scale.
pub fn table(scenario: &Scenario, stream: &Stream, shard: Shard) -> Vec<String> {
    let loads = || scenario.schedule.phases().iter().map(|phase| &phase.load);
    let shown = &stream.phases[..stream.phases.len().min(MOST_PHASES)];
    let rows: Vec<[String; 4]> =
        shown.iter().zip(loads()).map(|(phase, load)| row(load, phase, stream.endless)).collect();
    let widest = |cell: usize| rows.iter().map(|row| row[cell].chars().count()).max().unwrap_or(0);
    let [names, lengths, asked, counts] = [0, 1, 2, 3].map(widest);
    let meter = Meter::new(scenario, shard);
    let placed = (0..shown.len()).filter_map(|index| scenario.schedule.phase_span(index));
    let means: Vec<Vec<f64>> = placed.map(|placed| meter.means(&placed, CURVE)).collect();
    // On the scale of the drawing: a bar is a mean, the top is the highest rate of all.
    let highest = stream.phases.iter().map(|phase| phase.rate_max);
    let top = means.iter().flatten().copied().chain(highest).fold(0.0, f64::max);
    let most = stream.phases.iter().map(|phase| phase.closed_loop_slots).max().unwrap_or(0);
    let line = |((phase, means), [name, length, load, requests]): (
        (&PhaseForecast, &Vec<f64>),
        &[String; 4],
    )| {
        let curve = match phase.closed_loop_slots {
            0 => sparkline(means.iter().copied(), top),
            slots => sparkline(means.iter().map(|_| f64::from(slots)), f64::from(most)),
        };
        let line = format!(
            "    {curve}  {name:names$}  {length:>lengths$}  {load:asked$}  {requests:>counts$}"
        );
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = shown.iter().zip(&means).zip(&rows).map(line).collect();
    let more = stream.phases.len() - shown.len();
    if more > 0 {
        #[allow(clippy::cast_precision_loss)]
        lines.push(format!("    and {} more phases", count(more as f64)));
    }
    lines
}

/// The highest rate, however short, and where it is.
pub fn peak(scenario: &Scenario, stream: &Stream) -> String {
    let phases = scenario.schedule.phases().iter().zip(&stream.phases);
    let at =
        phases.into_iter().find(|(_, forecast)| Some(&forecast.name) == stream.peak_phase.as_ref());
    let place = at.map_or_else(String::new, |(phase, forecast)| {
        let length = HumanDuration(forecast.length);
        let unit =
            if matches!(phase.load, Load::Replay(_)) { ", the most within a second" } else { "" };
        format!(" in {} ({length}){unit}", short_name(&forecast.name))
    });
    format!("peak {}{place}", rate(stream.peak_rate))
}

/// A phase's name, length, load and requests.
fn row(load: &Load, phase: &PhaseForecast, endless: bool) -> [String; 4] {
    let (low, high) = (rate(phase.rate_min), rate(phase.rate_max));
    let asked = match load {
        Load::Pause => String::new(),
        Load::Concurrency(_) | Load::Requests { .. } => {
            format!("{} in flight", count(f64::from(phase.closed_loop_slots)))
        }
        Load::Replay(_) => format!("up to {high}"),
        _ if low == high => low,
        Load::Ramp { from, to } if from > to => format!("{high} to {low}"),
        _ => format!("{low} to {high}"),
    };
    let requests = match load {
        Load::Pause | Load::Concurrency(_) => String::new(),
        _ if endless => String::new(),
        _ => format!("{} requests", count(phase.requests)),
    };
    let length = match load {
        Load::Requests { .. } => "?".to_owned(),
        _ if endless => "for ever".to_owned(),
        _ => HumanDuration(phase.length).to_string(),
    };
    [short_name(&phase.name), length, asked, requests]
}

/// A phase's name, cut off where it is long.
fn short_name(name: &str) -> String {
    if name.chars().count() > LONGEST_NAME {
        name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}
