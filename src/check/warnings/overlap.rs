//! A warning about two scenarios that send load to one server at the same time.

use std::time::Duration;

use super::server_of;
use crate::check::demand::{Demand, Extremes};
use crate::check::forecast::{BUCKETS, DAY, Forecast};
use crate::check::planned_runs::PlannedRuns;
use crate::plan::{Plan, Scenario};

/// The most warnings. A plan with many scenarios for one server has many pairs.
const MAX_WARNINGS: usize = 3;

/// Returns one warning for each pair of scenarios that share a server at the same time.
pub fn find(plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut more = 0_usize;
    for (index, second) in plan.scenarios.iter().enumerate() {
        for first in &plan.scenarios[..index] {
            let Some(server) = shared_server(first, second) else { continue };
            if !run_together(plan, forecast, first, second) {
                continue;
            }
            if warnings.len() == MAX_WARNINGS {
                more += 1;
                continue;
            }
            warnings.push(format!(
                "scenarios {} and {} share {server} and run at the same time, so each slows the \
                 other down; run each alone with `llmload run --scenario`, or give them different \
                 `active` windows, unless this is intended",
                first.name, second.name
            ));
        }
    }
    if more > 0 {
        warnings.push(format!("{more} more pairs of scenarios share a server at the same time"));
    }
    warnings
}

fn shared_server(first: &Scenario, second: &Scenario) -> Option<String> {
    let of_first: Vec<String> = first.targets().map(|target| server_of(target, false)).collect();
    let mut of_second = second.targets().map(|target| server_of(target, false));
    of_second.find(|server| of_first.contains(server))
}

/// Returns true if both scenarios have load at the same time.
fn run_together(plan: &Plan, forecast: &Forecast, first: &Scenario, second: &Scenario) -> bool {
    let load = |scenario| Load {
        demand: Demand::new(scenario, plan.shard),
        runs: PlannedRuns::new(scenario, forecast.from, DAY),
    };
    let loads = [load(first), load(second)];
    // The length of a phase that counts requests is unknown, so it overlaps from its first instant.
    let is_timed = [first, second].iter().all(|scenario| scenario.schedule.is_timed());
    let bucket = forecast.span / BUCKETS;
    // A scenario that starts when the other ends is in the same part of time only once.
    let mut overlap = Overlap {
        loads,
        part: (bucket / 16).min(Duration::from_secs(1)),
        parts_left: if is_timed { 2 } else { 1 },
    };
    (0..BUCKETS).any(|index| {
        let edge = |index: u32| forecast.span * index / BUCKETS;
        overlap.is_found_between(edge(index), edge(index + 1))
    })
}

struct Load<'a> {
    demand: Demand<'a>,
    runs: PlannedRuns,
}

impl Load<'_> {
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

struct Overlap<'a> {
    loads: [Load<'a>; 2],
    /// The length of the shortest part of time that the search looks at.
    part: Duration,
    /// The number of parts with load of both scenarios that are still to be found.
    parts_left: u32,
}

impl Overlap<'_> {
    fn is_found_between(&mut self, from: Duration, to: Duration) -> bool {
        if !self.loads.iter().all(|load| load.is_active(from, to)) {
            return false;
        }
        if to.saturating_sub(from) <= self.part || from >= to {
            self.parts_left -= 1;
            return self.parts_left == 0;
        }
        let middle = from + to.saturating_sub(from) / 2;
        self.is_found_between(from, middle) || self.is_found_between(middle, to)
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
             c: {{base_url: 'http://h:2/v1'}}}}\nscenarios: {{{scenarios}}}"
        );
        let plan = crate::config::parse(&yaml, "f.yml", None, &|_| None).unwrap();
        let checked =
            FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH, SystemLimits::default());
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
                        the other down; run each alone with `llmload run --scenario`";
        assert!(warning.starts_with(expected), "{warning}");
        let apart = format!("x: {{target: a, {rate}}}, y: {{target: c, {rate}}}");
        assert_eq!(warnings(&apart), [""; 0], "different servers");
        let many: Vec<_> = (0..4).map(|n| format!("x{n}: {{target: a, {rate}}}")).collect();
        let many = warnings(&many.join(", "));
        assert_eq!(
            (many.len(), many[3].as_str()),
            (4, "f.yml: 3 more pairs of scenarios share a server at the same time")
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
        let windows = "x: {target: a, rate: 1/s, active: {hours: '08:00-12:00'}}, \
                       y: {target: a, rate: 1/s, active: {hours: '12:00-18:00'}}";
        assert_eq!(warnings(windows), [""; 0]);
    }
}
