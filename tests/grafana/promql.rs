//! The questions, in the language of Prometheus. Names and labels come from the table of metrics, so that a query for
//! something that is not exposed does not compile, or has no such label to ask for.
//!
//! A division by what may be nothing is guarded by `> 0`, and a quantile by `>= 0`, which no NaN is: an
//! idle endpoint has no success ratio and no latency, and a panel then says so.

use llmload::metrics::table::Family;

/// The range that every rate, ratio and quantile of a dashboard is taken over.
pub const WINDOW: &str = "$window";

/// The matchers of the variables, for the labels that a family has.
fn matchers(family: &Family, more: &str) -> String {
    let chosen =
        ["target", "model", "scenario"].into_iter().filter(|label| family.labels.contains(label));
    let labels = ["job", "instance"].into_iter().chain(chosen);
    let mut matchers: Vec<String> = labels.map(|label| format!("{label}=~\"${label}\"")).collect();
    matchers.extend((!more.is_empty()).then(|| more.to_owned()));
    matchers.join(",")
}

/// A selector of one of a family's series, with further matchers.
pub fn select(family: &Family, suffix: &str, more: &str) -> String {
    format!("{}{suffix}{{{}}}", family.name, matchers(family, more))
}

/// The series of a family.
pub fn series(family: &Family) -> String {
    select(family, "", "")
}

/// What a counter grows by, per second.
pub fn rate(family: &Family) -> String {
    format!("sum(rate({}[{WINDOW}]))", series(family))
}

pub fn rate_by(labels: &str, family: &Family) -> String {
    format!("sum by ({labels}) (rate({}[{WINDOW}]))", series(family))
}

pub fn rate_where(family: &Family, more: &str) -> String {
    format!("sum(rate({}[{WINDOW}]))", select(family, "", more))
}

/// A gauge as it was on average over the window: beside rates, which are averages too, an instant
/// would look late or early wherever the load climbs.
pub fn average(family: &Family) -> String {
    format!("sum(avg_over_time({}[{WINDOW}]))", series(family))
}

/// How many values a histogram took in over the window.
pub fn samples(family: &Family) -> String {
    format!("sum(increase({}[{WINDOW}]))", select(family, "_count", ""))
}

pub fn quantile(q: &str, family: &Family) -> String {
    quantile_by(q, "", family)
}

/// A quantile, for each value of these labels.
pub fn quantile_by(q: &str, labels: &str, family: &Family) -> String {
    let by = if labels.is_empty() { "le".to_owned() } else { format!("le, {labels}") };
    let buckets = select(family, "_bucket", "");
    format!("histogram_quantile({q}, sum by ({by}) (rate({buckets}[{WINDOW}]))) >= 0")
}

/// One end of the interval that holds a quantile with 95 % confidence: of n values, as many lie below
/// the quantile as a binomial distribution of n and q says. With few values it is as wide as they are.
pub fn bound(sign: char, q: f64, family: &Family) -> String {
    let spread = 1.96 * (q * (1.0 - q)).sqrt();
    let order = format!("{q} {sign} {spread:.3} / sqrt({})", samples(family));
    quantile(&format!("scalar(clamp({order}, 0.001, 1))"), family)
}

/// The mean of a histogram's values, which is exact.
pub fn mean(family: &Family) -> String {
    let rate = |suffix| format!("sum(rate({}[{WINDOW}]))", select(family, suffix, ""));
    ratio(&rate("_sum"), &rate("_count"))
}

/// What came in, in each bucket, between two points of a heatmap.
pub fn buckets(family: &Family) -> String {
    format!("sum by (le) (increase({}[$__rate_interval]))", select(family, "_bucket", ""))
}

/// `part / whole`, where there is a whole.
pub fn ratio(part: &str, whole: &str) -> String {
    format!("{part} / ({whole} > 0)")
}

/// As [`ratio`], of parts that have labels and a whole that has none.
pub fn shares(parts: &str, whole: &str) -> String {
    format!("{parts} / on () group_left () ({whole} > 0)")
}
