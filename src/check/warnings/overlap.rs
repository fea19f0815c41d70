//! A warning about two scenarios that send load to one server at the same time.
//!
//! A comparison of all pairs of scenarios would be slow. So for each server, the search halves the
//! time again and again, and keeps only the scenarios that have load in a half.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::server_of;
use crate::check::demand::{Demand, Extremes};
use crate::check::forecast::{BUCKETS, DAY, Forecast};
use crate::check::planned_runs::PlannedRuns;
use crate::check::succession::is_in_sequence;
use crate::plan::{Plan, Scenario};

/// The most warnings, because many scenarios on one server have very many pairs.
const MAX_WARNINGS: usize = 3;

/// The most scenarios that the search combines into pairs in one part of time. Their pairs are
/// enough for the warnings.
const MAX_COMBINED: usize = 64;

/// Returns one warning for each pair of scenarios that share a server at the same time.
pub fn find(plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let mut pairs = BTreeMap::new();
    let runs = PlannedRuns::of_plan(plan, forecast.from, DAY);
    let predecessors = plan.predecessors();
    for (server, scenarios) in by_server(plan) {
        if scenarios.len() < 2 {
            continue;
        }
        let loads: Vec<Load<'_>> =
            scenarios.into_iter().map(|index| Load::new(plan, index, &runs)).collect();
        for pair in Search::new(forecast, &predecessors).pairs(&loads) {
            pairs.entry(pair).or_insert_with(|| server.clone());
        }
        if pairs.len() > MAX_WARNINGS {
            break;
        }
    }
    let warning = |((second, first), server): (&(usize, usize), &String)| {
        let [first, second] = [*first, *second].map(|index| &plan.scenarios[index].name);
        format!(
            "scenarios {first} and {second} share {server} and run at the same time, so each slows \
             the other down; run them one after the other with `after` or `llmload run --sequential`, \
             or give them different `active` windows, unless this is intended"
        )
    };
    let mut warnings: Vec<String> = pairs.iter().take(MAX_WARNINGS).map(warning).collect();
    if pairs.len() > MAX_WARNINGS {
        warnings.push("more pairs of scenarios share a server at the same time".to_owned());
    }
    warnings
}

/// Returns the servers, each with the indices of the scenarios that send load to it.
fn by_server(plan: &Plan) -> BTreeMap<String, BTreeSet<usize>> {
    let mut servers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (index, scenario) in plan.scenarios.iter().enumerate() {
        for target in scenario.targets() {
            servers.entry(server_of(target, false)).or_default().insert(index);
        }
    }
    servers
}

struct Load<'a> {
    /// The index in the plan.
    index: usize,
    scenario: &'a Scenario,
    demand: Demand<'a>,
    runs: &'a PlannedRuns,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan, index: usize, runs: &'a [PlannedRuns]) -> Load<'a> {
        let scenario = &plan.scenarios[index];
        Load { index, scenario, demand: Demand::new(scenario, plan.shard), runs: &runs[index] }
    }

    fn is_active(&self, from: Duration, to: Duration) -> bool {
        let runs = &self.runs.runs;
        let first = runs.partition_point(|run| run.end <= from && run.begin < from);
        let runs = runs.iter().skip(first).take_while(|run| run.begin < to);
        let extremes = runs.fold(Extremes::NONE, |extremes, run| {
            let (from, to) = (run.begin.max(from), run.end.min(to));
            extremes.merge(self.demand.extremes(run, from, to))
        });
        extremes.rate_max > 0.0 || extremes.slots > 0
    }
}

struct Search<'a> {
    predecessors: &'a [Option<usize>],
    span: Duration,
    /// The shortest part of time that the search looks at.
    part: Duration,
    /// For each pair, the number of parts in which both have load. The larger index is first.
    parts: BTreeMap<(usize, usize), u32>,
    found: BTreeSet<(usize, usize)>,
}

