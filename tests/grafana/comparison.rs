//! The comparison dashboard. It compares targets with each other, and the current values with
//! earlier values of the same phase, the baseline.

use llmload::metrics::table::{self, Family};

use crate::dashboard::{Dashboard, list_variable, query_variable};
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, ratio, select};

pub fn dashboard() -> Dashboard {
    let phases = format!(
        "label_values({}{{job=~\"$job\",instance=~\"$instance\",scenario=~\"$scenario\"}}, phase)",
        table::SCHEDULE_PHASE_ACTIVE.name
    );
    Dashboard::new(
        "comparison",
        "Comparison",
        "Compares targets, models and scenarios with each other and with the past. The dashed \
                lines are the baseline: the values of the same phase some time ago. They show, \
                for example, if a new image is slower.",
    )
    .variable(list_variable(
        "by",
        "The label to compare by.",
        &["target", "model", "scenario"],
        "scenario",
    ))
    .variable(list_variable(
        "ago",
        "The age of the baseline (dashed lines).",
        &["10m", "1h", "1d", "7d"],
        "1d",
    ))
    .variable(list_variable("quantile", "The quantile to draw.", &["0.5", "0.9", "0.99"], "0.9"))
    .variable(query_variable("phase", &phases))
    .since("now-6h")
    .row("Change from the baseline", changes())
    .row("Latency: now and baseline (dashed)", latency())
    .row("Paired difference from the first target", pairs())
    .row("By server version", versions())
    .row("Load and success: now and baseline (dashed)", load())
}

#[derive(Clone, Copy)]
enum Period {
    Now,
    Baseline,
}

/// The rate of a family while its scenario was in a selected phase.
fn rate_in_phase(family: &Family, suffix: &str, period: Period) -> String {
    let ago = match period {
        Period::Now => "",
        Period::Baseline => " offset $ago",
    };
    let phase = select(&table::SCHEDULE_PHASE_ACTIVE, "", "phase=~\"$phase\"");
    format!(
        "rate({}[{WINDOW}]{ago}) and on (job, instance, scenario) max by (job, instance, scenario) ({phase}{ago}) == 1",
        select(family, suffix, "")
    )
}

fn quantile(family: &Family, period: Period) -> String {
    format!(
        "histogram_quantile($quantile, sum by (le, $by) ({})) >= 0",
        rate_in_phase(family, "_bucket", period)
    )
}

fn sum(family: &Family, suffix: &str, period: Period) -> String {
    format!("sum by ($by) ({})", rate_in_phase(family, suffix, period))
}

fn mean(family: &Family, period: Period) -> String {
    ratio(&sum(family, "_sum", period), &sum(family, "_count", period))
}

fn success(period: Period) -> String {
    format!(
        "1 - {}",
        ratio(&sum(&table::REQUEST_FAILURES, "", period), &sum(&table::REQUESTS, "", period))
    )
}

const NOW: &str = "{{$by}}";
const BASELINE: &str = "{{$by}}, $ago ago";
const NO_BASELINE: &str = "No baseline data";

fn change(title: &str, family: &Family) -> Panel {
    let change =
        format!("({}) / ({}) - 1", mean(family, Period::Now), mean(family, Period::Baseline));
    Panel::number(title, Unit::Percent)
        .with_width(8)
        .query(NOW, change)
        .empty_text(NO_BASELINE)
        .base_colour("text")
}

fn changes() -> [Panel; 3] {
    [
        change("Mean TTFT vs. baseline", &table::TIME_TO_FIRST_TOKEN)
            .about(
                "llmload_time_to_first_token_seconds: the mean over the window, compared with the \
                same window `ago`. +10 % means 10 % slower.",
            )
            .colour_from(0.1, "red"),
        change("Mean TPOT vs. baseline", &table::TIME_PER_OUTPUT_TOKEN)
            .about(
                "llmload_time_per_output_token_seconds: the mean over the window, compared with \
                the same window `ago`.",
            )
            .colour_from(0.1, "red"),
        change("Mean request duration vs. baseline", &table::REQUEST_DURATION)
            .about(
                "llmload_request_duration_seconds: the mean over the window, compared with the \
                same window `ago`. Longer responses take longer: compare the output tokens \
                below.",
            )
            .colour_from(0.1, "red"),
    ]
}

/// A panel with the current values, and the baseline as dashed lines.
fn now_and_baseline(title: &str, unit: Unit, of: impl Fn(Period) -> String) -> Panel {
    Panel::lines(title, unit)
        .query(NOW, of(Period::Now))
        .query(BASELINE, of(Period::Baseline))
        .dashed_where("/ ago$/")
}

fn latency() -> [Panel; 5] {
    let quantiles = |title, unit, family: &'static Family| {
        now_and_baseline(title, unit, |period| quantile(family, period))
    };
    [
        quantiles("TTFT", Unit::Seconds, &table::TIME_TO_FIRST_TOKEN).about(
            "llmload_time_to_first_token_seconds at the selected quantile, only while a \
                selected phase is active. Just after the start of a phase, the window still \
                contains a part of the previous phase.",
        ),
        quantiles("Time per output token", Unit::Seconds, &table::TIME_PER_OUTPUT_TOKEN)
            .about("llmload_time_per_output_token_seconds (TPOT) at the selected quantile."),
        quantiles("Request duration", Unit::Seconds, &table::REQUEST_DURATION)
            .about("llmload_request_duration_seconds at the selected quantile."),
        quantiles(
            "Output tokens per second per request",
            Unit::TokensPerSecond,
            &table::OUTPUT_TOKENS_PER_SECOND,
        )
        .about("llmload_output_tokens_per_second (TPS) at the selected quantile. Lower is slower."),
        Panel::lines("Samples in the window", Unit::Count)
            .about(
                "llmload_time_to_first_token_seconds_count: first tokens in the window. With \
                only a few dozen samples, differences between quantiles are random.",
            )
            .query(
                NOW,
                format!(
                    "sum by ($by) (increase({}[{WINDOW}]))",
                    select(&table::TIME_TO_FIRST_TOKEN, "_count", "")
                ),
            )
            .query(
                BASELINE,
                format!(
                    "sum by ($by) (increase({}[{WINDOW}] offset $ago))",
                    select(&table::TIME_TO_FIRST_TOKEN, "_count", "")
                ),
            )
            .dashed_where("/ ago$/"),
    ]
}

