//! Whether a run is worse than another: two reports in, a verdict out.
//!
//! Each quantile comes with the interval that holds the true one with a probability of 95 %, which
//! follows from the order of the values alone, however they are distributed. It takes them for
//! independent, which requests that wait in one queue are not quite. So a change counts only where the
//! intervals do not meet and it is larger than what is tolerated: two runs of the same server differ too.

use serde::Serialize;

use super::layout::Block;
use super::{FORM, Load, Report};
use crate::check::numbers::{duration, percent, three_digits};
use crate::measurement::printable;

/// 1.96 standard deviations on either side hold 95 %.
const SURE: f64 = 1.96;

/// The one figure that is no time.
const SUCCESS_RATE: &str = "success rate";

/// Why two reports cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    /// It is of another form.
    #[error(
        "a report of form {found}, and this llmload reads form {FORM}; make it anew with this version"
    )]
    Form {
        /// Its form.
        found: u32,
    },
    /// Not JSON, or not a report.
    #[error("not a report of `llmload run`: {0}")]
    NoReport(String),
}

/// Reads a report that was written as JSON.
///
/// # Errors
/// If it is none.
pub fn read(text: &str) -> Result<Report, Incomparable> {
    #[derive(serde::Deserialize)]
    struct Form {
        llmload_report: u32,
    }
    let no_report = |error: serde_json::Error| Incomparable::NoReport(error.to_string());
    let Form { llmload_report: found } = serde_json::from_str(text).map_err(no_report)?;
    if found != FORM {
        return Err(Incomparable::Form { found });
    }
    let report: Report = serde_json::from_str(text).map_err(no_report)?;
    // What llmload did not write itself is not trusted to be in order.
    let values = report.streams.iter().flat_map(|load| load.distributions.values());
    for values in values {
        let rising = values.is_sorted_by(|one, next| one.0 <= next.0);
        let fit =
            values.iter().all(|(value, count)| (0.0..=1e9).contains(value) && *count <= 1 << 48);
        if !rising || !fit || values.len() > 1 << 20 {
            return Err(Incomparable::NoReport(
                "its distributions do not rise, or are out of range".to_owned(),
            ));
        }
    }
    Ok(report)
}

/// The name of a stream, fit to be shown.
fn stream_of(load: &Load) -> String {
    printable(&load.stream(), 256)
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// For sure, and by more than is tolerated.
    Worse,
    /// Likewise.
    Better,
    /// For sure, and no more than is tolerated.
    Tolerated,
    /// Not for sure.
    None,
    /// One of the runs has too few values for it.
    Unknown,
}

/// A figure of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Its scenario and target.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// Of the run that the other is held against: the figure, and its interval.
    pub base: Option<Estimate>,
    /// Of the other.
    pub new: Option<Estimate>,
    /// What became of it.
    pub change: Change,
}

/// A figure, and where the true one lies with a probability of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Two reports, held against each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Whether nothing is worse, and both runs prove something.
    pub passed: bool,
    /// Why it did not pass.
    pub reasons: Vec<String>,
    /// What makes the two less alike than they should be.
    pub notes: Vec<String>,
    /// Figure by figure.
    pub figures: Vec<Compared>,
}

impl Comparison {
    /// Holds a run against another; a change of a share up to `tolerated` counts for nothing.
    pub fn of(base: &Report, new: &Report, tolerated: f64) -> Comparison {
        let (mut reasons, mut notes, mut figures) = (Vec::new(), Vec::new(), Vec::new());
        for (name, report) in [("the base", base), ("the new run", new)] {
            if report.interrupted {
                reasons.push(format!("{name} was interrupted: there is nothing valid to judge"));
            }
            for load in &report.streams {
                let void = super::verdict::void(load);
                reasons.extend(void.map(|words| format!("{name}, {}: {words}", stream_of(load))));
            }
            for distorted in &report.distortions {
                let words = &distorted.message;
                reasons
                    .push(format!("the generator distorted what it measured in {name}: {words}"));
            }
        }
        for before in &base.streams {
            let stream = stream_of(before);
            let Some(after) = new.streams.iter().find(|load| stream_of(load) == stream) else {
                reasons.push(format!("{stream} is in the base and not in the new run"));
                continue;
            };
            if before.model != after.model {
                let model = |load: &Load| printable(&load.model, 256);
                notes.push(format!(
                    "{stream}: the model was {} and is {}",
                    model(before),
                    model(after)
                ));
            }
            figures.extend(of_stream(&stream, before, after, tolerated));
        }
        let added = new
            .streams
            .iter()
            .filter(|load| !base.streams.iter().any(|old| stream_of(old) == stream_of(load)));
        notes.extend(added.map(|load| format!("{} is in the new run only", stream_of(load))));
        if base.config != new.config {
            notes.push("the two runs had different configurations".to_owned());
        }
        for figure in figures.iter().filter(|figure| figure.change == Change::Worse) {
            reasons.push(format!("{}: {} is worse", figure.stream, figure.name));
        }
        for figure in figures.iter().filter(|figure| figure.base.is_some() && figure.new.is_none())
        {
            reasons.push(format!("{}: {} is not known of the new run", figure.stream, figure.name));
        }
        let known =
            |figure: &Compared| figure.change != Change::Unknown && figure.name != SUCCESS_RATE;
        if !figures.iter().any(known) {
            reasons.push(
                "no time has enough values in both runs: there is nothing to judge".to_owned(),
            );
        }
        Comparison { passed: reasons.is_empty(), reasons, notes, figures }
    }

