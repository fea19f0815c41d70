//! The totals of a route, its connections, and the circumstances of the run.

use super::layout::{Block, Fact};
use super::tables::{estimated, shown};
use super::{Connections, Report, RouteReport};
use crate::check::numbers::{duration, integer, money, percent, three_digits};

/// The totals of the complete run.
pub(super) fn totals(route: &RouteReport) -> Block {
    let total = &route.total;
    let three = |value| shown(value, three_digits);
    let tokens = |value: Option<u64>| value.map(integer);
    let part = |value: Option<u64>| value.filter(|count| *count > 0).map(integer);
    let of_text = |value| route.generates_text().then(|| estimated(total, value));
    let of_vectors = |value| (!route.generates_text()).then(|| shown(value, three_digits));
    let reasoning = part(total.reasoning_tokens).map(|count| match total.reasoning_token_ratio {
        Some(ratio) => format!("{count} ({})", percent(ratio)),
        None => count,
    });
    let rows = [
        ("QPS", Some(three(total.queries_per_second))),
        ("offered/s", Some(three(total.offered_per_second))),
        ("goodput/s (all objectives met)", total.goodput_per_second.map(three_digits)),
        ("success rate", Some(shown(total.success_rate, percent))),
        ("timeout rate", total.timeout_rate.filter(|rate| *rate > 0.0).map(percent)),
        ("input tokens", tokens(total.input_tokens)),
        ("of them cached", part(total.cached_input_tokens)),
        ("output tokens", tokens(total.output_tokens)),
        ("of them reasoning", reasoning),
        ("input tokens/s", of_vectors(total.input_tokens_per_second())),
        ("output tokens/s", of_text(total.output_tokens_per_second_total)),
        (
            "peak output tokens/s",
            route.peak_output_tokens_per_second.map(|peak| estimated(total, Some(peak))),
        ),
        ("input and output tokens/s", of_text(total.tokens_per_second_total)),
        ("TPS per request, incl. TTFT", of_text(total.output_tokens_per_request_second)),
        ("mean in flight", Some(three(total.requests_in_flight))),
        ("peak in flight", Some(integer(total.peak_requests_in_flight))),
        ("sum of durations", Some(duration(total.request_seconds))),
        ("test time", Some(duration(total.seconds))),
        (
            "cost",
            total.cost.as_ref().map(|cost| format!("{} {}", money(cost.amount), cost.currency)),
        ),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?]));
    Block::Table {
        title: "Totals".to_owned(),
        columns: vec!["totals".to_owned(), String::new()],
        rows: rows.collect(),
    }
}

/// The connections as one sentence. `None` without a response.
pub(super) fn connections(connections: &Connections) -> Option<String> {
    let Connections { opened, reused, retries, connect_seconds } = connections;
    if opened + reused == 0 {
        return None;
    }
    let mut text = format!("connections: {} opened, {} reused", integer(*opened), integer(*reused));
    if *retries > 0 {
        text = format!("{text}, {} retries", integer(*retries));
    }
    if let Some(median) = connect_seconds.p50 {
        text = format!("{text}; connect P50 {}", duration(median));
    }
    if let Some(p99) = connect_seconds.p99 {
        text = format!("{text}, P99 {}", duration(p99));
    }
    Some(text)
}

/// The circumstances of the run.
pub(super) fn tested(report: &Report) -> Block {
    let tested = &report.tested;
    let mut rows: Vec<Fact> = Vec::new();
    let fact = |name: &str, value: Option<String>| {
        value.filter(|value| !value.is_empty()).map(|value| Fact::new(name, value))
    };
    for (name, value) in &tested.labels {
        rows.extend(fact(name, Some(value.clone())));
    }
    for route in &report.routes {
        let several = report.routes.len() > 1;
        let of = |name: &str| {
            if several { format!("{name} ({})", route.route()) } else { name.to_owned() }
        };
        let simulated = if route.simulated { " (the built-in simulator)" } else { "" };
        let prompts = &route.prompts;
        let number = prompts.count.map(|count| format!("{} ", integer(count)));
        let source = format!(
            "{}: {}{}, {} order, {} prefix cache",
            prompts.name,
            number.unwrap_or_default(),
            prompts.source,
            prompts.order,
            prompts.prefix_cache
        );
        let of_route = [
            fact(&of("model"), Some(route.model.clone())),
            fact(&of("target"), Some(format!("{}{simulated}", route.address))),
            fact(&of("server"), route.server_version.clone()),
            fact(&of("prompts"), Some(source)),
            fact(&of("arrivals"), Some(route.gaps.clone())),
        ];
        rows.extend(of_route.into_iter().flatten());
    }
    let processor = tested.cpu.clone().unwrap_or_else(|| "processors".to_owned());
    let command = fact("command", tested.command.clone());
    let of_run = [
        fact("host", tested.host.clone()),
        fact("system", tested.os.clone()),
        fact("processor", tested.cpus.map(|count| format!("{count} × {processor}"))),
        command.map(|command| Fact { is_code: true, ..command }),
        fact("configuration hash", Some(tested.config_hash.clone())),
        fact("seed", Some(report.seed.to_string())),
        fact("started", Some(report.started.clone())),
        fact("shards", report.shards.map(|count| count.to_string())),
        fact(
            "shard",
            report.shard.as_ref().map(|shard| format!("{} of {}", shard.index, shard.of)),
        ),
        fact("took", Some(duration(report.seconds))),
        fact("llmload", Some(report.version.clone())),
    ];
    rows.extend(of_run.into_iter().flatten());
    Block::Facts { title: "Test setup".to_owned(), rows }
}
