//! The capacities that the searches of two runs found.
//!
//! A search has one result with an interval, and not a value for each request, so no test of
//! significance applies. A capacity is worse if its interval is completely below the interval of
//! the base run, and if the change is larger than the resolution of the searches.

use serde::Serialize;

use super::super::{LevelKind, PhaseReport, RouteReport, SearchReport};
use super::text::judgement_of;
use super::{
    Change, Comparison, ComparisonCode, ComparisonReason, label, place, route_name, setup,
};
use crate::capacity::Ending;
use crate::check::numbers::three_digits;

/// The capacity that a search found: a rate, or a number of requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FoundCapacity {
    /// 0 if not even the lowest level met the objectives.
    pub value: f64,
    /// The lower end of the interval. `None` if no level provenly met the objectives, or if the
    /// steps are too short for a confidence.
    pub low: Option<f64>,
    /// The upper end. `None` if no level provenly missed an objective.
    pub high: Option<f64>,
}

/// The capacity in a new run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NewCapacity {
    /// `None` if the search of this run found none.
    pub capacity: Option<FoundCapacity>,
    /// The new value / the base value − 1.
    pub change_ratio: Option<f64>,
    pub change: Change,
}

/// A search of the base run, with the same search of all new runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedSearch {
    /// The scenario and the target in the base run.
    pub route: String,
    pub phase: String,
    pub kind: LevelKind,
    pub base: Option<FoundCapacity>,
    /// One entry per new run.
    pub new: Vec<NewCapacity>,
}

impl FoundCapacity {
    fn of(search: &SearchReport) -> Option<FoundCapacity> {
        let is = |ending| search.has_ended(ending);
        let value = match search.met {
            Some(met) if is(Ending::Found) || is(Ending::LastMet) || is(Ending::OutOfSteps) => met,
            None if is(Ending::FirstMissed) => 0.0,
            _ => return None,
        };
        // Without a confidence, the two levels are no interval.
        let proven = |level: Option<f64>| level.filter(|_| search.confidence.is_some());
        Some(FoundCapacity { value, low: proven(search.lower), high: proven(search.upper) })
    }

    /// True if the interval is completely below the other interval.
    fn is_below(&self, other: &FoundCapacity) -> bool {
        self.high.zip(other.low).is_some_and(|(high, low)| high < low)
    }

    fn interval(&self) -> String {
        match (self.low, self.high) {
            (None, None) => String::new(),
            (Some(low), None) => format!("≥ {}", three_digits(low)),
            (low, Some(high)) => {
                format!("{}–{}", three_digits(low.unwrap_or_default()), three_digits(high))
            }
        }
    }
}

impl Comparison {
    /// Compares a search of the base run. `routes` has the same route of each new run.
    pub(super) fn compare_search(
        &mut self,
        route: &RouteReport,
        phase: &PhaseReport,
        routes: &[Option<&RouteReport>],
    ) {
        let Some(base) = &phase.search else {
            let place = place(route, phase);
            return self.notes.push(format!("{place}: the base run did not begin this search"));
        };
        let mut new = Vec::new();
        for (index, other) in routes.iter().enumerate() {
            let same = other.and_then(|other| {
                let mut phases = other.phases.iter();
                phases.find(|new| new.name == phase.name && setup::have_same_load(phase, new))
            });
            let found = same.and_then(|same| same.search.as_ref());
            let compared = new_capacity(base, found, phase.explore);
            if let Some(difference) = found.and_then(|found| different_setting(base, found))
                && !phase.explore
            {
                let (place, label) = (place(route, phase), label(index, routes.len()));
                self.reasons.push(ComparisonReason {
                    code: ComparisonCode::NotMeasured,
                    text: format!(
                        "{place}: the search of {label} has {difference}, so the capacities cannot \
                         be compared"
                    ),
                });
            }
            if same.is_some() && compared.capacity.is_none() && !phase.explore {
                let (place, label) = (place(route, phase), label(index, routes.len()));
                self.reasons.push(ComparisonReason {
                    code: ComparisonCode::NotMeasured,
                    text: format!("{place}: the search of {label} has found no capacity"),
                });
            }
            new.push(compared);
        }
        self.searches.push(ComparedSearch {
            route: route_name(route),
            phase: setup::phase_name(phase),
            kind: base.from.kind,
            base: FoundCapacity::of(base),
            new,
        });
    }

