//! How latency and throughput change from level to level.

use super::ladder::{Knee, Ladder, NO_GROWTH, queries, tokens, value};
use super::{Code, Draft, label, labels};
use crate::check::numbers::{duration, percent, sign, three_digits};
use crate::report::{LevelKind, PhaseReport, RouteReport, Statistics, Summary};
use crate::slo::Share;

/// Requests queue if TTFT p50 grows at least this many times.
const QUEUE_GROWTH: f64 = 3.0;
/// Requests queue if at least this part of the duration is added TTFT.
const QUEUE_SHARE: f64 = 0.2;
/// Decode degrades if TPOT p50 grows at least this many times.
const DECODE_GROWTH: f64 = 1.5;
/// The fewest values of a median that is compared with another one.
const FEWEST_VALUES: u64 = 20;
/// Throughput can grow further if it grows by at least this part of the growth of the level.
const GOOD_GROWTH: f64 = 0.5;
/// Requests take longer at a level if their mean duration grows at least this many times.
const SLOWER: f64 = 1.2;
/// The lowest part of its concurrency that a closed loop reaches.
const REACHED: f64 = 0.9;
/// A closed loop with fewer requests than this for each slot begins and ends for a large part of
/// its time.
const REQUESTS_PER_SLOT: f64 = 10.0;
/// The lowest part of the offered rate at which the server keeps up.
const KEEPS_UP: f64 = 0.95;
/// The lowest part of the length of a phase that a request takes, if the phase is too short.
const LONG_REQUEST: f64 = 0.05;
/// The highest ratio of two mean latencies that are not distinguished.
const SAME_LATENCY: f64 = 1.05;
/// The highest growth of the mean duration for which the server is not overloaded.
const SAME_DURATION: f64 = 1.5;

pub(super) fn drafts(route: &RouteReport, ladder: &Ladder<'_>) -> Vec<Draft> {
    let knee = ladder.knee();
    let mut drafts = Vec::new();
    let slows = if knee.is_none() { throughput_slows(ladder) } else { None };
    let is_saturated = knee.is_some() || slows.is_some();
    drafts.extend(knee.map(|knee| throughput_knee(ladder, knee)));
    drafts.extend(slows);
    drafts.extend(requests_queue(ladder, is_saturated));
    drafts.extend(decode_degrades(ladder));
    drafts.extend(level_not_reached(route));
    drafts.extend(short_phase(route, ladder));
    drafts
}

fn throughput_knee(ladder: &Ladder<'_>, knee: Knee<'_>) -> Draft {
    let Knee { level, top } = knee;
    let growth = queries(top) / queries(level) - 1.0;
    let change = sign(growth);
    let is_lowest = ladder.ends().is_some_and(|(lowest, _)| std::ptr::eq(lowest, level));
    let start = if is_lowest {
        format!("throughput does not grow above the lowest level, {}", label(level))
    } else {
        format!("throughput stopped growing at {}", label(level))
    };
    let mut text = format!(
        "{start}: {}/s there, {}/s at {} ({change}{})",
        three_digits(queries(level)),
        three_digits(queries(top)),
        label(top),
        rounded_percent(growth.abs()),
    );
    if tokens(level) > 0.0 {
        text = format!(
            "{text}; {} and {} output tokens/s",
            three_digits(tokens(level)),
            three_digits(tokens(top))
        );
    }
    Draft::new(Code::ThroughputKnee, text).about(level).with([
        ("level", value(level)),
        ("queries_per_second", queries(level)),
        ("top_level", value(top)),
        ("top_queries_per_second", queries(top)),
    ])
}

fn rounded_percent(fraction: f64) -> String {
    percent((fraction * 100.0).round() / 100.0)
}

/// The highest level, if throughput grew from the level before it, but much less than the load. The
/// longer durations exclude other reasons, such as a level that was too short.
fn throughput_slows(ladder: &Ladder<'_>) -> Option<Draft> {
    let (before, top, growth) = ladder.growth_at_top()?;
    let mean = |phase: &PhaseReport| phase.statistics.request_duration_seconds.mean;
    let (earlier, later) = (mean(before)?, mean(top)?);
    let is_reached = |phase: &PhaseReport| {
        let is_open = phase.level.is_some_and(|level| level.kind == LevelKind::Rate);
        is_open || phase.statistics.requests_in_flight >= Some(value(phase) * REACHED)
    };
    let is_slower = later >= earlier * SLOWER && is_reached(before) && is_reached(top);
    ((0.0..GOOD_GROWTH).contains(&growth) && is_slower).then(|| {
        let text = format!(
            "throughput grows less than the load: {} has {} times the load of {}, but only {} times \
             the throughput ({}/s instead of {}/s), and the mean duration rose from {} to {}; the \
             server is at or near its limit",
            label(top),
            three_digits(value(top) / value(before)),
            label(before),
            three_digits(queries(top) / queries(before)),
            three_digits(queries(top)),
            three_digits(queries(before)),
            duration(earlier),
            duration(later)
        );
        Draft::new(Code::ThroughputSlows, text).about(top).with([
            ("level", value(top)),
            ("queries_per_second", queries(top)),
            ("level_before", value(before)),
            ("queries_per_second_before", queries(before)),
        ])
    })
}

