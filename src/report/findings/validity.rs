//! Facts that limit the use of the numbers: load that was not sent, values that are missing, and
//! times that are not only those of the server.

use std::time::Duration;

use super::{Code, Draft, labels};
use crate::check::numbers::{duration, integer, percent};
use crate::event::DropReason;
use crate::measurement::{Anomaly, Failure};
use crate::report::verdict::cut_phases;
use crate::report::{Distortion, PhaseReport, RouteReport, StepReport};
use crate::slo::Share;

/// If the p99 of the dispatch lag exceeds this number of seconds, there is a finding. The number is
/// half of the default `max_lag`.
const HIGH_LAG_SECONDS: f64 = 0.1;
/// If TTFT from the due instant exceeds TTFT from sending by this factor, there is a finding. Then
/// requests wait in llmload or for a connection, and not only for the server.
const HIGH_WAITING_RATIO: f64 = 1.5;
/// If there are fewer sent requests than this for each connection retry, there is a finding.
const MANY_SENT_PER_RETRY: u64 = 100;
/// If more than this percentage of the successes has an anomaly, there is a finding.
const COMMON: Share = Share::percent(5);
/// If each prompt was sent at least this many times, a prefix cache can have answered most of them.
const MANY_REPEATS: u64 = 10;
/// The fewest requests that a p99 needs.
const REQUESTS_FOR_P99: u64 = 100;

pub(super) fn drafts(route: &RouteReport, time_limit: Option<Duration>) -> Vec<Draft> {
    let mut drafts = dropped(route);
    drafts.extend(aborted(route));
    drafts.extend(rate_limit(route));
    drafts.extend(high_lag(route));
    drafts.extend(waiting_before_sending(route));
    drafts.extend(missing_usage(route));
    drafts.extend(coalesced(route));
    drafts.extend(retried_connections(route));
    drafts.extend(prefix_cache(route).or_else(|| repeated_prompts(route)));
    drafts.extend(too_few_requests(route));
    let cut = time_limit.and_then(|limit| cut_phases(route, limit));
    drafts.extend(cut.map(|text| Draft::new(Code::CutShort, text)));
    if route.simulated {
        let text = "the target is the built-in simulator, not a model";
        drafts.push(Draft::new(Code::Simulated, text.to_owned()));
    }
    drafts
}

/// The verdict has the messages of the distortions.
pub(super) fn generator_limit(distortions: &[Distortion]) -> Option<Draft> {
    let kinds: Vec<&str> = distortions.iter().map(|distortion| distortion.kind.as_str()).collect();
    (!kinds.is_empty()).then(|| {
        let text = format!(
            "llmload distorted the measurement ({}), so the server can be faster than this report \
             says",
            kinds.join(", ")
        );
        Draft::new(Code::GeneratorLimit, text)
    })
}

/// The reasons of the verdict have the remedies.
pub(super) fn repeat_run(distortions: &[Distortion]) -> Option<Draft> {
    let text = "next, remove the cause that the verdict names, and run the test again";
    (!distortions.is_empty()).then(|| Draft::new(Code::NextStep, text.to_owned()))
}

/// A search does not count a distorted step, so its result is valid. The reader must know why. For
/// a run with only searches.
#[allow(clippy::cast_precision_loss)]
pub(super) fn distorted_steps(routes: &[RouteReport], distortions: &[Distortion]) -> Option<Draft> {
    let searches = || routes.iter().flat_map(|route| &route.phases);
    let steps = || searches().filter_map(|phase| phase.search.as_ref()).flat_map(|of| &of.steps);
    // The verdict explains a step that a limit has ended.
    let is_distorted = |step: &&StepReport| step.distortion.is_some() && step.limit.is_none();
    let distorted = steps().filter(is_distorted).count();
    let first = distortions.first().map(|distortion| distortion.message.as_str());
    let text = match (distorted, first) {
        (0, None) => return None,
        (0, Some(message)) => format!(
            "llmload distorted the measurement, but in no step of the search that counts: {message}"
        ),
        (distorted, _) => format!(
            "llmload distorted {distorted} of {} steps of the search; these steps do not count, and \
             the table of steps names the causes",
            steps().count()
        ),
    };
    Some(Draft::new(Code::DistortedSteps, text).with([("distorted_steps", distorted as f64)]))
}

