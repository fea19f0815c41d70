//! The quantities of one metrics URL, by phase and over time. Each poll of the URL returns a page.
//! The memory does not grow with the length of the run.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use super::catalog::{Catalog, Formula, Quantity, catalog};
use super::exposition::Page;
use crate::plan::MetricsSource;

/// The initial length of an interval.
const INITIAL_WIDTH: Duration = Duration::from_secs(1);
/// The most intervals. If the run needs more, neighbouring intervals are merged in pairs. The
/// timeline of a report has fewer intervals and begins at another instant. The surplus here keeps
/// the error of the conversion small.
const MAX_INTERVALS: usize = 960;
/// Two pages within this time leave no gap in the timeline. Polls one second apart can return pages
/// that arrive up to about two seconds apart.
const NO_GAP: Duration = Duration::from_millis(2500);
/// The most phases with separate values. The values of further phases are lost.
const MAX_PHASES: usize = 100;

/// A mean with its weight, and the highest value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    sum: f64,
    weight: f64,
    max: f64,
}

impl Level {
    fn new(sum: f64, weight: f64) -> Option<Level> {
        let max = sum / weight;
        (weight > 0.0 && max.is_finite()).then_some(Level { sum, weight, max })
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    pub fn max(&self) -> f64 {
        self.max
    }

    fn add(&mut self, other: &Level) {
        self.sum += other.sum;
        self.weight += other.weight;
        self.max = self.max.max(other.max);
    }
}

/// The levels of all quantities of a page, in the order of [`Series::quantities`].
pub type Levels = Vec<Option<Level>>;

fn add(levels: &mut Levels, others: &[Option<Level>]) {
    levels.resize(others.len().max(levels.len()), None);
    for (level, other) in levels.iter_mut().zip(others) {
        match (level, other) {
            (Some(level), Some(other)) => level.add(other),
            (none @ None, other) => *none = *other,
            (Some(_), None) => {}
        }
    }
}

/// The levels of a phase.
#[derive(Clone, Debug, Default)]
pub struct PhaseLevels {
    /// The number of pages that were read during the phase.
    pub pages: u64,
    pub levels: Levels,
}

/// The levels of one metrics URL.
#[derive(Clone, Debug)]
pub struct Series {
    catalog: &'static Catalog,
    phases: Vec<(String, PhaseLevels)>,
    /// The instant of the first page, where the first interval begins.
    origin: Option<Instant>,
    width: Duration,
    intervals: Vec<Levels>,
    previous: Option<Previous>,
}

/// The page before, from which the increases of the counters follow.
#[derive(Clone, Debug)]
struct Previous {
    at: Instant,
    page: Page,
    phase: Option<String>,
}

impl Series {
    pub fn new(source: MetricsSource) -> Series {
        Series {
            catalog: catalog(source),
            phases: Vec::new(),
            origin: None,
            width: INITIAL_WIDTH,
            intervals: Vec::new(),
            previous: None,
        }
    }

    /// The quantities of each page, in a fixed order.
    pub fn quantities(&self) -> impl Iterator<Item = Quantity> + use<> {
        self.catalog.quantities.iter().map(|(quantity, _)| *quantity)
    }

    /// Returns the levels of a phase, or `None` if no page was read during the phase. Phases with
    /// the same name share their levels.
    pub fn phase(&self, name: &str) -> Option<&PhaseLevels> {
        self.phases.iter().find(|(known, _)| known == name).map(|(_, levels)| levels)
    }

    /// Returns the levels in `count` intervals of equal length, from `origin` on.
    pub fn timeline(&self, origin: Instant, width: Duration, count: usize) -> Vec<Levels> {
        let mut all = vec![Levels::new(); count];
        let Some(first) = self.origin else { return all };
        // All times are in seconds after `origin`.
        let since = |instant: Instant| {
            let after = instant.saturating_duration_since(origin).as_secs_f64();
            after - origin.saturating_duration_since(instant).as_secs_f64()
        };
        let (begin, own, width) = (since(first), self.width.as_secs_f64(), width.as_secs_f64());
        for (index, levels) in self.intervals.iter().enumerate() {
            #[allow(clippy::cast_precision_loss)]
            let middle = (begin + (index as f64 + 0.5) * own) / width;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let interval = (middle >= 0.0).then(|| all.get_mut(middle as usize)).flatten();
            if let Some(interval) = interval {
                add(interval, levels);
            }
        }
        // If the intervals of this series are longer, one of them covers several intervals.
        if own > width {
            for (index, interval) in all.iter_mut().enumerate() {
                #[allow(clippy::cast_precision_loss)]
                let place = ((index as f64 + 0.5) * width - begin) / own;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let covering = (place >= 0.0).then(|| self.intervals.get(place as usize)).flatten();
                *interval = covering.cloned().unwrap_or_default();
            }
        }
        all
    }

