//! The result of a run as one sentence, and the name of the test. Both are readable for a person
//! who has never seen the tool.

mod missed;

use super::{
    Level, LevelKind, Outcome, PhaseReport, Reason, ReasonCode, Report, RouteReport,
    verdict as judgement,
};
use crate::capacity::Ending;
use crate::check::numbers::three_digits;
use missed::failed;

/// The most levels or targets that a sentence names.
const MOST_NAMES: usize = 3;

/// Returns the result of a run as a sentence without a full stop. It begins with a capital letter.
pub(super) fn headline(report: &Report) -> String {
    let sentence = match report.verdict.result {
        Outcome::Passed => passed(report),
        Outcome::Failed => failed(report),
        Outcome::Invalid => format!("nothing valid to judge: {}", causes(&report.verdict.reasons)),
    };
    let mut characters = sentence.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).collect()
}

/// Returns the verdict and its sentence for a terminal: `failed: TTFT objective missed at …`.
pub(super) fn verdict(report: &Report) -> String {
    match report.verdict.result {
        Outcome::Passed => format!("passed: {}", passed(report)),
        Outcome::Failed => format!("failed: {}", failed(report)),
        Outcome::Invalid => format!("invalid: {}", causes(&report.verdict.reasons)),
    }
}

fn passed(report: &Report) -> String {
    let routes = &report.routes;
    if let Some(capacities) = capacities(routes) {
        return capacities;
    }
    if !routes.iter().any(RouteReport::has_objectives) {
        let levels = routes.iter().flat_map(RouteReport::levels);
        let rate = |phase: &PhaseReport| phase.statistics.queries_per_second.unwrap_or_default();
        let best = levels.max_by(|one, other| rate(one).total_cmp(&rate(other)));
        let Some(best) = best.filter(|best| rate(best) > 0.0) else {
            return "no objectives set; the measurement is valid".to_owned();
        };
        let rate = three_digits(rate(best));
        return format!("up to {rate} successful requests/s {}; no objectives set", at(&[best]));
    }
    let doubt = if report.verdict.sure { "" } else { ", some by too few requests to be sure" };
    let judged: Vec<&PhaseReport> = unique(routes.iter().flat_map(RouteReport::judged_phases));
    let place = match (highest(&judged), judged.as_slice()) {
        (Some(_), [one]) => format!(" {}", at(&[one])),
        (Some(highest), _) => format!(" up to {}", level_name(highest)),
        (None, _) => String::new(),
    };
    format!("all objectives met{place}{doubt}")
}

/// The capacities, if the routes send no load except searches.
fn capacities(routes: &[RouteReport]) -> Option<String> {
    if !judgement::is_only_search(routes) {
        return None;
    }
    let searches = routes.iter().flat_map(|route| &route.phases);
    let texts = searches.filter_map(|phase| {
        let search = phase.search.as_ref()?;
        let level = level_name(Level { value: search.met?, ..search.from });
        let least = if search.has_ended(Ending::LastMet) { "at least " } else { "" };
        Some(format!("the capacity is {least}{level}"))
    });
    let texts: Vec<String> = texts.collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    (!texts.is_empty()).then(|| list(&texts))
}

/// The causes of an invalid run, at most two.
fn causes(reasons: &[Reason]) -> String {
    let mut causes: Vec<&str> = Vec::new();
    for reason in reasons {
        let cause = match reason.code {
            ReasonCode::ObjectiveMissed | ReasonCode::Failures => continue,
            ReasonCode::Distorted => "llmload itself distorted the measurement",
            ReasonCode::ClientFailures => "requests failed in llmload or its machine",
            ReasonCode::Interrupted => "the run was interrupted",
            ReasonCode::Dropped => "too many arrivals were dropped",
            ReasonCode::RateLimits => "the load reached the rate limits of the target in llmload",
            ReasonCode::Budget => "a budget of the scenario was used up",
            ReasonCode::TooFewRequests => "too few requests",
            ReasonCode::NothingSent => "no request has ended",
            ReasonCode::NotReady => "the target was not ready",
            ReasonCode::Refused => "the target refused the key or had no quota left",
            ReasonCode::CutShort => "--for ended the run before the end of its schedule",
            ReasonCode::Error => "the run failed in llmload",
        };
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes.truncate(2);
    if causes.is_empty() { "the run proves nothing".to_owned() } else { list(&causes) }
}

/// Removes further phases with the same name, which are those of other targets.
fn unique<'a>(phases: impl Iterator<Item = &'a PhaseReport>) -> Vec<&'a PhaseReport> {
    let mut unique: Vec<&PhaseReport> = Vec::new();
    for phase in phases {
        if !unique.iter().any(|known| known.name == phase.name) {
            unique.push(phase);
        }
    }
    unique
}