    /// In words, for a terminal.
    pub fn text(&self) -> String {
        let words = if self.passed { "passed: nothing is worse" } else { "failed" };
        let mut blocks = vec![Block::Verdict {
            passed: self.passed,
            words: words.to_owned(),
            reasons: self.reasons.clone(),
        }];
        let mut streams: Vec<&str> =
            self.figures.iter().map(|figure| figure.stream.as_str()).collect();
        streams.dedup();
        for stream in streams {
            let rows = self.figures.iter().filter(|figure| figure.stream == stream).map(row);
            blocks.push(Block::Heading { words: stream.to_owned() });
            blocks.push(Block::Table {
                title: "Held against the base".to_owned(),
                columns: ["", "base", "95 % sure", "new", "95 % sure", "change", ""]
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
        super::written::on_a_terminal("llmload compare", &blocks)
    }
}

fn row(figure: &Compared) -> Vec<String> {
    let show = |value: f64| match figure.name.as_str() {
        SUCCESS_RATE => percent(value),
        "output tokens/s p50" => three_digits(value),
        _ => duration(value),
    };
    let cells = |estimate: Option<Estimate>| match estimate {
        Some(Estimate { value, low, high }) => {
            [show(value), format!("{} – {}", show(low), show(high))]
        }
        None => ["–".to_owned(), String::new()],
    };
    let [base, base_sure] = cells(figure.base);
    let [new, new_sure] = cells(figure.new);
    let change = match (figure.base, figure.new) {
        (Some(base), Some(new)) if base.value > 0.0 => {
            format!("{:+.1} %", (new.value / base.value - 1.0) * 100.0)
        }
        _ => "–".to_owned(),
    };
    let verdict = match figure.change {
        Change::Worse => "worse",
        Change::Better => "better",
        Change::Tolerated => "tolerated",
        Change::None => "no clear change",
        Change::Unknown => "too few values",
    };
    vec![figure.name.clone(), base, base_sure, new, new_sure, change, verdict.to_owned()]
}

fn of_stream(stream: &str, before: &Load, after: &Load, tolerated: f64) -> Vec<Compared> {
    let distributions = [
        ("TTFT", "time_to_first_token_seconds", &[0.5, 0.9, 0.99][..], 1.0),
        ("TPOT", "time_per_output_token_seconds", &[0.5, 0.99], 1.0),
        ("request duration", "request_duration_seconds", &[0.5, 0.99], 1.0),
        ("output tokens/s", "output_tokens_per_second", &[0.5], -1.0),
    ];
    let mut figures = Vec::new();
    let mut tell = |name: String, base: Option<Estimate>, new: Option<Estimate>, change| {
        figures.push(Compared { stream: stream.to_owned(), name, base, new, change });
    };
    for (name, key, shares, worse) in distributions {
        let of =
            |load: &Load| load.distributions.get(key).filter(|values| !values.is_empty()).cloned();
        let (base, new) = (of(before), of(after));
        if base.is_none() && new.is_none() {
            continue;
        }
        let of_share =
            |values: &Option<Vec<(f64, u64)>>, share| quantile(values.as_deref()?, share);
        for share in shares {
            let (base, new) = (of_share(&base, *share), of_share(&new, *share));
            let change = change(base, new, worse, |base| base * tolerated);
            tell(format!("{name} p{}", share * 100.0), base, new, change);
        }
    }
    let (base, new) = (success(before), success(after));
    // Of requests that fail, any more that is sure is worse.
    tell(SUCCESS_RATE.to_owned(), base, new, change(base, new, -1.0, |_| 0.0));
    figures
}

/// `worse` is the sign of a change for the worse.
fn change(
    base: Option<Estimate>,
    new: Option<Estimate>,
    worse: f64,
    tolerated: impl Fn(f64) -> f64,
) -> Change {
    let (Some(base), Some(new)) = (base, new) else { return Change::Unknown };
    let apart = base.high < new.low || new.high < base.low;
    let change = new.value - base.value;
    if !apart {
        return Change::None;
    }
    if change.abs() <= tolerated(base.value) {
        return Change::Tolerated;
    }
    if change * worse > 0.0 { Change::Worse } else { Change::Better }
}

/// A quantile of values with their counts, in rising order, and where the true one lies: between the
/// values of the ranks n·q ± 1.96·√(n·q·(1−q)) (the normal approximation of the binomial). Nothing where
/// those ranks are not there.
#[allow(clippy::cast_precision_loss)]
fn quantile(values: &[(f64, u64)], share: f64) -> Option<Estimate> {
    let count = values.iter().map(|value| value.1).sum::<u64>() as f64;
    let (middle, reach) = (count * share, SURE * (count * share * (1.0 - share)).sqrt());
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
    Some(Estimate { value: at(middle.ceil())?, low: at(low)?, high: at(high)? })
}

/// The share of successes, and Wilson's interval, which also holds near 0 and 1.
#[allow(clippy::cast_precision_loss)]
fn success(load: &Load) -> Option<Estimate> {
    let n = (load.total.succeeded + load.total.failed) as f64;
    if n < 1.0 {
        return None;
    }
    let (share, z) = (load.total.succeeded as f64 / n, SURE * SURE);
    let middle = (share + z / (2.0 * n)) / (1.0 + z / n);
    let reach = SURE * (share * (1.0 - share) / n + z / (4.0 * n * n)).sqrt() / (1.0 + z / n);
    Some(Estimate { value: share, low: (middle - reach).max(0.0), high: (middle + reach).min(1.0) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss)]

    use super::*;

    /// Values 1, 2, … n hundredths of a second, each once, times a factor.
    fn values(n: u64, factor: f64) -> Vec<(f64, u64)> {
        (1..=n).map(|i| (i as f64 / 100.0 * factor, 1)).collect()
    }

    #[test]
    fn an_interval_holds_the_true_quantile_in_about_95_of_100_samples() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for share in [0.5, 0.9, 0.99] {
            let held = (0..400).filter(|_| {
                let mut sample: Vec<(f64, u64)> =
                    (0..1000).map(|_| (random.random::<f64>(), 1)).collect();
                sample.sort_by(|a, b| a.0.total_cmp(&b.0));
                let Estimate { low, high, .. } = quantile(&sample, share).unwrap();
                (low..=high).contains(&share)
            });
            let held = held.count();
            assert!((368..=400).contains(&held), "{share}: {held} of 400");
        }
    }

    #[test]
    fn what_too_few_values_stand_for_has_no_interval() {
        assert_eq!(quantile(&values(5, 1.0), 0.5), None);
        assert!(quantile(&values(30, 1.0), 0.5).is_some());
        assert_eq!(quantile(&values(300, 1.0), 0.99), None);
        assert!(quantile(&values(1000, 1.0), 0.99).is_some());
        assert_eq!(quantile(&[], 0.5), None);
        // A value that many requests took is as good as many values.
        let one = quantile(&[(0.2, 1000)], 0.99).unwrap();
        assert_eq!((one.value, one.low, one.high), (0.2, 0.2, 0.2));
    }

    #[test]
    fn a_change_counts_if_it_is_sure_and_large() {
        let held = |n, factor, tolerated: f64| {
            let (base, new) = (quantile(&values(n, 1.0), 0.5), quantile(&values(n, factor), 0.5));
            change(base, new, 1.0, |base| base * tolerated)
        };
        assert_eq!(held(10_000, 1.2, 0.05), Change::Worse);
        assert_eq!(held(10_000, 0.8, 0.05), Change::Better);
        assert_eq!(held(10_000, 1.2, 0.25), Change::Tolerated);
        assert_eq!(held(40, 1.2, 0.05), Change::None, "it is not sure");
        assert_eq!(held(5, 3.0, 0.05), Change::Unknown);
        assert_eq!(held(10_000, 1.0, 0.0), Change::None);
    }
}