impl<'a> Search<'a> {
    fn new(forecast: &Forecast, predecessors: &'a [Option<usize>]) -> Search<'a> {
        let bucket = forecast.span / BUCKETS;
        Search {
            predecessors,
            span: forecast.span,
            part: (bucket / 16).min(Duration::from_secs(1)),
            parts: BTreeMap::new(),
            found: BTreeSet::new(),
        }
    }

    /// Returns the pairs. Above [`MAX_WARNINGS`], some pairs can be missing.
    fn pairs(mut self, loads: &[Load<'_>]) -> BTreeSet<(usize, usize)> {
        let loads: Vec<_> = loads.iter().collect();
        let span = self.span;
        for index in 0..BUCKETS {
            self.look_between(span * index / BUCKETS, span * (index + 1) / BUCKETS, &loads);
        }
        self.found
    }

    fn look_between(&mut self, from: Duration, to: Duration, loads: &[&Load<'_>]) {
        if self.found.len() > MAX_WARNINGS {
            return;
        }
        let active: Vec<_> =
            loads.iter().copied().filter(|load| load.is_active(from, to)).collect();
        if active.len() < 2 {
            return;
        }
        if to.saturating_sub(from) <= self.part || from >= to {
            return self.combine(&active);
        }
        let middle = from + to.saturating_sub(from) / 2;
        self.look_between(from, middle, &active);
        self.look_between(middle, to, &active);
    }

    /// Counts a part of time in which all these scenarios have load.
    fn combine(&mut self, active: &[&Load<'_>]) {
        let active = active.get(..MAX_COMBINED).unwrap_or(active);
        for (position, second) in active.iter().enumerate() {
            for first in &active[..position] {
                let pair = (second.index, first.index);
                if is_in_sequence(self.predecessors, second.index, first.index) {
                    continue;
                }
                let parts = self.parts.entry(pair).or_default();
                *parts += 1;
                // If a scenario starts when the other ends, both are in the same part of time once.
                // So two parts are an overlap. If a phase counts requests, its length is unknown
                // and one part is enough.
                let is_timed = [first, second].iter().all(|load| load.scenario.schedule.is_timed());
                if *parts >= if is_timed { 2 } else { 1 } {
                    self.found.insert(pair);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::check::FileCheck;
    use crate::check::warnings::SystemLimits;

    fn warnings(scenarios: &str) -> Vec<String> {
        let yaml = format!(
            "targets: {{a: {{base_url: 'http://h:1/v1'}}, b: {{base_url: 'http://h:1/v2'}}, \
             c: {{base_url: 'http://h:2/v1'}}}}\nmetrics: {{max_combinations: 1001}}\n\
             scenarios: {{{scenarios}}}"
        );
        let plan = crate::config::parse(&yaml, "f.yml", None, &|_| None).unwrap();
        let checked =
            FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH, SystemLimits::default(), &[]);
        let mut warnings = checked.unwrap().warnings;
        warnings.retain(|warning| warning.contains("at the same time"));
        warnings
    }

    #[test]
    fn scenarios_that_share_a_server_at_the_same_time_cause_a_warning() {
        let rate = "rate: 1/h, request: {max_tokens: 1}";
        let [warning] =
            &warnings(&format!("x: {{target: a, {rate}}}, y: {{target: b, {rate}}}"))[..]
        else {
            panic!()
        };
        let expected = "f.yml: scenarios x and y share h:1 and run at the same time, so each slows \
                        the other down; run them one after the other with `after` or";
        assert!(warning.starts_with(expected), "{warning}");
        let apart = format!("x: {{target: a, {rate}}}, y: {{target: c, {rate}}}");
        assert_eq!(warnings(&apart), [""; 0], "different servers");
        let many: Vec<_> = (0..4).map(|n| format!("x{n}: {{target: a, {rate}}}")).collect();
        let many = warnings(&many.join(", "));
        assert_eq!(
            (many.len(), many[3].as_str()),
            (4, "f.yml: more pairs of scenarios share a server at the same time")
        );
    }

    #[test]
    fn scenarios_that_take_turns_cause_no_warning() {
        let pair = |first: &str, second: &str| {
            let scenario = |name: &str, schedule: &str| {
                format!("{name}: {{target: a, repeat: 1, schedule: [{schedule}]}}")
            };
            warnings(&format!("{}, {}", scenario("x", first), scenario("y", second))).len()
        };
        let load = "{constant: 1/s, for: 7m}";
        assert_eq!(pair(load, &format!("{{pause: 7m}}, {load}")), 0, "one starts when one ends");
        assert_eq!(pair(load, &format!("{{pause: 6m50s}}, {load}")), 1);
        assert_eq!(pair(load, "{pause: 1h}, {concurrency: 3, for: 1m}"), 0);
        assert_eq!(pair(load, "{concurrency: 3, requests: 10}"), 1);
        let counted = "{concurrency: 3, requests: 10}";
        let chain = |after: &str| {
            warnings(&format!(
                "x: {{target: a, repeat: 1, schedule: [{counted}]}}, \
                 y: {{target: a, repeat: 1, schedule: [{load}], after: x}}, \
                 z: {{target: a, repeat: 1, schedule: [{counted}], after: {after}}}"
            ))
            .len()
        };
        assert_eq!(chain("y"), 0, "one after the other");
        assert_eq!(chain("x"), 1, "both start when the first has ended");
        let windows = "x: {target: a, rate: 1/s, active: {hours: '08:00-12:00'}}, \
                       y: {target: a, rate: 1/s, active: {hours: '12:00-18:00'}}";
        assert_eq!(warnings(windows), [""; 0]);
    }

    #[test]
    fn the_warnings_about_many_scenarios_are_few_and_complete() {
        let scenarios = |schedule: &dyn Fn(u32) -> String| {
            let one = |n| format!("x{n}: {{target: a, repeat: 1, schedule: [{}]}}", schedule(n));
            (0..200).map(one).collect::<Vec<_>>().join(", ")
        };
        let together = scenarios(&|_| "{constant: 1/s, for: 1h}".to_owned());
        assert_eq!(warnings(&together).len(), 4);
        let in_turns =
            scenarios(&|n| format!("{{pause: {}s}}, {{constant: 1/s, for: 10s}}", n * 10 + 1));
        assert_eq!(warnings(&in_turns), [""; 0]);
        let late = "{pause: 1599s}, {constant: 1/s, for: 5s}";
        let last = format!("{in_turns}, y: {{target: b, repeat: 1, schedule: [{late}]}}");
        assert_eq!(warnings(&last).len(), 2, "{:?}", warnings(&last));
    }
}