/// The increase of a counter about paired requests: the same requests to a target and to the
/// baseline target.
fn increase(family: &Family, more: &str) -> String {
    format!(
        "sum by (scenario, target, baseline) (increase({}[{WINDOW}]))",
        select(family, "", more)
    )
}

/// The mean difference of paired requests with its 95 % confidence interval (± 1.96 standard
/// errors), from 30 pairs on.
fn difference(title: &str, [sum, squares, count]: [&Family; 3]) -> Panel {
    let (pairs, squares) = (increase(count, ""), increase(squares, ""));
    let direction = |which| increase(sum, &format!("direction=\"{which}\""));
    let mean = format!("(({} - {}) / ({pairs} > 0))", direction("slower"), direction("faster"));
    let variance = format!("clamp_min({squares} / ({pairs} > 0) - {mean} ^ 2, 0)");
    let error = format!("1.96 * sqrt({variance} / ({pairs} > 0))");
    let limit = |sign| format!("{mean} {sign} {error} and {pairs} >= 30");
    Panel::lines(title, Unit::Seconds)
        .allow_negative()
        .query("{{scenario}}: {{target}} - {{baseline}}", &mean)
        .query("{{scenario}}: {{target}} lower bound", limit('-'))
        .query("{{scenario}}: {{target}} upper bound", limit('+'))
        .dashed_where("/ (lower|upper) bound$/")
        .empty_text("No scenario with several targets")
}

fn pairs() -> [Panel; 3] {
    [
        difference(
            "TTFT difference from the first target",
            [
                &table::PAIRED_FIRST_TOKEN_DIFFERENCE,
                &table::PAIRED_FIRST_TOKEN_SQUARES,
                &table::PAIRED_FIRST_TOKENS,
            ],
        )
        .about(
            "llmload_paired_time_to_first_token_difference_seconds_total: the mean TTFT of a \
                target minus the mean TTFT of the first target, over paired requests (same prompt, \
                same instant, both succeeded). Above 0, this target is slower than the first. The \
                dashed lines are the 95 % confidence interval. If it contains 0, there is no clear \
                difference.",
        ),
        difference(
            "Request duration difference from the first target",
            [
                &table::PAIRED_DURATION_DIFFERENCE,
                &table::PAIRED_DURATION_SQUARES,
                &table::PAIRED_REQUESTS,
            ],
        )
        .about(
            "llmload_paired_request_duration_difference_seconds_total: like the panel for TTFT, \
                but for the time from sending to the end of the response.",
        ),
        Panel::lines("Paired requests in the window", Unit::Count)
            .about(
                "llmload_paired_requests_total: pairs in which both targets succeeded. The \
                confidence interval needs at least 30.",
            )
            .query(
                "{{scenario}}: {{target}} and {{baseline}}",
                increase(&table::PAIRED_REQUESTS, ""),
            )
            .empty_text("No scenario with several targets"),
    ]
}

/// The rate of a histogram, with the server version as a further label.
fn by_version(family: &Family, suffix: &str) -> String {
    let version = format!(
        "max by (job, instance, target, version) ({})",
        select(&table::TARGET_INFO, "", "")
    );
    format!(
        "rate({}[{WINDOW}]) * on (job, instance, target) group_left (version) {version}",
        select(family, suffix, "")
    )
}

fn versions() -> [Panel; 2] {
    let by_version = |title, family: &'static Family| {
        let buckets = format!("sum by (le, version) ({})", by_version(family, "_bucket"));
        Panel::lines(title, Unit::Seconds)
            .query("{{version}}", format!("histogram_quantile($quantile, {buckets}) >= 0"))
    };
    [
        by_version("TTFT by version", &table::TIME_TO_FIRST_TOKEN).about(
            "llmload_time_to_first_token_seconds at the selected quantile, by the version in \
                llmload_target_info. Each new version starts a new line.",
        ),
        by_version("Request duration by version", &table::REQUEST_DURATION).about(
            "llmload_request_duration_seconds at the selected quantile, by the version in \
                llmload_target_info.",
        ),
    ]
}

fn load() -> [Panel; 4] {
    [
        now_and_baseline("Success rate", Unit::Percent, success)
            .about("1 - llmload_request_failures_total / llmload_requests_total.")
            .at_most_one(),
        now_and_baseline("Offered rate", Unit::PerSecond, |period| {
            sum(&table::ARRIVALS, "", period)
        })
        .about(
            "llmload_arrivals_total per second. Compare the other panels only if this rate is \
                the same.",
        ),
        now_and_baseline("Output token throughput", Unit::TokensPerSecond, |period| {
            sum(&table::OUTPUT_TOKENS, "", period)
        })
        .about("llmload_output_tokens_total per second over all requests."),
        now_and_baseline("Mean output tokens per request", Unit::Count, |period| {
            mean(&table::REQUEST_OUTPUT_TOKENS, period)
        })
        .about(
            "llmload_request_output_tokens: an endpoint that sends shorter responses looks \
                faster.",
        ),
    ]
}
