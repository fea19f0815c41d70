//! The headline of a run that has failed: the missed objectives, each with the targets that missed
//! it and their levels.

use super::{MOST_NAMES, at, highest, level_name, list};
use crate::capacity::Ending;
use crate::check::numbers::{percent, three_digits};
use crate::report::{
    LedgerReport, LevelKind, ObjectiveResult, PhaseReport, Reason, ReasonCode, Report, RouteReport,
};

pub(super) fn failed(report: &Report) -> String {
    let (routes, reasons) = (&report.routes, &report.verdict.reasons);
    if let Some(missed) = missed_capacity(routes) {
        return missed;
    }
    let groups = groups(routes, reasons);
    if groups.is_empty() {
        let ledgers = || routes.iter().map(|route| &route.ledger);
        let (failed, finished) = (
            ledgers().map(LedgerReport::total_failed).sum::<u64>(),
            ledgers().map(|ledger| ledger.finished).sum::<u64>(),
        );
        if failed == finished {
            return "all requests failed".to_owned();
        }
        #[allow(clippy::cast_precision_loss)]
        return format!("{} of the requests failed", percent(failed as f64 / finished as f64));
    }
    let bad: Vec<&PhaseReport> = groups.iter().flat_map(|group| &group.missed).copied().collect();
    let mut misses = bad.iter().flat_map(|phase| &phase.slo);
    let is_chance = misses.all(|result| result.passed || result.is_missed_by_chance());
    let chance = if is_chance { ", which chance can explain" } else { "" };
    format!("{}{chance}{}", sentence(&groups, routes.len() > 1), met_below(&bad, routes))
}

/// The lowest level of a search, if it misses the objectives.
fn missed_capacity(routes: &[RouteReport]) -> Option<String> {
    let mut searches = routes.iter().flat_map(|route| &route.phases);
    let missed = searches.find_map(|phase| {
        let search = phase.search.as_ref().filter(|_| !phase.explore)?;
        search.has_ended(Ending::FirstMissed).then_some(search)
    });
    let level = level_name(missed?.from);
    Some(format!("objectives missed at {level}, the lowest level of the search"))
}

/// The targets that missed the same objectives in the same phases.
struct Group<'a> {
    targets: Vec<String>,
    /// The names of the measures.
    measures: Vec<&'a str>,
    missed: Vec<&'a PhaseReport>,
    /// The number of judged phases.
    judged: usize,
}

fn groups<'a>(routes: &'a [RouteReport], reasons: &'a [Reason]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for route in routes {
        let name = route.route();
        let is_miss = |reason: &&Reason| {
            reason.code == ReasonCode::ObjectiveMissed && reason.route.as_ref() == Some(&name)
        };
        let of_route: Vec<&Reason> = reasons.iter().filter(is_miss).collect();
        let mut measures: Vec<&str> = Vec::new();
        for reason in &of_route {
            let measure = measure_name(reason.objective.as_deref().unwrap_or_default());
            if !measures.contains(&measure) {
                measures.push(measure);
            }
        }
        let is_missed = |phase: &&PhaseReport| {
            of_route.iter().any(|reason| reason.phase.as_deref() == Some(&phase.name))
        };
        let missed: Vec<&PhaseReport> = route.judged_phases().filter(is_missed).collect();
        if measures.is_empty() {
            continue;
        }
        let others = routes.iter().filter(|other| other.target == route.target);
        let target = if others.count() > 1 { name.clone() } else { route.target.clone() };
        let is_same = |group: &&mut Group<'_>| {
            let names = |phases: &[&PhaseReport]| -> Vec<String> {
                phases.iter().map(|phase| phase.name.clone()).collect()
            };
            group.measures == measures && names(&group.missed) == names(&missed)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.targets.push(target),
            None => groups.push(Group {
                targets: vec![target],
                measures,
                missed,
                judged: route.judged_phases().count(),
            }),
        }
    }
    groups
}

