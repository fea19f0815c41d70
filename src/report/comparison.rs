//! Compares two reports: is the new run worse than the base run?
//!
//! Each quantile has a 95 % confidence interval (CI). It is computed from the order of the values
//! alone, so it is right for any distribution. It assumes that the values are independent. In
//! reality, requests in one queue depend on each other, and two runs of the same server differ too.
//! A change therefore counts only if the intervals do not overlap and the change exceeds a
//! tolerance.

use serde::Serialize;

use super::layout::Block;
use super::{FORMAT_VERSION, Report, RouteReport};
use crate::check::numbers::{duration, percent, three_digits};
use crate::measurement::printable;

/// The half-width of a 95 % confidence interval in standard deviations.
const Z_95: f64 = 1.96;

const SUCCESS_RATE: &str = "success rate";

/// An error while reading a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(
        "the report has format {found}, but this llmload reads format {FORMAT_VERSION}; \
         repeat the run with this version"
    )]
    FormatVersion { found: u32 },
    /// The text is not JSON, or the JSON is not a report.
    #[error("not a report of `llmload run`: {0}")]
    NotAReport(String),
}

/// Reads a report from its JSON.
///
/// # Errors
/// If the text is not a report of this format.
pub fn read(text: &str) -> Result<Report, ReadError> {
    #[derive(serde::Deserialize)]
    struct Header {
        llmload_report: u32,
    }
    let not_a_report = |error: serde_json::Error| ReadError::NotAReport(error.to_string());
    let Header { llmload_report: found } = serde_json::from_str(text).map_err(not_a_report)?;
    if found != FORMAT_VERSION {
        return Err(ReadError::FormatVersion { found });
    }
    let report: Report = serde_json::from_str(text).map_err(not_a_report)?;
    // A user can pass any file, so llmload checks the values.
    let values = report.routes.iter().flat_map(|route| {
        let phases = route.phases.iter().map(|phase| &phase.distributions);
        phases.chain([&route.distributions]).flat_map(|all| all.values())
    });
    for values in values {
        let is_sorted = values.is_sorted_by(|one, next| one.0 <= next.0);
        let is_in_range =
            values.iter().all(|(value, count)| (0.0..=1e9).contains(value) && *count <= 1 << 48);
        if !is_sorted || !is_in_range || values.len() > 1 << 20 {
            return Err(ReadError::NotAReport(
                "the distributions are not sorted, or a value is out of range".to_owned(),
            ));
        }
    }
    Ok(report)
}

/// The name of a route without control characters.
fn route_name(route: &RouteReport) -> String {
    printable(&route.route(), 256)
}

/// The change of a metric from the base run to the new run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The new run is worse. The change is significant and larger than the tolerance.
    Worse,
    /// The new run is better. The change is significant and larger than the tolerance.
    Better,
    /// The change is significant, but within the tolerance.
    Tolerated,
    /// The change is not significant, because the confidence intervals overlap.
    None,
    /// At least one of the runs has too few values.
    Unknown,
}

/// The values of one metric in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedMetric {
    /// The scenario and the target.
    pub route: String,
    pub name: String,
    pub base: Option<IntervalEstimate>,
    pub new: Option<IntervalEstimate>,
    pub change: Change,
}

/// The value of a metric, with the bounds of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IntervalEstimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// True if no metric is worse and both runs are valid.
    pub passed: bool,
    /// The reasons why the comparison did not pass.
    pub reasons: Vec<String>,
    /// Differences between the two runs that can explain a change.
    pub notes: Vec<String>,
    pub metrics: Vec<ComparedMetric>,
}