    /// Records a page that arrived at `at`, during this phase. The pages must be in the order of
    /// time.
    pub fn record(&mut self, at: Instant, page: Page, phase: Option<String>) {
        let (gauges, increases) = self.levels(at, &page);
        let previous = self.previous.replace(Previous { at, page, phase: phase.clone() });
        add(self.interval(at), &gauges);
        if let Some(previous) = &previous {
            let since = at.saturating_duration_since(previous.at);
            add(self.interval(previous.at + since / 2), &increases);
            if since <= NO_GAP {
                self.bridge(previous.at, at, &gauges);
            }
        }
        let Some(phase) = phase else { return };
        // If the phase has changed since the page before, nobody knows the part of an increase that
        // belongs to either phase.
        let is_within = previous.is_some_and(|previous| previous.phase.as_ref() == Some(&phase));
        let index = self.phases.iter().position(|(known, _)| *known == phase).or_else(|| {
            (self.phases.len() < MAX_PHASES).then(|| {
                self.phases.push((phase, PhaseLevels::default()));
                self.phases.len() - 1
            })
        });
        if let Some((_, phase)) = index.and_then(|index| self.phases.get_mut(index)) {
            phase.pages += 1;
            let levels = &mut phase.levels;
            add(levels, &gauges);
            if is_within {
                add(levels, &increases);
            }
        }
    }

    /// Returns the levels of the gauges, and the levels that follow from increases of counters.
    fn levels(&self, at: Instant, page: &Page) -> (Levels, Levels) {
        let sum = |input| page.get(input).map(|reading| reading.sum);
        let gauge = |(_, formula): &(Quantity, Formula)| match *formula {
            Formula::Sum(input) => Level::new(sum(input)?, 1.0),
            Formula::Mean(input) => {
                let reading = page.get(input)?;
                let mean = Level::new(reading.sum / f64::from(reading.count), 1.0)?;
                Some(Level { max: reading.max, ..mean })
            }
            Formula::Difference(total, part) => Level::new(sum(total)? - sum(part)?, 1.0),
            Formula::Rate(_) | Formula::Ratio(..) | Formula::Remainder(..) => None,
        };
        let increase = |(_, formula): &(Quantity, Formula)| {
            let previous = self.previous.as_ref()?;
            let increase = |input| {
                let (now, before) = (sum(input)?, previous.page.get(input)?.sum);
                // A counter that is lower than before has started again at 0.
                Some(if now < before { now } else { now - before })
            };
            match *formula {
                Formula::Rate(input) => {
                    let time = at.saturating_duration_since(previous.at);
                    Level::new(increase(input)?, time.as_secs_f64())
                }
                Formula::Ratio(part, total) => {
                    let total = increase(total)?;
                    Level::new(increase(part)?.min(total), total)
                }
                Formula::Remainder(part, total) => {
                    let total = increase(total)?;
                    Level::new(total - increase(part)?.min(total), total)
                }
                Formula::Sum(_) | Formula::Mean(_) | Formula::Difference(..) => None,
            }
        };
        let quantities = self.catalog.quantities;
        (quantities.iter().map(gauge).collect(), quantities.iter().map(increase).collect())
    }

    /// Sets each gauge that has no value in an interval between two pages to its level on the later
    /// page.
    fn bridge(&mut self, from: Instant, to: Instant, gauges: &[Option<Level>]) {
        let mut between = from + self.width;
        while between < to {
            let levels = self.interval(between);
            for (level, gauge) in levels.iter_mut().zip(gauges) {
                *level = level.or(*gauge);
            }
            if levels.is_empty() {
                levels.extend_from_slice(gauges);
            }
            between += self.width;
        }
    }

    fn interval(&mut self, at: Instant) -> &mut Levels {
        let origin = *self.origin.get_or_insert(at);
        let after = at.saturating_duration_since(origin);
        while after.as_nanos() / self.width.as_nanos() >= MAX_INTERVALS as u128 {
            self.merge_pairs();
        }
        let index =
            usize::try_from(after.as_nanos() / self.width.as_nanos()).unwrap_or(MAX_INTERVALS - 1);
        if self.intervals.len() <= index {
            self.intervals.resize_with(index + 1, Levels::new);
        }
        &mut self.intervals[index]
    }

    fn merge_pairs(&mut self) {
        self.width *= 2;
        let mut intervals = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = intervals.next() {
            if let Some(second) = intervals.next() {
                add(&mut first, &second);
            }
            self.intervals.push(first);
        }
    }
}