fn sentence(groups: &[Group<'_>], has_targets: bool) -> String {
    let [first, others @ ..] = groups else { return String::new() };
    if others.is_empty() {
        let by = if has_targets { first.by() } else { String::new() };
        return format!("{} missed{by}{}", objectives(&first.measures), first.place());
    }
    if groups.len() > MOST_NAMES {
        let mut measures: Vec<&str> = Vec::new();
        for measure in groups.iter().flat_map(|group| &group.measures) {
            if !measures.contains(measure) {
                measures.push(measure);
            }
        }
        let targets: usize = groups.iter().map(|group| group.targets.len()).sum();
        return format!("{} missed by {targets} targets", objectives(&measures));
    }
    if others.iter().all(|other| other.measures == first.measures) {
        let places = groups.iter().map(|group| format!("{}{}", group.by(), group.place()));
        let places: Vec<String> = places.collect();
        let places: Vec<&str> = places.iter().map(|place| place.trim_start()).collect();
        return format!("{} missed {}", objectives(&first.measures), list(&places));
    }
    let parts = groups.iter().map(|group| {
        format!("{} missed{}{}", objectives(&group.measures), group.by(), group.place())
    });
    parts.collect::<Vec<_>>().join("; ")
}

impl Group<'_> {
    fn by(&self) -> String {
        let targets: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        match targets.len() {
            few if few <= MOST_NAMES => format!(" by {}", list(&targets)),
            many => format!(" by {many} targets"),
        }
    }

    fn place(&self) -> String {
        match self.missed.len() {
            _ if self.judged < 2 && highest(&self.missed).is_none() => String::new(),
            few if few <= MOST_NAMES => format!(" {}", at(&self.missed)),
            many if many == self.judged => format!(" at all {many} levels"),
            many => format!(" at {many} of {} levels", self.judged),
        }
    }
}

/// `TTFT and success rate objectives`.
fn objectives(measures: &[&str]) -> String {
    let noun = if measures.len() == 1 { "objective" } else { "objectives" };
    format!("{} {noun}", list(measures))
}

/// The highest level at which all targets met all objectives, if all missed levels are higher.
fn met_below(missed: &[&PhaseReport], routes: &[RouteReport]) -> String {
    let judged: Vec<&PhaseReport> = routes.iter().flat_map(RouteReport::judged_phases).collect();
    let Some(kind) = highest(&judged).map(|level| level.kind) else { return String::new() };
    let value = |phase: &&PhaseReport| phase.level.map_or(f64::INFINITY, |level| level.value);
    let lowest_missed = missed.iter().map(value).fold(f64::INFINITY, f64::min);
    let is_met = |phase: &&&PhaseReport| {
        let all_met = phase.slo.iter().all(|result: &ObjectiveResult| result.passed);
        all_met && phase.sent && !phase.cut && value(phase) < lowest_missed
    };
    let mut met: Vec<f64> = judged.iter().filter(is_met).map(value).collect();
    met.sort_by(f64::total_cmp);
    met.dedup();
    let Some(most) = met.last() else { return String::new() };
    let unit = if kind == LevelKind::Rate { "/s" } else { "" };
    let up_to = if met.len() > 1 { "up to" } else { "at" };
    format!("; all objectives met {up_to} {}{unit}", three_digits(*most))
}