/// Returns the medians of a latency at two levels, if enough requests have it.
fn medians(
    low: &PhaseReport,
    high: &PhaseReport,
    of: fn(&Statistics) -> &Summary,
) -> Option<(f64, f64)> {
    let median = |phase: &PhaseReport| {
        let summary = of(&phase.statistics);
        summary.p50.filter(|p50| summary.count >= FEWEST_VALUES && *p50 > 0.0)
    };
    median(low).zip(median(high))
}

fn ttft(statistics: &Statistics) -> &Summary {
    &statistics.time_to_first_token_seconds
}

fn tpot(statistics: &Statistics) -> &Summary {
    &statistics.time_per_output_token_seconds
}

fn requests_queue(ladder: &Ladder<'_>, is_saturated: bool) -> Option<Draft> {
    let (low, high) = ladder.ends()?;
    let (before, after) = medians(low, high, ttft)?;
    let total = high.statistics.request_duration_seconds.p50?;
    if after < before * QUEUE_GROWTH || after - before < total * QUEUE_SHARE {
        return None;
    }
    let mut text = format!(
        "requests queue: TTFT p50 rose from {} at {} to {} at {}",
        duration(before),
        label(low),
        duration(after),
        label(high)
    );
    if let Some((decode, later)) = medians(low, high, tpot).filter(|(a, b)| *b < a * DECODE_GROWTH)
    {
        text =
            format!("{text}, but TPOT p50 only from {} to {}", duration(decode), duration(later));
    }
    let draft = Draft::new(Code::RequestsQueue, text.clone()).about(high);
    let values = [("low_ttft_p50_seconds", before), ("high_ttft_p50_seconds", after)];
    // Little's law: the mean number of requests in service is their rate times the mean time of
    // service. TTFT beyond that of the lowest level is the time in the queue.
    let in_service = || {
        let served = high.statistics.request_duration_seconds.mean?
            - (ttft(&high.statistics).mean? - ttft(&low.statistics).mean?);
        Some(queries(high) * served).filter(|count| *count >= 1.0)
    };
    Some(match in_service().filter(|_| is_saturated) {
        Some(count) => {
            let text = format!(
                "{text}; the server worked on about {} requests at once",
                three_digits(count)
            );
            let [low, high] = values;
            Draft { text, ..draft }.with([low, high, ("requests_in_service", count)])
        }
        None => draft.with(values),
    })
}

fn decode_degrades(ladder: &Ladder<'_>) -> Option<Draft> {
    let (low, high) = ladder.ends()?;
    let (before, after) = medians(low, high, tpot)?;
    (after >= before * DECODE_GROWTH).then(|| {
        let text = format!(
            "decode gets slower with load: TPOT p50 rose from {} at {} to {} at {}",
            duration(before),
            label(low),
            duration(after),
            label(high)
        );
        let values = [("low_tpot_p50_seconds", before), ("high_tpot_p50_seconds", after)];
        Draft::new(Code::DecodeDegrades, text).about(high).with(values)
    })
}

/// The level for the highest throughput and the level for the lowest latency.
pub(super) fn level_choice(ladder: &Ladder<'_>) -> Option<Draft> {
    // A level that misses an objective is no choice.
    let meets = |phase: &&PhaseReport| phase.slo.iter().all(|objective| objective.passed);
    let levels: Vec<_> = ladder.measured.iter().copied().filter(meets).collect();
    let [low, _, ..] = levels.as_slice() else { return None };
    let most = levels.iter().map(|phase| queries(phase)).fold(0.0, f64::max);
    // A higher level for a tenth more throughput is no good choice.
    let best = levels.iter().find(|phase| queries(phase) * NO_GROWTH >= most)?;
    let latency = |phase: &PhaseReport| phase.statistics.request_duration_seconds.mean;
    let fastest = levels.iter().copied().min_by(|one, other| {
        let of = |phase| latency(phase).unwrap_or(f64::INFINITY);
        of(one).total_cmp(&of(other))
    })?;
    // The lowest level is the usual answer, and noise should not change it.
    let fastest = if latency(low)? <= latency(fastest)? * SAME_LATENCY { low } else { fastest };
    let (best_latency, lowest) = (latency(best)?, latency(fastest)?);
    let text = if best_latency <= lowest * SAME_LATENCY {
        let above = if best_latency > lowest { ", at most 5 % above the lowest" } else { "" };
        format!(
            "for throughput and for latency, choose {}: {}/s at a mean latency of {}{above}",
            label(best),
            three_digits(queries(best)),
            duration(best_latency)
        )
    } else {
        format!(
            "for throughput, choose {}: {}/s at a mean latency of {}; for latency, choose {}: {}/s \
             at {}",
            label(best),
            three_digits(queries(best)),
            duration(best_latency),
            label(fastest),
            three_digits(queries(fastest)),
            duration(lowest)
        )
    };
    Some(Draft::new(Code::LevelChoice, text).with([
        ("throughput_level", value(best)),
        ("throughput_queries_per_second", queries(best)),
        ("latency_level", value(fastest)),
        ("latency_mean_seconds", lowest),
    ]))
}

