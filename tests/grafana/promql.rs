//! Builds `PromQL` queries from the constants in the table of metrics. A query for a metric that
//! the daemon does not expose does not compile.
//!
//! Divisors are filtered by `> 0`, and quantiles by `>= 0`, which removes NaN. So the success rate
//! and the latency of an idle endpoint return nothing, and the panel shows its text for missing
//! data.

use llmload::metrics::table::Family;

/// The time over which all rates, ratios and quantiles are computed: a variable of the dashboard.
pub const WINDOW: &str = "$window";

/// The matchers for the dashboard variables. Variables whose label the family does not have are
/// left out.
fn matchers(family: &Family, more: &str) -> String {
    let selected =
        ["target", "model", "scenario"].into_iter().filter(|label| family.labels.contains(label));
    let labels = ["job", "instance"].into_iter().chain(selected);
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

/// The average of a gauge over the window. Rates are averages over the window too. While the load
/// rises, the current value of a gauge would be ahead of these rates.
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

/// One bound of the 95 % confidence interval of a quantile. The number of values below the true
/// quantile q is binomially distributed with n and q. By the normal approximation, the bounds are
/// the values whose rank is ± 1.96 standard deviations from q·n. With few values, the interval
/// reaches from the lowest to the highest value.
pub fn bound(sign: char, q: f64, family: &Family) -> String {
    let spread = 1.96 * (q * (1.0 - q)).sqrt();
    let order = format!("{q} {sign} {spread:.3} / sqrt({})", samples(family));
    quantile(&format!("scalar(clamp({order}, 0.001, 1))"), family)
}

/// The mean of the values of a histogram. It is exact, because it does not depend on the buckets.
pub fn mean(family: &Family) -> String {
    let rate = |suffix| format!("sum(rate({}[{WINDOW}]))", select(family, suffix, ""));
    ratio(&rate("_sum"), &rate("_count"))
}

/// The increase of each bucket from one point of a heatmap to the next.
pub fn buckets(family: &Family) -> String {
    format!("sum by (le) (increase({}[$__rate_interval]))", select(family, "_bucket", ""))
}

/// `part / total`, or nothing if the total is 0.
pub fn ratio(part: &str, total: &str) -> String {
    format!("{part} / ({total} > 0)")
}

/// Like [`ratio`], but for parts with labels and a total without labels.
pub fn ratios(parts: &str, total: &str) -> String {
    format!("{parts} / on () group_left () ({total} > 0)")
}