impl Comparison {
    /// Compares a new run with a base run. `tolerated` is a fraction of the base value. A smaller
    /// change does not count.
    pub fn new(base: &Report, new: &Report, tolerated: f64) -> Comparison {
        let mut reasons = invalid_reasons("the base run", base);
        reasons.extend(invalid_reasons("the new run", new));
        let (mut notes, mut metrics) = (Vec::new(), Vec::new());
        for before in &base.routes {
            let name = route_name(before);
            let Some(after) = new.routes.iter().find(|route| route_name(route) == name) else {
                reasons.push(format!("{name} is in the base run, but not in the new run"));
                continue;
            };
            if before.model != after.model {
                let model = |route: &RouteReport| printable(&route.model, 256);
                let (old, new) = (model(before), model(after));
                notes.push(format!("{name}: the model changed from {old} to {new}"));
            }
            metrics.extend(compare_routes(&name, before, after, tolerated));
        }
        let is_new = |route: &&RouteReport| {
            !base.routes.iter().any(|old| route_name(old) == route_name(route))
        };
        let added = new.routes.iter().filter(is_new);
        notes.extend(added.map(|route| format!("{} is only in the new run", route_name(route))));
        if base.config != new.config {
            notes.push("the two runs have different configurations".to_owned());
        }
        reasons.extend(metric_reasons(&metrics));
        Comparison { passed: reasons.is_empty(), reasons, notes, metrics }
    }

    /// The comparison for a terminal.
    pub fn text(&self) -> String {
        let text = if self.passed { "passed: no metric is worse" } else { "failed" };
        let mut blocks = vec![Block::Verdict {
            passed: self.passed,
            text: text.to_owned(),
            reasons: self.reasons.clone(),
        }];
        let mut routes: Vec<&str> =
            self.metrics.iter().map(|metric| metric.route.as_str()).collect();
        routes.dedup();
        for route in routes {
            let rows = self.metrics.iter().filter(|metric| metric.route == route).map(row);
            blocks.push(Block::Heading { text: route.to_owned() });
            blocks.push(Block::Table {
                title: "Compared with the base run".to_owned(),
                columns: ["", "base", "95 % CI", "new", "95 % CI", "change", ""]
                    .map(str::to_owned)
                    .to_vec(),
                rows: rows.collect(),
            });
        }
        if !self.notes.is_empty() {
            blocks.push(Block::Findings {
                all: self.notes.iter().map(|note| (true, note.clone())).collect(),
            });
        }
        super::render::terminal("llmload compare", &blocks)
    }
}

/// Returns the reasons why a run cannot be compared. `run` names the run in these texts.
fn invalid_reasons(run: &str, report: &Report) -> Vec<String> {
    let mut reasons = Vec::new();
    if report.interrupted {
        reasons.push(format!("{run} was interrupted, so its measurement is not valid"));
    }
    for route in &report.routes {
        let invalid = super::verdict::invalid_reasons(route).into_iter();
        let name = route_name(route);
        reasons.extend(invalid.map(|reason| format!("{run}, {name}: {}", reason.text)));
    }
    let distortions = report.distortions.iter().map(|distortion| &distortion.message);
    reasons.extend(distortions.map(|text| format!("llmload distorted {run}: {text}")));
    reasons
}

/// Returns the reasons why the metrics let the comparison fail.
fn metric_reasons(metrics: &[ComparedMetric]) -> Vec<String> {
    let worse = metrics.iter().filter(|metric| metric.change == Change::Worse);
    let worse = worse.map(|metric| format!("{}: {} is worse", metric.route, metric.name));
    let missing = metrics.iter().filter(|metric| metric.base.is_some() && metric.new.is_none());
    let missing = missing.map(|metric| {
        format!("{}: the new run has too few values for {}", metric.route, metric.name)
    });
    let mut reasons: Vec<String> = worse.chain(missing).collect();
    let is_comparable =
        |metric: &ComparedMetric| metric.change != Change::Unknown && metric.name != SUCCESS_RATE;
    if !metrics.iter().any(is_comparable) {
        reasons.push("both runs have too few values, so no latency can be compared".to_owned());
    }
    reasons
}