/// The name of the measure of an objective such as `ttft p99`.
fn measure_name(objective: &str) -> &str {
    match objective.split(' ').next().unwrap_or_default() {
        "ttft" => "TTFT",
        "tpot" => "TPOT",
        "e2e_latency" => "latency",
        "success_rate" => "success rate",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::headline;
    use super::super::tests::{concurrency, phase, report, report_of};

    #[test]
    fn a_miss_names_the_objective_the_levels_and_the_last_level_without_a_miss() {
        let levels = |missed: [&[&str]; 3]| {
            let [low, middle, high] = missed;
            report(vec![concurrency(5.0, low), concurrency(35.0, middle), concurrency(100.0, high)])
        };
        for (missed, expected) in [
            (
                [&[][..], &[], &["ttft"]],
                "TTFT objective missed at 100 concurrent requests; all objectives met up to 35",
            ),
            (
                [&[], &["ttft"], &["ttft", "success_rate"]],
                "TTFT and success rate objectives missed at 35 and 100 concurrent requests; all \
                 objectives met at 5",
            ),
            ([&["ttft"], &[], &[]], "TTFT objective missed at 5 concurrent requests"),
            ([&["ttft"]; 3], "TTFT objective missed at 5, 35 and 100 concurrent requests"),
            ([&[], &[], &[]], "All objectives met up to 100 concurrent requests"),
        ] {
            assert_eq!(headline(&levels(missed)), expected);
        }
        let many = |missed: fn(i32) -> bool| {
            let level =
                |value: i32| concurrency(value.into(), if missed(value) { &["ttft"] } else { &[] });
            headline(&report((1..6).map(level).collect()))
        };
        assert_eq!(many(|_| true), "TTFT objective missed at all 5 levels");
        let expected = "TTFT objective missed at 4 of 5 levels; all objectives met at 1";
        assert_eq!(many(|level| level > 1), expected);
    }

    #[test]
    fn each_target_that_missed_an_objective_is_named_with_its_levels() {
        let two = |main: [&[&str]; 2], canary: [&[&str]; 2]| {
            let levels = |missed: [&[&str]; 2]| {
                vec![concurrency(5.0, missed[0]), concurrency(20.0, missed[1])]
            };
            headline(&report_of(vec![("main", levels(main)), ("canary", levels(canary))]))
        };
        let (none, ttft): (&[&str], &[&str]) = (&[], &["ttft"]);
        for (main, canary, expected) in [
            (
                [none, none],
                [none, ttft],
                "TTFT objective missed by canary at 20 concurrent requests; all objectives met at 5",
            ),
            (
                [none, ttft],
                [none, ttft],
                "TTFT objective missed by main and canary at 20 concurrent requests; all objectives \
                 met at 5",
            ),
            (
                [none, ttft],
                [ttft, ttft],
                "TTFT objective missed by main at 20 concurrent requests and by canary at 5 and 20 \
                 concurrent requests",
            ),
            (
                [none, ttft],
                [none, &["success_rate"]],
                "TTFT objective missed by main at 20 concurrent requests; success rate objective \
                 missed by canary at 20 concurrent requests; all objectives met at 5",
            ),
        ] {
            assert_eq!(two(main, canary), expected);
        }
    }

    #[test]
    fn many_targets_that_missed_different_objectives_are_counted() {
        let levels = |number: usize| {
            let levels = (0..4).map(|level| {
                let missed: &[&str] = if level == number { &["ttft"] } else { &[] };
                concurrency(f64::from(u32::try_from(level).unwrap()), missed)
            });
            levels.collect::<Vec<_>>()
        };
        let targets = ["a", "b", "c", "d"].into_iter().enumerate();
        let routes = targets.map(|(number, name)| (name, levels(number))).collect();
        assert_eq!(headline(&report_of(routes)), "TTFT objective missed by 4 targets");
    }

    #[test]
    fn a_headline_says_if_chance_can_explain_every_miss() {
        let mut missed = report(vec![phase("only", None, &["ttft"])]);
        assert_eq!(headline(&missed), "TTFT objective missed");
        missed.routes[0].phases[0].slo[0].sure = false;
        assert_eq!(headline(&missed), "TTFT objective missed, which chance can explain");
        let mut one_of_two = report(vec![concurrency(5.0, &["ttft"]), concurrency(9.0, &["ttft"])]);
        one_of_two.routes[0].phases[0].slo[0].sure = false;
        let expected = "TTFT objective missed at 5 and 9 concurrent requests";
        assert_eq!(headline(&one_of_two), expected);
    }
}
