//! Against each other, and against themselves some time ago: did the new image get slower?

use llmload::metrics::table::{self, Family};

use crate::dashboard::{Dashboard, chosen, one_of};
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
        "Targets, models and scenarios against each other, and each against itself some time ago: the same phase of last night or last week lies under today's, dashed. Did the new image get slower?",
    )
    .variable(one_of("by", "What is compared.", &["target", "model", "scenario"], "scenario"))
    .variable(one_of("ago", "How long ago the dashed lines were.", &["10m", "1h", "1d", "7d"], "1d"))
    .variable(one_of("quantile", "Which quantile.", &["0.5", "0.9", "0.99"], "0.9"))
    .variable(chosen("phase", &phases))
    .since("now-6h")
    .row("Slower?", changes())
    .row("Latency: now, and dashed then", latency())
    .row("Against the first target, pair by pair", pairs())
    .row("By version of the server", versions())
    .row("Load and success: now, and dashed then", load())
}

/// When a value is of.
#[derive(Clone, Copy)]
enum Of {
    Now,
    Then,
}

/// The series of a family while their scenario was in one of the phases that were chosen.
fn rate_in_phase(family: &Family, suffix: &str, of: Of) -> String {
    let ago = match of {
        Of::Now => "",
        Of::Then => " offset $ago",
    };
    let phase = select(&table::SCHEDULE_PHASE_ACTIVE, "", "phase=~\"$phase\"");
    format!(
        "rate({}[{WINDOW}]{ago}) and on (job, instance, scenario) max by (job, instance, scenario) ({phase}{ago}) == 1",
        select(family, suffix, "")
    )
}

fn quantile(family: &Family, of: Of) -> String {
    format!(
        "histogram_quantile($quantile, sum by (le, $by) ({})) >= 0",
        rate_in_phase(family, "_bucket", of)
    )
}

fn sum(family: &Family, suffix: &str, of: Of) -> String {
    format!("sum by ($by) ({})", rate_in_phase(family, suffix, of))
}

fn mean(family: &Family, of: Of) -> String {
    ratio(&sum(family, "_sum", of), &sum(family, "_count", of))
}

fn success(of: Of) -> String {
    format!("1 - {}", ratio(&sum(&table::REQUEST_FAILURES, "", of), &sum(&table::REQUESTS, "", of)))
}

const NOW: &str = "{{$by}}";
const THEN: &str = "{{$by}}, $ago ago";
const NO_THEN: &str = "Nothing then to compare with";

fn change(title: &str, family: &Family) -> Panel {
    let change = format!("({}) / ({}) - 1", mean(family, Of::Now), mean(family, Of::Then));
    Panel::number(title, Unit::Share).wide(8).query(NOW, change).none(NO_THEN).at_first("text")
}

fn changes() -> [Panel; 3] {
    [
        change("Mean TTFT, against then", &table::TIME_TO_FIRST_TOKEN)
            .about("llmload_time_to_first_token_seconds, its mean over the window against that of the same window `ago`: 10 % is slower by a tenth.")
            .from(0.1, "red"),
        change("Mean TPOT, against then", &table::TIME_PER_OUTPUT_TOKEN)
            .about("llmload_time_per_output_token_seconds, its mean against that of the same window `ago`.")
            .from(0.1, "red"),
        change("Mean duration, against then", &table::REQUEST_DURATION)
            .about("llmload_request_duration_seconds, its mean against that of the same window `ago`. Longer answers take longer: see the tokens below.")
            .from(0.1, "red"),
    ]
}

/// Now, and dashed as it was then.
fn both(title: &str, unit: Unit, of: impl Fn(Of) -> String) -> Panel {
    Panel::lines(title, unit)
        .query(NOW, of(Of::Now))
        .query(THEN, of(Of::Then))
        .dashed_where("/ ago$/")
}

fn latency() -> [Panel; 5] {
    let quantiles =
        |title, unit, family: &'static Family| both(title, unit, |of| quantile(family, of));
    [
        quantiles("TTFT", Unit::Seconds, &table::TIME_TO_FIRST_TOKEN)
            .about("llmload_time_to_first_token_seconds at the quantile chosen, only while one of the phases chosen runs. Just after a phase begins the window still reaches into the one before."),
        quantiles("Time per output token", Unit::Seconds, &table::TIME_PER_OUTPUT_TOKEN)
            .about("llmload_time_per_output_token_seconds (TPOT) at the quantile chosen."),
        quantiles("Duration", Unit::Seconds, &table::REQUEST_DURATION)
            .about("llmload_request_duration_seconds at the quantile chosen."),
        quantiles("Tokens per second of one request", Unit::TokensPerSecond, &table::OUTPUT_TOKENS_PER_SECOND)
            .about("llmload_output_tokens_per_second (TPS) at the quantile chosen; slow is low."),
        Panel::lines("Samples in the window", Unit::Count)
            .about("llmload_time_to_first_token_seconds_count: how many first tokens the quantiles are of. A difference between quantiles of a few dozen is chance.")
            .query(NOW, format!("sum by ($by) (increase({}[{WINDOW}]))", select(&table::TIME_TO_FIRST_TOKEN, "_count", "")))
            .query(THEN, format!("sum by ($by) (increase({}[{WINDOW}] offset $ago))", select(&table::TIME_TO_FIRST_TOKEN, "_count", "")))
            .dashed_where("/ ago$/"),
    ]
}