/// The highest level, if all phases have a level of the same kind.
fn highest(phases: &[&PhaseReport]) -> Option<Level> {
    let levels: Option<Vec<Level>> = phases.iter().map(|phase| phase.level).collect();
    let levels = levels?;
    let kind = levels.first()?.kind;
    let is_same = levels.iter().all(|level| level.kind == kind);
    levels.into_iter().filter(|_| is_same).max_by(|one, other| one.value.total_cmp(&other.value))
}

fn level_name(level: Level) -> String {
    format!("{} {}", three_digits(level.value), unit(level))
}

fn unit(level: Level) -> &'static str {
    match level.kind {
        LevelKind::Rate => "requests/s",
        LevelKind::Concurrency if level.value <= 1.0 => "concurrent request",
        LevelKind::Concurrency => "concurrent requests",
    }
}

/// The place of a result: `at 35 and 100 concurrent requests`, or `in burst` without a level.
fn at(phases: &[&PhaseReport]) -> String {
    let Some(highest) = highest(phases) else {
        let names: Vec<&str> = phases.iter().map(|phase| phase.name.as_str()).collect();
        return format!("in {}", list(&names));
    };
    let mut values: Vec<f64> =
        phases.iter().filter_map(|phase| phase.level).map(|level| level.value).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let values: Vec<String> = values.into_iter().map(three_digits).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    format!("at {} {}", list(&values), unit(highest))
}

/// `a`, `a and b`, or `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Returns the subject of the test: the title, or the models and their servers.
pub(super) fn subject(report: &Report) -> String {
    report.tested.title.clone().unwrap_or_else(|| list_of_models(report))
}