    /// Returns a reason for each capacity that is worse.
    pub(super) fn worse_capacities(&self) -> Vec<ComparisonReason> {
        let mut reasons = Vec::new();
        for search in &self.searches {
            for (index, new) in search.new.iter().enumerate() {
                let (Some(before), Some(after), Change::Worse) =
                    (search.base, new.capacity, new.change)
                else {
                    continue;
                };
                reasons.push(ComparisonReason {
                    code: ComparisonCode::Worse,
                    text: format!(
                        "{}: {} is worse in its capacity ({}): {} instead of {}",
                        search.place(),
                        label(index, search.new.len()),
                        new.change_text(),
                        search.show(after.value),
                        search.show(before.value)
                    ),
                });
            }
        }
        reasons
    }
}

/// Judges the capacity of a new run. `found` is `None` if the new run did not begin the search.
fn new_capacity(base: &SearchReport, found: Option<&SearchReport>, explores: bool) -> NewCapacity {
    let none = NewCapacity { capacity: None, change_ratio: None, change: Change::TooFew };
    let Some(search) = found else { return none };
    let (Some(before), Some(after)) = (FoundCapacity::of(base), FoundCapacity::of(search)) else {
        return NewCapacity { capacity: FoundCapacity::of(search), ..none };
    };
    let is_sure = base.confidence.is_some() && search.confidence.is_some();
    let is_judged = !explores && is_sure && different_setting(base, search).is_none();
    let resolution = base.resolution;
    let difference = after.value - before.value;
    let is_larger = difference.abs() > before.value * resolution;
    let (is_below, is_above) = (after.is_below(&before), before.is_below(&after));
    let change = match () {
        () if !is_judged => Change::NotJudged,
        () if is_below && is_larger => Change::Worse,
        () if is_above && is_larger => Change::Better,
        () if is_below || is_above => Change::Tolerated,
        () if is_larger => Change::Unclear,
        () => Change::None,
    };
    let ratio = (before.value > 0.0).then(|| after.value / before.value - 1.0);
    NewCapacity { capacity: Some(after), change_ratio: ratio, change }
}

/// Returns the setting that two searches do not share, as a text. Their results then have different
/// meanings.
fn different_setting(base: &SearchReport, new: &SearchReport) -> Option<&'static str> {
    let differs = |old: f64, new: f64| (old - new).abs() > 1e-9;
    if base.objectives != new.objectives {
        Some("other objectives")
    } else if differs(base.step_seconds, new.step_seconds) {
        Some("steps of another length")
    } else if differs(base.resolution, new.resolution) {
        Some("another resolution")
    } else {
        None
    }
}

impl NewCapacity {
    fn change_text(&self) -> String {
        self.change_ratio.map_or_else(|| "–".to_owned(), super::change_text)
    }
}

impl ComparedSearch {
    pub(super) fn place(&self) -> String {
        format!("{}, {}", self.route, self.phase)
    }

    /// True if the capacity of a new run was judged.
    pub(super) fn is_judged(&self) -> bool {
        let not_judged = [Change::NotJudged, Change::TooFew];
        self.new.iter().any(|new| !not_judged.contains(&new.change))
    }

    pub(super) fn number_of(&self, change: Change) -> usize {
        self.new.iter().filter(|new| new.change == change).count()
    }

    pub(super) fn heading(&self) -> String {
        format!("{} · {}", self.route, self.phase)
    }

    fn show(&self, value: f64) -> String {
        match self.kind {
            LevelKind::Rate => format!("{}/s", three_digits(value)),
            LevelKind::Concurrency => format!("{} at a time", three_digits(value)),
        }
    }

