//! Draws the charts of rates and closed loops, over the forecast or over one pass.

use std::fmt;

use super::ForecastText;
use crate::check::chart::{self, Column, SHADE, chart, sparkline};
use crate::check::forecast::{Bucket, ScenarioForecast, buckets_of_one_pass};
use crate::check::numbers::{count, rate};
use crate::check::phases;
use crate::check::time_axis::{self, Axis};
use crate::plan::{Scenario, Start};

/// The highest number of passes in one chart. With more passes, the chart shows a single pass.
const MOST_PASSES: f64 = 12.0;

/// The lines of a chart of equal values.
const LINES_OF_FLAT_CHART: usize = 3;

impl ForecastText<'_> {
    /// Draws the forecast of a scenario, or a single pass if the schedule makes many equal passes.
    pub(super) fn scenario_drawing(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let peak = phases::peak(scenario, forecast);
        let passes = self.forecast.span.as_secs_f64() / forecast.cycle.as_secs_f64();
        let are_equal = !matches!(scenario.start, Start::Cron(_)) && scenario.active.is_none();
        if are_equal && passes > MOST_PASSES && passes.is_finite() && forecast.phases.len() > 1 {
            let axis = Axis::from_start(forecast.cycle);
            let caption = format!("one of {} passes in {}", count(passes.floor()), self.span());
            let buckets = buckets_of_one_pass(scenario, self.plan.shard);
            return self.drawing(&buckets, &Axis { caption, ..axis }, &peak, f);
        }
        let axis = Axis::from_now(self.forecast, time_axis::zone(scenario).as_ref());
        self.drawing(&forecast.buckets, &axis, &peak, f)
    }

    /// Draws the peak, a chart of rates, and a line for closed loops; nothing without load.
    pub(super) fn drawing(
        &self,
        buckets: &[Bucket],
        axis: &Axis,
        peak: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let drawn = columns(buckets, chart::columns(self.style.width, buckets.len()));
        let rates: Vec<Column> = drawn.iter().map(|column| column.rate).collect();
        let slots: Vec<Column> = drawn.iter().map(|column| column.slots).collect();
        let highest = |columns: &[Column]| columns.iter().map(|c| c.highest).fold(0.0, f64::max);
        let (has_rates, most_slots) = (highest(&rates) > 0.0, highest(&slots));
        let in_flight = |slots: f64| format!("{} slots", count(slots));
        writeln!(f)?;
        let lines = match (has_rates, most_slots > 0.0) {
            (true, _) => chart(&rates, &axis.labels, rate),
            (false, true) => chart(&slots, &axis.labels, in_flight),
            (false, false) => return Ok(()),
        };
        // The scale of a flat chart already shows the peak.
        if lines.len() > LINES_OF_FLAT_CHART && has_rates {
            writeln!(f, "{:11}{}", "", self.style.faint(peak))?;
        }
        let has_shade = lines.iter().any(|line| line.contains(SHADE));
        for line in lines {
            writeln!(f, "{line}")?;
        }
        if has_shade {
            let legend = format!("█ mean rate of a column, {SHADE} highest rate of a column");
            writeln!(f, "{:11}{}", "", self.style.faint(legend))?;
        }
        if most_slots > 0.0 && has_rates {
            let line = sparkline(slots.iter().map(|column| column.highest), most_slots);
            let label = self.style.faint("closed loop");
            writeln!(f, "{:>9}  {line}  {label}", in_flight(most_slots))?;
        }
        if !axis.caption.is_empty() {
            writeln!(f, "{:11}{}", "", self.style.faint(&axis.caption))?;
        }
        writeln!(f)
    }
}

struct DrawnColumn {
    rate: Column,
    slots: Column,
}

fn columns(buckets: &[Bucket], columns: usize) -> Vec<DrawnColumn> {
    buckets.chunks((buckets.len() / columns.max(1)).max(1)).map(column).collect()
}

#[allow(clippy::cast_precision_loss)]
fn column(buckets: &[Bucket]) -> DrawnColumn {
    let slots = buckets.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
    let sum = buckets.iter().map(|bucket| bucket.rate_mean).sum::<f64>();
    // The highest rate of a replay is a count of rows per second. A bucket below a second can have
    // a higher mean rate.
    let highest = buckets.iter().map(|bucket| bucket.rate_max.max(bucket.rate_mean));
    DrawnColumn {
        rate: Column { mean: sum / buckets.len() as f64, highest: highest.fold(0.0, f64::max) },
        slots: Column { mean: f64::from(slots), highest: f64::from(slots) },
    }
}
