//! Builds `PromQL` queries. Names and labels come from the table of metrics, so a query for a
//! metric that the daemon does not expose does not compile.
//!
//! A divisor has the guard `> 0`, and a quantile the guard `>= 0`, which drops NaN: an idle
//! endpoint has no success rate and no latency, and the panel then shows its text for missing data.

use llmload::metrics::table::Family;

/// The range of every rate, ratio and quantile of a dashboard.
pub const WINDOW: &str = "$window";

/// The matchers for the dashboard variables, as far as the family has their labels.
fn matchers(family: &Family, more: &str) -> String {
    let chosen =
        ["target", "model", "scenario"].into_iter().filter(|label| family.labels.contains(label));
    let labels = ["job", "instance"].into_iter().chain(chosen);
    let mut matchers: Vec<String> = labels.map(|label| format!("{label}=~\"${label}\"")).collect();
    matchers.extend((!more.is_empty()).then(|| more.to_owned()));
    matchers.join(",")
}

/// A selector of a family, with a suffix such as `_bucket` and further matchers.
pub fn select(family: &Family, suffix: &str, more: &str) -> String {
    format!("{}{suffix}{{{}}}", family.name, matchers(family, more))
}

/// The series of a family.
pub fn series(family: &Family) -> String {
    select(family, "", "")
}

/// The increase of a counter per second.
pub fn rate(family: &Family) -> String {
    format!("sum(rate({}[{WINDOW}]))", series(family))
}

pub fn rate_by(labels: &str, family: &Family) -> String {
    format!("sum by ({labels}) (rate({}[{WINDOW}]))", series(family))
}

pub fn rate_where(family: &Family, more: &str) -> String {
    format!("sum(rate({}[{WINDOW}]))", select(family, "", more))
}

/// The average of a gauge over the window. Rates are averages too: beside them, the current value
/// would look early or late while the load rises.
pub fn average(family: &Family) -> String {
    format!("sum(avg_over_time({}[{WINDOW}]))", series(family))
}

/// The number of values that a histogram received in the window.
pub fn samples(family: &Family) -> String {
    format!("sum(increase({}[{WINDOW}]))", select(family, "_count", ""))
}

pub fn quantile(q: &str, family: &Family) -> String {
    quantile_by(q, "", family)
}

/// A quantile for each value of the given labels.
pub fn quantile_by(q: &str, labels: &str, family: &Family) -> String {
    let by = if labels.is_empty() { "le".to_owned() } else { format!("le, {labels}") };
    let buckets = select(family, "_bucket", "");
    format!("histogram_quantile({q}, sum by ({by}) (rate({buckets}[{WINDOW}]))) >= 0")
}

/// One bound of the 95 % confidence interval of a quantile. The number of values below the quantile
/// q of n values is binomial with n and q; its normal approximation gives the rank ± 1.96 standard
/// deviations. With few values the interval covers all of them.
pub fn bound(sign: char, q: f64, family: &Family) -> String {
    let spread = 1.96 * (q * (1.0 - q)).sqrt();
    let order = format!("{q} {sign} {spread:.3} / sqrt({})", samples(family));
    quantile(&format!("scalar(clamp({order}, 0.001, 1))"), family)
}

/// The mean of the values of a histogram. It is exact.
pub fn mean(family: &Family) -> String {
    let rate = |suffix| format!("sum(rate({}[{WINDOW}]))", select(family, suffix, ""));
    ratio(&rate("_sum"), &rate("_count"))
}

/// The increase of each bucket between two points of a heatmap.
pub fn buckets(family: &Family) -> String {
    format!("sum by (le) (increase({}[$__rate_interval]))", select(family, "_bucket", ""))
}

/// `part / whole`, or no value if the whole is 0.
pub fn ratio(part: &str, whole: &str) -> String {
    format!("{part} / ({whole} > 0)")
}

/// Like [`ratio`], if the parts have labels and the whole has none.
pub fn shares(parts: &str, whole: &str) -> String {
    format!("{parts} / on () group_left () ({whole} > 0)")
}