/// Returns each model with its server: `llama-3 on vLLM 0.9 (http://localhost:8000/v1)`.
pub(super) fn models(report: &Report) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for route in &report.routes {
        let model = if route.model.is_empty() { "unknown model" } else { &route.model };
        let simulator = route.simulated.then(|| "the built-in simulator".to_owned());
        let text = match simulator.or_else(|| route.server_version.clone()) {
            Some(server) => format!("{model} on {server} ({})", route.address),
            None => format!("{model} at {}", route.address),
        };
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn list_of_models(report: &Report) -> String {
    let mut names: Vec<&str> = Vec::new();
    for route in report.routes.iter().filter(|route| !route.model.is_empty()) {
        if !names.contains(&route.model.as_str()) {
            names.push(&route.model);
        }
    }
    match names.len() {
        0 => "unknown model".to_owned(),
        few if few <= MOST_NAMES => list(&names),
        many => format!("{many} models"),
    }
}

/// Returns an instant of RFC 3339 in UTC in words: `27 November 2026, 16:18 UTC`. Any other text
/// stays as it is.
pub(super) fn date_in_words(instant: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let parts = || {
        let (date, time) = instant.strip_suffix('Z')?.split_once('T')?;
        let mut numbers = date.split('-').map(str::parse::<usize>);
        let (year, month, day) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let month = MONTHS.get(month.ok()?.checked_sub(1)?)?;
        Some(format!("{} {month} {}, {} UTC", day.ok()?, year.ok()?, time.get(..5)?))
    };
    parts().unwrap_or_else(|| instant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ObjectiveResult, Verdict};

    pub fn phase(name: &str, level: Option<Level>, missed: &[&str]) -> PhaseReport {
        let results = ["ttft", "success_rate"].map(|measure| ObjectiveResult {
            measure: measure.to_owned(),
            share: 0.99,
            threshold_seconds: (measure == "ttft").then_some(1.0),
            measured: Some(0.5),
            judged: 100,
            met: 100,
            passed: !missed.contains(&measure),
            sure: true,
        });
        let slo = results.to_vec();
        PhaseReport { name: name.to_owned(), level, sent: true, slo, ..PhaseReport::default() }
    }

    pub fn concurrency(value: f64, missed: &[&str]) -> PhaseReport {
        let level = Level { kind: LevelKind::Concurrency, value };
        phase(&format!("concurrency {value}"), Some(level), missed)
    }

    pub fn report(phases: Vec<PhaseReport>) -> Report {
        report_of(vec![("main", phases)])
    }

    /// A report with these targets.
    pub fn report_of(targets: Vec<(&str, Vec<PhaseReport>)>) -> Report {
        let fixture = include_str!("../../tests/messages/base.json");
        let mut report: Report = serde_json::from_str(fixture).unwrap();
        let routes = targets.into_iter().map(|(target, phases)| RouteReport {
            target: target.to_owned(),
            phases,
            ..report.routes[0].clone()
        });
        let routes: Vec<RouteReport> = routes.collect();
        let mut reasons = Vec::new();
        for route in &routes {
            for phase in &route.phases {
                for result in phase.slo.iter().filter(|result| !result.passed) {
                    reasons.push(Reason {
                        route: Some(route.route()),
                        phase: Some(phase.name.clone()),
                        objective: Some(result.label()),
                        ..Reason::new(ReasonCode::ObjectiveMissed, "text")
                    });
                }
            }
        }
        let result = if reasons.is_empty() { Outcome::Passed } else { Outcome::Failed };
        report.verdict = Verdict { result, sure: reasons.is_empty(), reasons };
        report.routes = routes;
        report
    }

    #[test]
    fn a_phase_without_a_level_has_its_name_in_the_headline() {
        let missed = vec![phase("morning", None, &[]), phase("evening", None, &["ttft"])];
        assert_eq!(headline(&report(missed)), "TTFT objective missed in evening");
        let rate = |value| Some(Level { kind: LevelKind::Rate, value });
        let missed = vec![phase("a", rate(5.0), &[]), phase("b", rate(0.5), &["success_rate"])];
        assert_eq!(headline(&report(missed)), "Success rate objective missed at 0.5 requests/s");
        let one = report(vec![phase("only", None, &["ttft"])]);
        assert_eq!(headline(&one), "TTFT objective missed");
        let mut unsure = report(vec![phase("a", rate(5.0), &[])]);
        unsure.verdict.sure = false;
        let expected = "All objectives met at 5 requests/s, some by too few requests to be sure";
        assert_eq!(headline(&unsure), expected);
    }

    #[test]
    fn a_run_without_objectives_has_its_highest_throughput_in_the_headline() {
        let mut phases = vec![concurrency(5.0, &[]), concurrency(35.0, &[])];
        for (phase, rate) in phases.iter_mut().zip([9.03, 31.54]) {
            phase.slo.clear();
            phase.statistics.queries_per_second = Some(rate);
        }
        let expected =
            "Up to 31.5 successful requests/s at 35 concurrent requests; no objectives set";
        assert_eq!(headline(&report(phases)), expected);
        let expected = "No objectives set; the measurement is valid";
        assert_eq!(headline(&report(Vec::new())), expected);
    }

    #[test]
    fn an_invalid_run_has_its_causes_in_the_headline() {
        let mut report = report(vec![concurrency(5.0, &["ttft"])]);
        report.verdict.result = Outcome::Invalid;
        for code in [ReasonCode::Interrupted, ReasonCode::Dropped, ReasonCode::Distorted] {
            report.verdict.reasons.push(Reason::new(code, "text"));
        }
        let expected = "Nothing valid to judge: the run was interrupted and too many arrivals were \
                        dropped";
        assert_eq!(headline(&report), expected);
        let prefix = "invalid: the run was interrupted";
        assert!(verdict(&report).starts_with(prefix), "{}", verdict(&report));
    }

    #[test]
    fn a_run_that_a_limit_kept_below_its_schedule_names_the_limit() {
        let mut report = report(vec![concurrency(5.0, &[])]);
        report.verdict.result = Outcome::Invalid;
        for (code, expected) in [
            (ReasonCode::RateLimits, "the load reached the rate limits of the target in llmload"),
            (ReasonCode::Budget, "a budget of the scenario was used up"),
        ] {
            report.verdict.reasons = vec![Reason::new(code, "text")];
            assert_eq!(headline(&report), format!("Nothing valid to judge: {expected}"));
        }
    }

    #[test]
    fn a_date_is_in_words() {
        assert_eq!(date_in_words("2026-11-27T16:18:43Z"), "27 November 2026, 16:18 UTC");
        for other in ["", "yesterday", "2026-13-27T16:18:43Z", "2026-11-27T1Z", "-T12:30:00Z"] {
            assert_eq!(date_in_words(other), other);
        }
    }
}