/// A response with status 429 says nothing about the capacity of the server.
#[allow(clippy::cast_precision_loss)]
fn rate_limit(route: &RouteReport) -> Option<Draft> {
    let classes = [Failure::RateLimited, Failure::Quota];
    let refused: u64 =
        classes.iter().filter_map(|failure| route.ledger.failed.get(failure.as_str())).sum();
    let finished = route.ledger.finished;
    Share::PERCENT.is_exceeded(refused, finished).then(|| {
        let share = refused as f64 / finished as f64;
        let text = format!(
            "the endpoint refused {} of {} requests ({}) because of its own limits, such as a rate \
             limit or a quota, so the report shows these limits and not the capacity of the server",
            integer(refused),
            integer(finished),
            percent(share)
        );
        Draft::new(Code::RateLimitHidesCapacity, text).with([("share", share)])
    })
}

#[allow(clippy::cast_precision_loss)]
fn dropped(route: &RouteReport) -> Vec<Draft> {
    let draft = |(reason, dropped): (&String, &u64)| {
        let cause = match DropReason::ALL.into_iter().find(|known| known.as_str() == reason) {
            Some(DropReason::MaxConcurrency) => {
                "max_concurrency was reached, because the endpoint did not keep up with the rate"
            }
            Some(DropReason::MaxSessions) => {
                "max_sessions was reached, because the sessions last longer than expected"
            }
            Some(DropReason::Late) => "llmload itself was delayed for longer than max_lag",
            Some(DropReason::Breaker) => "the breaker was open, because requests had failed",
            Some(DropReason::Budget) => "a budget of the scenario was used up",
            Some(DropReason::RateLimit) => {
                "`rate_limits` of the target did not permit the rate, or the endpoint requested a wait"
            }
            Some(DropReason::Paused) => "the load was paused",
            Some(DropReason::Draining) | None => "the run was stopping",
        };
        let arrivals = if *dropped == 1 { "arrival was" } else { "arrivals were" };
        let text = format!("{} {arrivals} dropped ({reason}): {cause}", integer(*dropped));
        Draft::new(Code::Dropped, text).with([("dropped", *dropped as f64)])
    };
    route.ledger.dropped.iter().map(draft).collect()
}

#[allow(clippy::cast_precision_loss)]
fn aborted(route: &RouteReport) -> Vec<Draft> {
    let draft = |(reason, aborted): (&String, &u64)| {
        let text = format!(
            "llmload aborted {} requests ({reason}); TTFT and inter-chunk latency include the part \
             that had arrived, durations and rates do not",
            integer(*aborted)
        );
        Draft::new(Code::Aborted, text).with([("aborted", *aborted as f64)])
    };
    route.ledger.aborted.iter().map(draft).collect()
}

fn high_lag(route: &RouteReport) -> Option<Draft> {
    let lag = route.total.dispatch_lag_seconds.p99.filter(|lag| *lag > HIGH_LAG_SECONDS)?;
    let text = format!("1 % of the requests were sent more than {} late", duration(lag));
    Some(Draft::new(Code::DispatchLag, text).with([("dispatch_lag_p99_seconds", lag)]))
}

fn waiting_before_sending(route: &RouteReport) -> Option<Draft> {
    let from_sending = route.total.time_to_first_token_seconds.p99?;
    let from_due = route.total.time_to_first_token_from_schedule_seconds.p99?;
    (from_due > from_sending * HIGH_WAITING_RATIO).then(|| {
        let text = format!(
            "TTFT p99 is {} from the due instant, but {} from sending; a user waits for \
             the longer of the two times",
            duration(from_due),
            duration(from_sending)
        );
        Draft::new(Code::WaitingBeforeSending, text)
            .with([("from_due_seconds", from_due), ("from_sending_seconds", from_sending)])
    })
}

#[allow(clippy::cast_precision_loss)]
fn missing_usage(route: &RouteReport) -> Option<Draft> {
    let statistics = &route.total;
    let (mut uncounted, succeeded) = (statistics.uncounted, statistics.succeeded);
    if !route.generates_text() {
        // Such a success has no output tokens to count.
        let name = Anomaly::MissingUsage.as_str();
        uncounted = statistics.response_anomalies.get(name).copied().unwrap_or_default();
    }
    let text = match uncounted {
        0 => return None,
        _ if !route.generates_text() => format!(
            "the endpoint sent no valid count of input tokens (usage) for {} of {} successes",
            integer(uncounted),
            integer(succeeded)
        ),
        all if all == succeeded => "the endpoint sent no valid count of output tokens (usage), so \
             the rates of output tokens count one token per chunk, which is an estimate, and TPOT \
             is unknown"
            .to_owned(),
        _ => format!(
            "the endpoint sent no valid count of output tokens (usage) for {} of {} successes; \
             output tokens, TPOT and TPS do not include these successes",
            integer(uncounted),
            integer(succeeded)
        ),
    };
    Some(Draft::new(Code::MissingUsage, text).with([("uncounted", uncounted as f64)]))
}