    /// The row of a table with the columns of [`Comparison::columns`].
    pub(super) fn row(&self) -> Vec<String> {
        let value = |found: Option<FoundCapacity>| {
            found.map_or_else(|| "–".to_owned(), |found| self.show(found.value))
        };
        let interval =
            |found: Option<FoundCapacity>| found.map(|found| found.interval()).unwrap_or_default();
        let mut cells = vec!["capacity".to_owned(), value(self.base)];
        let has_intervals = self.new.len() == 1;
        if has_intervals {
            cells.push(interval(self.base));
        }
        for new in &self.new {
            cells.push(value(new.capacity));
            if has_intervals {
                cells.push(interval(new.capacity));
            }
            cells.push(new.change_text());
            cells.push(judgement_of(new.change).to_owned());
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(met: Option<f64>, interval: (Option<f64>, Option<f64>)) -> SearchReport {
        let ending = if met.is_some() { Ending::Found } else { Ending::FirstMissed };
        SearchReport {
            ending: ending.as_str().to_owned(),
            met,
            lower: interval.0,
            upper: interval.1,
            confidence: Some(0.95),
            resolution: 0.05,
            ..SearchReport::default()
        }
    }

    #[test]
    fn a_capacity_is_worse_only_below_the_interval_and_by_more_than_the_resolution() {
        let base = search(Some(20.0), (Some(19.0), Some(21.0)));
        let change = |new: &SearchReport| new_capacity(&base, Some(new), false).change;
        let cases = [
            (Some(20.0), (Some(19.5), Some(20.5)), Change::None),
            (Some(16.0), (Some(15.0), Some(19.0)), Change::Unclear),
            (Some(16.0), (Some(15.0), Some(18.9)), Change::Worse),
            (Some(24.0), (Some(21.1), Some(25.0)), Change::Better),
            (Some(24.0), (Some(21.0), None), Change::Unclear),
            (Some(24.0), (Some(21.1), None), Change::Better),
            // One of the two ends has no proof.
            (Some(10.0), (Some(9.0), None), Change::Unclear),
            (None, (None, Some(1.0)), Change::Worse),
        ];
        for (met, interval, expected) in cases {
            assert_eq!(change(&search(met, interval)), expected, "{met:?} {interval:?}");
        }
        // The intervals do not overlap, but the change is within 5 %.
        let near = search(Some(19.2), (Some(18.0), Some(18.9)));
        assert_eq!(change(&near), Change::Tolerated);
    }

    #[test]
    fn searches_with_different_settings_are_not_judged() {
        let base = search(Some(20.0), (Some(19.0), Some(21.0)));
        let worse = search(Some(10.0), (Some(9.0), Some(11.0)));
        assert_eq!(new_capacity(&base, Some(&worse), false).change, Change::Worse);
        let objectives = vec!["ttft p99 ≤ 2 s".to_owned()];
        let others = [
            (SearchReport { objectives, ..worse.clone() }, "other objectives"),
            (SearchReport { step_seconds: 6.0, ..worse.clone() }, "steps of another length"),
            (SearchReport { resolution: 0.1, ..worse.clone() }, "another resolution"),
        ];
        for (other, text) in others {
            assert_eq!(different_setting(&base, &other), Some(text));
            assert_eq!(new_capacity(&base, Some(&other), false).change, Change::NotJudged);
        }
    }

    #[test]
    fn a_search_without_a_confidence_has_no_interval() {
        let sure = search(Some(20.0), (Some(19.0), Some(21.0)));
        assert_eq!(FoundCapacity::of(&sure).unwrap().interval(), "19–21");
        let unsure = SearchReport { confidence: None, ..sure };
        assert_eq!(FoundCapacity::of(&unsure).unwrap().interval(), "");
    }

    #[test]
    fn a_search_without_a_confidence_or_a_result_is_not_judged() {
        let base = search(Some(20.0), (Some(19.0), Some(21.0)));
        let unsure =
            SearchReport { confidence: None, ..search(Some(10.0), (Some(9.0), Some(11.0))) };
        assert_eq!(new_capacity(&base, Some(&unsure), false).change, Change::NotJudged);
        assert_eq!(new_capacity(&base, Some(&base), true).change, Change::NotJudged);
        let ending = Ending::Interrupted.as_str().to_owned();
        let interrupted = SearchReport { ending, ..base.clone() };
        let compared = new_capacity(&base, Some(&interrupted), false);
        assert_eq!((compared.capacity, compared.change), (None, Change::TooFew));
    }
}
