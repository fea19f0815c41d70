//! Builds `PromQL` queries from the table of metrics, so a query for an unknown metric does not
//! compile.
//!
//! The filter `> 0` on divisors and the filter `>= 0` on quantiles remove NaN. So a panel about an
//! idle endpoint shows its text for missing data.

use llmload::metrics::table::Family;

/// The variable with the time over which all rates, ratios and quantiles are computed.
pub const WINDOW: &str = "$window";

/// The matchers for those dashboard variables whose labels the family has.
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

pub fn series(family: &Family) -> String {
    select(family, "", "")
}

pub fn rate(family: &Family) -> String {
    format!("sum(rate({}[{WINDOW}]))", series(family))
}

pub fn rate_by(labels: &str, family: &Family) -> String {
    format!("sum by ({labels}) (rate({}[{WINDOW}]))", series(family))
}

pub fn rate_where(family: &Family, more: &str) -> String {
    format!("sum(rate({}[{WINDOW}]))", select(family, "", more))
}

/// The average of a gauge over the window. While the load rises, the current value would be ahead
/// of the rates, which are averages over the window too.
pub fn average(family: &Family) -> String {
    format!("sum(avg_over_time({}[{WINDOW}]))", series(family))
}

/// The number of values in a histogram over the window.
pub fn samples(family: &Family) -> String {
    format!("sum(increase({}[{WINDOW}]))", select(family, "_count", ""))
}

pub fn quantile(q: &str, family: &Family) -> String {
    quantile_by(q, "", family)
}

pub fn quantile_by(q: &str, labels: &str, family: &Family) -> String {
    let by = if labels.is_empty() { "le".to_owned() } else { format!("le, {labels}") };
    let buckets = select(family, "_bucket", "");
    format!("histogram_quantile({q}, sum by ({by}) (rate({buckets}[{WINDOW}]))) >= 0")
}

/// A bound of the 95 % confidence interval of the quantile q of n values: the value at the rank q·n
/// ± 1.96·√(n·q·(1−q)), by the normal approximation of the binomial distribution. With few values,
/// the interval reaches from the lowest to the highest value.
pub fn bound(sign: char, q: f64, family: &Family) -> String {
    let spread = 1.96 * (q * (1.0 - q)).sqrt();
    let order = format!("{q} {sign} {spread:.3} / sqrt({})", samples(family));
    quantile(&format!("scalar(clamp({order}, 0.001, 1))"), family)
}

/// The mean of a histogram, which is exact because it does not use the buckets.
pub fn mean(family: &Family) -> String {
    let rate = |suffix| format!("sum(rate({}[{WINDOW}]))", select(family, suffix, ""));
    ratio(&rate("_sum"), &rate("_count"))
}

/// The increase of each bucket between two points of a heatmap.
pub fn buckets(family: &Family) -> String {
    format!("sum by (le) (increase({}[$__rate_interval]))", select(family, "_bucket", ""))
}

/// `part / total`, or nothing if the total is 0.
pub fn ratio(part: &str, total: &str) -> String {
    format!("{part} / ({total} > 0)")
}

/// Like [`ratio`], for parts with labels and a total without labels.
pub fn ratios(parts: &str, total: &str) -> String {
    format!("{parts} / on () group_left () ({total} > 0)")
}