/// A few retries are normal. Many slow the load down, and each one adds to the TTFT of its request.
#[allow(clippy::cast_precision_loss)]
fn retried_connections(route: &RouteReport) -> Option<Draft> {
    let (retries, sent) = (route.total.connection_retries, route.total.sent);
    (retries.saturating_mul(MANY_SENT_PER_RETRY) > sent).then(|| {
        let text = format!(
            "llmload sent {} of {} requests once more, because their connections ended before the \
             server could work on them; their TTFT includes the first attempt; if the server closes \
             each connection after its response, set `keep_alive: off`; if it closes idle \
             connections, set `keep_alive` below its idle timeout",
            integer(retries),
            integer(sent)
        );
        Draft::new(Code::ConnectionRetries, text).with([("retries", retries as f64)])
    })
}

#[allow(clippy::cast_precision_loss)]
fn coalesced(route: &RouteReport) -> Option<Draft> {
    let RouteReport { total, .. } = route;
    let coalesced = *total.response_anomalies.get(Anomaly::Coalesced.as_str())?;
    COMMON.is_exceeded(coalesced, total.succeeded).then(|| {
        let text = format!(
            "all tokens arrived at once in {} of {} successes, so these successes have no TPOT and \
             no TPS; check for a proxy that buffers the stream, and for a server that does not \
             stream",
            integer(coalesced),
            integer(total.succeeded)
        );
        Draft::new(Code::Coalesced, text).with([("coalesced", coalesced as f64)])
    })
}

#[allow(clippy::cast_precision_loss)]
fn prefix_cache(route: &RouteReport) -> Option<Draft> {
    let (cached, input) = (route.total.cached_input_tokens?, route.total.input_tokens?);
    (cached.saturating_mul(2) > input).then(|| {
        let text = format!(
            "{} of {} input tokens were found in a prefix cache, so TTFT is lower than for new \
             prompts; to measure new prompts, set `prefix_cache: cold`",
            integer(cached),
            integer(input)
        );
        Draft::new(Code::PrefixCache, text).with([("share", cached as f64 / input as f64)])
    })
}

/// The endpoint reports no cached tokens, so the number of repeats is all that llmload knows.
#[allow(clippy::cast_precision_loss)]
fn repeated_prompts(route: &RouteReport) -> Option<Draft> {
    let count = route.prompts.count.filter(|count| *count > 0)?;
    let repeats = route.total.sent / count;
    let is_possible = route.prompts.prefix_cache == "warm"
        && !route.simulated
        && route.total.cached_input_tokens.is_none();
    (is_possible && repeats >= MANY_REPEATS).then(|| {
        let prompts = if count == 1 { "the only prompt" } else { "each prompt" };
        let text = format!(
            "llmload sent {prompts} about {} times; if the server has a prefix cache, TTFT is lower \
             than for new prompts; to measure new prompts, set `prefix_cache: cold`",
            integer(repeats)
        );
        Draft::new(Code::RepeatedPrompts, text)
            .with([("prompts", count as f64), ("repeats", repeats as f64)])
    })
}

#[allow(clippy::cast_precision_loss)]
fn too_few_requests(route: &RouteReport) -> Option<Draft> {
    let has_few = |phase: &&PhaseReport| {
        phase.sent && (1..REQUESTS_FOR_P99).contains(&phase.statistics.succeeded)
    };
    let few: Vec<&PhaseReport> = route.levels().filter(has_few).collect();
    let fewest = few.iter().map(|phase| phase.statistics.succeeded).min()?;
    let have = if few.len() == 1 { "has" } else { "have" };
    let text = format!(
        "{} {have} fewer than {REQUESTS_FOR_P99} successes, which are too few for a p99",
        labels(&few)
    );
    Some(Draft::new(Code::TooFewRequests, text).with([("fewest_successes", fewest as f64)]))
}