fn row(metric: &ComparedMetric) -> Vec<String> {
    let show = |value: f64| match metric.name.as_str() {
        SUCCESS_RATE => percent(value),
        "output tokens/s p50" => three_digits(value),
        _ => duration(value),
    };
    let cells = |estimate: Option<IntervalEstimate>| match estimate {
        Some(IntervalEstimate { value, low, high }) => {
            [show(value), format!("{} – {}", show(low), show(high))]
        }
        None => ["–".to_owned(), String::new()],
    };
    let [base, base_interval] = cells(metric.base);
    let [new, new_interval] = cells(metric.new);
    let change = match (metric.base, metric.new) {
        (Some(base), Some(new)) if base.value > 0.0 => {
            format!("{:+.1} %", (new.value / base.value - 1.0) * 100.0)
        }
        _ => "–".to_owned(),
    };
    let verdict = match metric.change {
        Change::Worse => "worse",
        Change::Better => "better",
        Change::Tolerated => "within tolerance",
        Change::None => "no clear change",
        Change::Unknown => "too few values",
    };
    vec![metric.name.clone(), base, base_interval, new, new_interval, change, verdict.to_owned()]
}

fn compare_routes(
    route: &str,
    before: &RouteReport,
    after: &RouteReport,
    tolerated: f64,
) -> Vec<ComparedMetric> {
    let distributions = [
        ("TTFT", "time_to_first_token_seconds", &[0.5, 0.9, 0.99][..], 1.0),
        ("TPOT", "time_per_output_token_seconds", &[0.5, 0.99], 1.0),
        ("request duration", "request_duration_seconds", &[0.5, 0.99], 1.0),
        ("output tokens/s", "output_tokens_per_second", &[0.5], -1.0),
    ];
    let mut metrics = Vec::new();
    let mut add =
        |name: String, base: Option<IntervalEstimate>, new: Option<IntervalEstimate>, change| {
            metrics.push(ComparedMetric { route: route.to_owned(), name, base, new, change });
        };
    for (name, key, quantiles, worse) in distributions {
        let values = |route: &RouteReport| {
            route.distributions.get(key).filter(|values| !values.is_empty()).cloned()
        };
        let (base, new) = (values(before), values(after));
        if base.is_none() && new.is_none() {
            continue;
        }
        let quantile_of = |values: &Option<Vec<(f64, u64)>>, q| quantile(values.as_deref()?, q);
        for q in quantiles {
            let (base, new) = (quantile_of(&base, *q), quantile_of(&new, *q));
            let change = change(base, new, worse, |base| base * tolerated);
            add(format!("{name} p{}", q * 100.0), base, new, change);
        }
    }
    let (base, new) = (success_rate(before), success_rate(after));
    // The success rate has no tolerance, so any significant rise of failures is worse.
    add(SUCCESS_RATE.to_owned(), base, new, change(base, new, -1.0, |_| 0.0));
    metrics
}

/// Classifies a change. `worse` is 1 if a higher value is worse, and −1 if a lower value is worse.
fn change(
    base: Option<IntervalEstimate>,
    new: Option<IntervalEstimate>,
    worse: f64,
    tolerated: impl Fn(f64) -> f64,
) -> Change {
    let (Some(base), Some(new)) = (base, new) else { return Change::Unknown };
    let is_significant = base.high < new.low || new.high < base.low;
    let change = new.value - base.value;
    if !is_significant {
        return Change::None;
    }
    if change.abs() <= tolerated(base.value) {
        return Change::Tolerated;
    }
    if change * worse > 0.0 { Change::Worse } else { Change::Better }
}