/// Returns the highest level, if throughput still grew there and no objective was missed.
pub(super) fn room_at_top(ladder: &Ladder<'_>) -> Option<Draft> {
    let (before, top, growth) = ladder.growth_at_top()?;
    let is_highest = ladder.sent.last().is_some_and(|last| std::ptr::eq(*last, top));
    let statistics = &top.statistics;
    let is_healthy = top.slo.iter().all(|objective| objective.passed)
        && statistics.success_rate.is_some_and(|rate| rate >= 0.99)
        && !Share::PERCENT.is_exceeded(statistics.dropped, statistics.arrivals);
    (is_highest && is_healthy && growth >= GOOD_GROWTH).then(|| {
        let text = format!(
            "the server has room above {}: throughput grew with the load up to this level, from \
             {}/s at {} to {}/s",
            label(top),
            three_digits(queries(before)),
            label(before),
            three_digits(queries(top))
        );
        Draft::new(Code::RoomAtTop, text)
            .about(top)
            .with([("level", value(top)), ("queries_per_second", queries(top))])
    })
}

fn level_not_reached(route: &RouteReport) -> Option<Draft> {
    let missed = |phase: &PhaseReport| {
        let level = phase.level.filter(|level| level.kind == LevelKind::Concurrency)?.value;
        let in_flight = phase.statistics.requests_in_flight?;
        (phase.sent && !phase.cut && in_flight < level * REACHED).then_some((level, in_flight))
    };
    let phases = route.levels().filter_map(|phase| Some((phase, missed(phase)?)));
    let phases: Vec<_> = phases.collect();
    let (first, (level, in_flight)) = phases.first()?;
    let names = phases.iter().map(|(phase, (_, in_flight))| {
        format!("{} had only {}", label(phase), three_digits(*in_flight))
    });
    let text = format!(
        "{} requests in flight on average{}",
        names.collect::<Vec<_>>().join(", "),
        cause_of_few_requests(route, first, *level)
    );
    let values = [("level", *level), ("requests_in_flight", *in_flight)];
    Some(Draft::new(Code::LevelNotReached, text).about(first).with(values))
}

fn cause_of_few_requests(route: &RouteReport, phase: &PhaseReport, level: f64) -> &'static str {
    let Statistics { failed, arrivals, .. } = phase.statistics;
    #[allow(clippy::cast_precision_loss)]
    let is_small = (arrivals as f64) < level * REQUESTS_PER_SLOT;
    if Share::PERCENT.is_exceeded(failed, arrivals) {
        "; after a failure, a slot rests for a second"
    } else if route.difference.is_some() {
        "; each request waits until the same request to the other target has ended"
    } else if is_small {
        "; the phase has too few requests for this level"
    } else {
        ""
    }
}

/// At the start of a phase, no response has arrived yet. In a short phase,
/// this makes QPS lower than the offered rate although the server keeps up.
#[allow(clippy::cast_precision_loss)]
fn short_phase(route: &RouteReport, ladder: &Ladder<'_>) -> Option<Draft> {
    let mean = |phase: &PhaseReport| phase.statistics.request_duration_seconds.mean;
    let lowest = ladder.sent.first().and_then(|phase| mean(phase));
    let is_short = |phase: &&PhaseReport| {
        let statistics = &phase.statistics;
        let is_open = phase.level.is_some_and(|level| level.kind == LevelKind::Rate);
        let (Some(offered), Some(duration)) = (statistics.offered_per_second, mean(phase)) else {
            return false;
        };
        is_open
            && phase.sent
            && statistics.dropped == 0
            && queries(phase) + statistics.window.failed as f64 / statistics.seconds
                < offered * KEEPS_UP
            && duration >= statistics.seconds * LONG_REQUEST
            && lowest.is_none_or(|lowest| duration <= lowest * SAME_DURATION)
    };
    let short: Vec<&PhaseReport> = route.levels().filter(is_short).collect();
    let first = short.first()?;
    let (mean, length) = (mean(first)?, first.statistics.seconds);
    let text = format!(
        "the QPS of {} is lower than the offered rate because a request takes {} of the {} that \
         the phase lasts; a longer phase shows the true QPS",
        labels(&short),
        duration(mean),
        duration(length)
    );
    let values = [("request_duration_mean_seconds", mean), ("phase_seconds", length)];
    Some(Draft::new(Code::ShortPhase, text).about(first).with(values))
}