/// What a counter of pairs grew by, for each target that is held against another.
fn grown(family: &Family, more: &str) -> String {
    format!(
        "sum by (scenario, target, baseline) (increase({}[{WINDOW}]))",
        select(family, "", more)
    )
}

/// The mean difference of what was sent to two targets at the same instants, and the edges of the
/// interval that holds it with 95 % confidence: 1.96 standard errors, from 30 pairs on.
fn difference(title: &str, [sum, squares, count]: [&Family; 3]) -> Panel {
    let (pairs, squares) = (grown(count, ""), grown(squares, ""));
    let direction = |which| grown(sum, &format!("direction=\"{which}\""));
    let mean = format!("(({} - {}) / ({pairs} > 0))", direction("slower"), direction("faster"));
    let variance = format!("clamp_min({squares} / ({pairs} > 0) - {mean} ^ 2, 0)");
    let error = format!("1.96 * sqrt({variance} / ({pairs} > 0))");
    let edge = |sign| format!("{mean} {sign} {error} and {pairs} >= 30");
    Panel::lines(title, Unit::Seconds)
        .signed()
        .query("{{scenario}}: {{target}} less {{baseline}}", &mean)
        .query("{{scenario}}: {{target}} at least", edge('-'))
        .query("{{scenario}}: {{target}} at most", edge('+'))
        .dashed_where("/ at (least|most)$/")
        .none("No scenario with several targets")
}

fn pairs() -> [Panel; 3] {
    [
        difference(
            "TTFT, less that of the first target",
            [&table::PAIRED_FIRST_TOKEN_DIFFERENCE, &table::PAIRED_FIRST_TOKEN_SQUARES, &table::PAIRED_FIRST_TOKENS],
        )
        .about("llmload_paired_time_to_first_token_difference_seconds_total: the same prompts at the same instants, wherever both answered; above 0 this target is slower. Dashed: the mean lies between them with 95 % confidence; where 0 does too, there is no clear difference."),
        difference(
            "Duration, less that of the first target",
            [&table::PAIRED_DURATION_DIFFERENCE, &table::PAIRED_DURATION_SQUARES, &table::PAIRED_REQUESTS],
        )
        .about("llmload_paired_request_duration_difference_seconds_total, likewise: from sending to the end."),
        Panel::lines("Pairs in the window", Unit::Count)
            .about("llmload_paired_requests_total: how many arrivals both answered; no margin is drawn for fewer than 30.")
            .query("{{scenario}}: {{target}} and {{baseline}}", grown(&table::PAIRED_REQUESTS, ""))
            .none("No scenario with several targets"),
    ]
}

/// A histogram's series with the version that their target's server has.
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
        by_version("TTFT by version", &table::TIME_TO_FIRST_TOKEN)
            .about("llmload_time_to_first_token_seconds at the quantile chosen, by the version in llmload_target_info: after a roll-out the line has another name."),
        by_version("Duration by version", &table::REQUEST_DURATION)
            .about("llmload_request_duration_seconds at the quantile chosen, by the version in llmload_target_info."),
    ]
}

fn load() -> [Panel; 4] {
    [
        both("Success", Unit::Share, success)
            .about("1 - llmload_request_failures_total of llmload_requests_total.")
            .at_most_one(),
        both("Offered", Unit::PerSecond, |of| sum(&table::ARRIVALS, "", of)).about(
            "llmload_arrivals_total per second: only where it is the same are the rest comparable.",
        ),
        both("Output", Unit::TokensPerSecond, |of| sum(&table::OUTPUT_TOKENS, "", of))
            .about("llmload_output_tokens_total per second."),
        both("Tokens of an answer, mean", Unit::Count, |of| {
            mean(&table::REQUEST_OUTPUT_TOKENS, of)
        })
        .about("llmload_request_output_tokens: an endpoint that answers shorter looks faster."),
    ]
}