/// Returns the quantile `q` of sorted values with counts. The bounds of its confidence interval are
/// the values of the ranks n·q ± 1.96·√(n·q·(1−q)). This is the normal approximation of the
/// binomial distribution. `None` if there are too few values for these ranks.
#[allow(clippy::cast_precision_loss)]
fn quantile(values: &[(f64, u64)], q: f64) -> Option<IntervalEstimate> {
    let count = values.iter().map(|value| value.1).sum::<u64>() as f64;
    let (middle, reach) = (count * q, Z_95 * (count * q * (1.0 - q)).sqrt());
    let (low, high) = ((middle - reach).floor(), (middle + reach).ceil());
    if low < 1.0 || high > count {
        return None;
    }
    let at = |rank: f64| {
        let mut passed = 0.0;
        let reached = values.iter().find(|value| {
            passed += value.1 as f64;
            passed >= rank
        });
        reached.map(|value| value.0)
    };
    Some(IntervalEstimate { value: at(middle.ceil())?, low: at(low)?, high: at(high)? })
}

/// Returns the success rate with Wilson's confidence interval, which is also right near 0 and 1.
#[allow(clippy::cast_precision_loss)]
fn success_rate(route: &RouteReport) -> Option<IntervalEstimate> {
    let n = (route.total.succeeded + route.total.failed) as f64;
    if n < 1.0 {
        return None;
    }
    let (rate, z) = (route.total.succeeded as f64 / n, Z_95 * Z_95);
    let middle = (rate + z / (2.0 * n)) / (1.0 + z / n);
    let reach = Z_95 * (rate * (1.0 - rate) / n + z / (4.0 * n * n)).sqrt() / (1.0 + z / n);
    Some(IntervalEstimate {
        value: rate,
        low: (middle - reach).max(0.0),
        high: (middle + reach).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss)]

    use super::*;

    /// The values 0.01, 0.02, … n/100, multiplied by a factor. Each value has the count 1.
    fn values(n: u64, factor: f64) -> Vec<(f64, u64)> {
        (1..=n).map(|i| (i as f64 / 100.0 * factor, 1)).collect()
    }

    #[test]
    fn an_interval_contains_the_true_quantile_in_about_95_of_100_samples() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for q in [0.5, 0.9, 0.99] {
            let held = (0..400).filter(|_| {
                let mut sample: Vec<(f64, u64)> =
                    (0..1000).map(|_| (random.random::<f64>(), 1)).collect();
                sample.sort_by(|a, b| a.0.total_cmp(&b.0));
                let IntervalEstimate { low, high, .. } = quantile(&sample, q).unwrap();
                (low..=high).contains(&q)
            });
            let held = held.count();
            assert!((368..=400).contains(&held), "p{q}: {held} of 400");
        }
    }

    #[test]
    fn a_quantile_of_too_few_values_has_no_interval() {
        assert_eq!(quantile(&values(5, 1.0), 0.5), None);
        assert!(quantile(&values(30, 1.0), 0.5).is_some());
        assert_eq!(quantile(&values(300, 1.0), 0.99), None);
        assert!(quantile(&values(1000, 1.0), 0.99).is_some());
        assert_eq!(quantile(&[], 0.5), None);
        // One value with a high count is as good as many values.
        let one = quantile(&[(0.2, 1000)], 0.99).unwrap();
        assert_eq!((one.value, one.low, one.high), (0.2, 0.2, 0.2));
    }

    #[test]
    fn a_change_counts_only_if_it_is_significant_and_above_the_tolerance() {
        let changed = |n, factor, tolerated: f64| {
            let (base, new) = (quantile(&values(n, 1.0), 0.5), quantile(&values(n, factor), 0.5));
            change(base, new, 1.0, |base| base * tolerated)
        };
        assert_eq!(changed(10_000, 1.2, 0.05), Change::Worse);
        assert_eq!(changed(10_000, 0.8, 0.05), Change::Better);
        assert_eq!(changed(10_000, 1.2, 0.25), Change::Tolerated);
        assert_eq!(changed(40, 1.2, 0.05), Change::None, "not significant");
        assert_eq!(changed(5, 3.0, 0.05), Change::Unknown);
        assert_eq!(changed(10_000, 1.0, 0.0), Change::None);
    }
}
