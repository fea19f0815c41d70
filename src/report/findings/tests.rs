//! For each finding: data that give it, and data that just do not.

mod limits;
mod names;
mod searches;

use super::*;
use crate::report::{Level, LevelKind, ObjectiveResult, PromptProfile, Statistics, Summary};

/// The values of a level. The latencies are means and medians in seconds.
#[derive(Clone, Copy)]
struct Values {
    qps: f64,
    ttft: f64,
    tpot: f64,
    latency: f64,
}

fn summary(value: f64) -> Summary {
    let value = Some(value);
    Summary { count: 200, mean: value, p50: value, p99: value, ..Summary::default() }
}

fn phase(kind: LevelKind, level: f64, values: Values) -> PhaseReport {
    let Values { qps, ttft, tpot, latency } = values;
    let name = match kind {
        LevelKind::Rate => format!("constant {level}/s"),
        LevelKind::Concurrency => format!("concurrency {level}"),
    };
    let mut statistics = Statistics {
        seconds: 60.0,
        arrivals: 1000,
        sent: 1000,
        succeeded: 1000,
        success_rate: Some(1.0),
        queries_per_second: Some(qps),
        requests_in_flight: Some(level),
        time_to_first_token_seconds: summary(ttft),
        time_per_output_token_seconds: summary(tpot),
        request_duration_seconds: summary(latency),
        ..Statistics::default()
    };
    statistics.window.succeeded = 1000;
    if kind == LevelKind::Rate {
        statistics.offered_per_second = Some(level);
    }
    PhaseReport {
        load: name.clone(),
        name,
        level: Some(Level { kind, value: level }),
        sent: true,
        statistics,
        ..PhaseReport::default()
    }
}

fn at(concurrency: f64, qps: f64, ttft: f64, tpot: f64, latency: f64) -> PhaseReport {
    phase(LevelKind::Concurrency, concurrency, Values { qps, ttft, tpot, latency })
}

fn objective(measured: f64) -> ObjectiveResult {
    ObjectiveResult {
        measure: "ttft".to_owned(),
        share: 0.99,
        threshold_seconds: Some(1.0),
        measured: Some(measured),
        judged: 1000,
        met: if measured <= 1.0 { 1000 } else { 900 },
        passed: measured <= 1.0,
        sure: true,
    }
}

/// The table of a server that works on sixteen requests at once.
fn saturated() -> RouteReport {
    let phases = vec![
        at(5.0, 9.0, 0.006, 0.005, 0.54),
        at(35.0, 31.5, 0.6, 0.0052, 1.11),
        at(100.0, 31.9, 2.6, 0.0053, 3.1),
    ];
    RouteReport { phases, address: "http://h/v1".to_owned(), ..RouteReport::default() }
}

fn with_objectives(mut route: RouteReport, measured: [f64; 3]) -> RouteReport {
    for (phase, measured) in route.phases.iter_mut().zip(measured) {
        phase.slo = vec![objective(measured)];
    }
    route
}

fn all(route: RouteReport) -> Vec<Finding> {
    find(&[route], Circumstances::default())
}

fn text(findings: &[Finding], code: Code) -> Option<String> {
    let mut found = findings.iter().filter(|finding| finding.code == code);
    let first = found.next().map(|finding| finding.text.clone());
    assert!(found.next().is_none(), "{code:?} occurs once");
    first
}

#[test]
fn throughput_that_no_higher_level_exceeds_is_a_knee() {
    let findings = all(saturated());
    assert_eq!(
        text(&findings, Code::ThroughputKnee).unwrap(),
        "Throughput stopped growing at concurrency 35: 31.5/s there, 31.9/s at concurrency 100 (+1 %)"
    );
    let near_miss = |change: fn(&mut RouteReport)| {
        let mut route = saturated();
        change(&mut route);
        assert_eq!(text(&all(route), Code::ThroughputKnee), None);
    };
    near_miss(|route| route.phases[2].statistics.queries_per_second = Some(31.5 * 1.11));
    near_miss(|route| route.phases[2].level.as_mut().unwrap().value = 43.0);
    near_miss(|route| route.phases[2].statistics.success_rate = Some(0.89));
    near_miss(|route| route.phases[2].statistics.window.succeeded = 29);
    near_miss(|route| route.phases[2].cut = true);
    near_miss(|route| {
        // Requests per second stay the same, but longer responses still bring more tokens.
        for (phase, tokens) in route.phases.iter_mut().zip([100.0, 200.0, 400.0]) {
            phase.statistics.output_tokens_per_second_total = Some(tokens);
        }
    });
}

#[test]
fn throughput_that_does_not_grow_at_all_is_a_knee_at_the_lowest_level() {
    let mut route = saturated();
    route.phases.remove(0);
    assert_eq!(
        text(&all(route), Code::ThroughputKnee).unwrap(),
        "Throughput does not grow above the lowest level, concurrency 35: 31.5/s there, 31.9/s at \
         concurrency 100 (+1 %)"
    );
}

#[test]
fn throughput_slows_if_it_grows_by_less_than_half_of_the_load() {
    let mut route = saturated();
    // A server that works on 64 requests at once.
    route.phases[1] = at(35.0, 60.0, 0.006, 0.005, 0.58);
    route.phases[2] = at(100.0, 110.0, 0.33, 0.0053, 0.909);
    let findings = all(route.clone());
    assert_eq!(
        text(&findings, Code::ThroughputSlows).unwrap(),
        "Throughput grows less than the load: concurrency 100 has 2.86 times the load of concurrency \
         35, but only 1.83 times the throughput (110/s instead of 60/s), and the mean duration rose \
         from 580 ms to 909 ms; the server is at or near its limit"
    );
    assert_eq!(
        (text(&findings, Code::ThroughputKnee), text(&findings, Code::RoomAtTop)),
        (None, None)
    );
    // 110/s × (0.909 s − (0.33 s − 0.006 s)) = 64.35 requests in service.
    let queue = text(&findings, Code::RequestsQueue).unwrap();
    assert!(queue.ends_with("; the server worked on about 64.3 requests at once"), "{queue}");
    let near_miss = |change: fn(&mut RouteReport)| {
        let mut route = route.clone();
        change(&mut route);
        let findings = all(route);
        assert_eq!(text(&findings, Code::ThroughputSlows), None);
        let queue = text(&findings, Code::RequestsQueue);
        assert!(queue.is_none_or(|queue| !queue.contains("at once")));
    };
    // Half of the growth of the load would be 115.7/s.
    near_miss(|route| route.phases[2].statistics.queries_per_second = Some(116.0));
    near_miss(|route| route.phases[2].statistics.request_duration_seconds = summary(0.69));
    near_miss(|route| route.phases[2].statistics.requests_in_flight = Some(89.0));
    near_miss(|route| route.phases[2].statistics.success_rate = Some(0.89));
    // A knee says more.
    assert_eq!(text(&all(saturated()), Code::ThroughputSlows), None);
}

#[test]
fn a_rate_that_the_server_does_not_follow_is_a_knee_too() {
    let rate = |offered, qps, latency| {
        phase(LevelKind::Rate, offered, Values { qps, ttft: latency / 2.0, tpot: 0.005, latency })
    };
    let phases = vec![rate(10.0, 10.0, 0.5), rate(30.0, 29.0, 0.6), rate(60.0, 30.0, 9.0)];
    let route = RouteReport { phases, ..RouteReport::default() };
    let knee = text(&all(route), Code::ThroughputKnee).unwrap();
    assert!(knee.starts_with("Throughput stopped growing at constant 30/s: 29/s there"), "{knee}");
}

#[test]
fn requests_queue_if_first_tokens_wait_and_decode_does_not() {
    let findings = all(saturated());
    // 31.9/s × (3.1 s − (2.6 s − 0.006 s)) = 16.1 requests in service.
    assert_eq!(
        text(&findings, Code::RequestsQueue).unwrap(),
        "Requests queue: TTFT p50 rose from 6 ms at concurrency 5 to 2.6 s at concurrency 100, but \
         TPOT p50 only from 5 ms to 5.3 ms; the server worked on about 16.1 requests at once"
    );
    assert_eq!(text(&findings, Code::DecodeDegrades), None);
    let mut short = saturated();
    // The queue is a small part of the duration.
    short.phases[2] = at(100.0, 31.9, 0.6, 0.0053, 3.1);
    assert_eq!(text(&all(short), Code::RequestsQueue), None);
    let mut slow = saturated();
    slow.phases[0].statistics.time_to_first_token_seconds = summary(0.9);
    assert_eq!(text(&all(slow), Code::RequestsQueue), None);
}

#[test]
fn decode_degrades_if_the_time_per_token_grows_by_half() {
    let mut route = saturated();
    route.phases[2].statistics.time_per_output_token_seconds = summary(0.0075);
    assert_eq!(
        text(&all(route.clone()), Code::DecodeDegrades).unwrap(),
        "Decode gets slower with load: TPOT p50 rose from 5 ms at concurrency 5 to 7.5 ms at \
         concurrency 100"
    );
    route.phases[2].statistics.time_per_output_token_seconds.count = 19;
    assert_eq!(text(&all(route), Code::DecodeDegrades), None);
}

#[test]
fn the_best_level_is_the_highest_that_meets_all_objectives() {
    let findings = all(with_objectives(saturated(), [0.01, 0.9, 3.2]));
    assert_eq!(
        text(&findings, Code::BestLevel).unwrap(),
        "concurrency 35 is the highest level that meets all objectives; at concurrency 100, ttft p99 \
         was 3.2 s instead of 1 s"
    );
    assert_eq!(
        text(&findings, Code::NextStep).unwrap(),
        "Next, find the limit between concurrency 35 and concurrency 100: `llmload capacity \
         http://h/v1 --slo 'ttft p99<1s' --by concurrency --from 35 --to 100`"
    );
    let mut high = with_objectives(saturated(), [0.01, 0.9, 3.2]);
    high.phases[2].level.as_mut().unwrap().value = 1500.0;
    let command = text(&all(high), Code::NextStep).unwrap();
    assert!(command.ends_with("--from 35 --to 1500`"), "no separator: {command}");
    // A search should send the requests of the file.
    let run = Circumstances { config_file: Some("my file.yml"), ..Circumstances::default() };
    for (scenario, options) in
        [("default", " --scenario default"), ("night load", " --scenario 'night load'")]
    {
        let scenario = scenario.to_owned();
        let route = with_objectives(saturated(), [0.01, 0.9, 3.2]);
        let command = text(&find(&[RouteReport { scenario, ..route }], run), Code::NextStep);
        let expected = format!("`llmload capacity --config.file 'my file.yml'{options} --slo '");
        assert!(command.as_ref().unwrap().contains(&expected), "{command:?}");
    }
    // A search measures one target, so the command with this scenario would fail.
    let of_target = |target: &str| RouteReport {
        target: target.to_owned(),
        scenario: "both".to_owned(),
        ..with_objectives(saturated(), [0.01, 0.9, 3.2])
    };
    let findings = find(&[of_target("a"), of_target("b")], run);
    let steps = findings.iter().filter(|finding| finding.code == Code::NextStep);
    let steps: Vec<_> = steps.map(|finding| finding.text.as_str()).collect();
    assert_eq!(steps.len(), 2);
    for (step, target) in steps.iter().zip(["a", "b"]) {
        let expected = format!("give `{target}` a scenario with only this target");
        assert!(step.contains(&expected) && !step.contains("--scenario both"), "{step}");
    }
    let none = all(with_objectives(saturated(), [1.5, 2.0, 3.0]));
    assert_eq!(
        text(&none, Code::BestLevel).unwrap(),
        "No level meets all objectives; at concurrency 5, ttft p99 was 1.5 s instead of 1 s"
    );
    assert_eq!(text(&none, Code::NextStep).unwrap(), "Next, try levels below 5");
    let mut failing = with_objectives(saturated(), [1.5, 2.0, 3.0]);
    failing.phases[0].statistics.success_rate = Some(0.98);
    let advice = text(&all(failing), Code::NextStep).unwrap();
    assert!(advice.starts_with("Next, fix the causes of the failures"), "{advice}");
    let mut single = with_objectives(saturated(), [1.5, 2.0, 3.0]);
    single.phases[0].level.as_mut().unwrap().value = 1.0;
    let advice = text(&all(single), Code::NextStep).unwrap();
    assert!(advice.starts_with("Next, try shorter prompts or responses"), "{advice}");
    // Without objectives, no level is the best one.
    assert_eq!(text(&all(saturated()), Code::BestLevel), None);
}

#[test]
fn a_met_highest_level_without_room_leads_to_a_search_from_this_level() {
    let expected = "Next, find the highest level that meets the objectives: `llmload capacity \
                    http://h/v1 --slo 'ttft p99<1s' --by concurrency --from";
    let mut route = with_objectives(saturated(), [0.01, 0.1, 0.2]);
    let advice = text(&all(route.clone()), Code::NextStep).unwrap();
    assert_eq!(advice, format!("{expected} 100 --to 400`"));
    route.phases.truncate(1);
    let advice = text(&all(route.clone()), Code::NextStep).unwrap();
    assert_eq!(advice, format!("{expected} 5 --to 20`"));
    // With few requests, the first question is if the level really meets the objective.
    route.phases[0].slo[0].sure = false;
    route.phases[0].statistics.arrivals = 90;
    let advice = text(&all(route), Code::NextStep).unwrap();
    assert!(advice.starts_with("Next, run concurrency 5 for at least 12 s"), "{advice}");
}

#[test]
fn there_is_room_if_throughput_still_grows_at_the_top() {
    let mut route = saturated();
    route.phases[2] = at(100.0, 80.0, 0.007, 0.006, 1.2);
    let findings = all(route.clone());
    assert_eq!(
        text(&findings, Code::RoomAtTop).unwrap(),
        "The server has room above concurrency 100: throughput grew with the load up to this level, \
         from 31.5/s at concurrency 35 to 80/s"
    );
    assert_eq!(
        text(&findings, Code::NextStep).unwrap(),
        "Next, try higher levels, such as 200 and 400"
    );
    let near_miss = |change: fn(&mut RouteReport)| {
        let mut route = route.clone();
        change(&mut route);
        assert_eq!(text(&all(route), Code::RoomAtTop), None);
    };
    // Half of the growth of the level would be 60.75/s.
    near_miss(|route| route.phases[2].statistics.queries_per_second = Some(60.0));
    near_miss(|route| route.phases[2].statistics.success_rate = Some(0.98));
    near_miss(|route| route.phases[2].statistics.dropped = 11);
    near_miss(|route| route.phases[2].slo = vec![objective(1.2)]);
    assert_eq!(text(&all(saturated()), Code::RoomAtTop), None);
}

#[test]
fn a_level_with_the_most_throughput_and_nearly_the_lowest_latency_is_the_only_choice() {
    let mut route = saturated();
    route.phases[0].statistics.request_duration_seconds = summary(1.06);
    assert_eq!(
        text(&all(route.clone()), Code::LevelChoice).unwrap(),
        "For throughput and for latency, choose concurrency 35: 31.5/s at a mean latency of 1.11 s, \
         at most 5 % above the lowest"
    );
    route.phases[0].statistics.request_duration_seconds = summary(1.05);
    let choice = text(&all(route), Code::LevelChoice).unwrap();
    assert!(choice.contains("; for latency, choose concurrency 5: 9/s at 1.05 s"), "{choice}");
}

#[test]
fn the_choice_of_a_level_names_throughput_and_latency() {
    assert_eq!(
        text(&all(saturated()), Code::LevelChoice).unwrap(),
        "For throughput, choose concurrency 35: 31.5/s at a mean latency of 1.11 s; for latency, \
         choose concurrency 5: 9/s at 540 ms"
    );
    let single =
        RouteReport { phases: vec![at(5.0, 9.0, 0.1, 0.1, 1.0)], ..RouteReport::default() };
    assert_eq!(text(&all(single), Code::LevelChoice), None);
}

#[test]
fn a_closed_loop_below_nine_tenths_of_its_level_did_not_reach_it() {
    let mut route = saturated();
    route.phases[2].statistics.requests_in_flight = Some(89.0);
    let findings = all(route.clone());
    assert_eq!(
        text(&findings, Code::LevelNotReached).unwrap(),
        "concurrency 100 had only 89 requests in flight on average"
    );
    route.phases[2].statistics.failed = 20;
    let with_failures = text(&all(route.clone()), Code::LevelNotReached).unwrap();
    assert!(with_failures.ends_with("; after a failure, a slot rests for a second"));
    route.phases[2].statistics.requests_in_flight = Some(90.0);
    assert_eq!(text(&all(route), Code::LevelNotReached), None);
}

#[test]
fn a_short_phase_explains_a_low_qps_only_if_the_server_kept_up() {
    let rate = |offered, qps, latency| {
        phase(LevelKind::Rate, offered, Values { qps, ttft: 0.1, tpot: 0.005, latency })
    };
    let route = |phases| RouteReport { phases, ..RouteReport::default() };
    let findings = all(route(vec![rate(5.0, 4.7, 3.6)]));
    let short = text(&findings, Code::ShortPhase).unwrap();
    assert_eq!(
        short,
        "The QPS of constant 5/s is lower than the offered rate because a request takes 3.6 s of the \
         60 s that the phase lasts; a longer phase shows the true QPS"
    );
    // The second phase is slower than the first: the server does not keep up.
    let overloaded = all(route(vec![rate(5.0, 5.0, 3.0), rate(50.0, 40.0, 9.0)]));
    assert_eq!(text(&overloaded, Code::ShortPhase), None);
    assert_eq!(text(&all(route(vec![rate(5.0, 4.8, 3.6)])), Code::ShortPhase), None);
    assert_eq!(text(&all(route(vec![rate(5.0, 4.7, 2.9)])), Code::ShortPhase), None);
}

#[test]
fn refusals_above_a_hundredth_hide_the_capacity() {
    let route = |refused: u64| {
        let mut route = saturated();
        route.ledger.finished = 1000;
        route.ledger.failed.insert("rate_limited".to_owned(), refused);
        text(&all(route), Code::RateLimitHidesCapacity)
    };
    let text = route(11).unwrap();
    assert!(text.starts_with("The endpoint refused 11 of 1,000 requests (1.1 %)"), "{text}");
    assert_eq!(route(10), None);
}

#[test]
fn a_distorted_run_gets_no_advice() {
    let route = with_objectives(saturated(), [0.01, 0.9, 3.2]);
    let distortion = Distortion { kind: "cpu".to_owned(), message: "no CPU".to_owned() };
    let distortions = &[distortion];
    let findings = find(&[route], Circumstances { distortions, ..Circumstances::default() });
    assert_eq!(findings.first().map(|finding| finding.code), Some(Code::GeneratorLimit));
    let codes = [Code::BestLevel, Code::RoomAtTop, Code::LevelChoice];
    assert!(findings.iter().all(|finding| !codes.contains(&finding.code)));
    assert_eq!(
        text(&findings, Code::NextStep).unwrap(),
        "Next, remove the cause that the verdict names, and run the test again"
    );
}

#[test]
fn a_prefix_cache_is_named_if_the_endpoint_counts_it_and_suspected_if_prompts_repeat() {
    let mut route = saturated();
    (route.total.input_tokens, route.total.cached_input_tokens) = (Some(1000), Some(501));
    assert!(text(&all(route.clone()), Code::PrefixCache).unwrap().starts_with("501 of 1,000"));
    route.total.cached_input_tokens = Some(500);
    assert_eq!(text(&all(route.clone()), Code::PrefixCache), None);
    let repeated = |sent, prefix_cache: &str| {
        let mut route = saturated();
        route.total.sent = sent;
        let prefix_cache = prefix_cache.to_owned();
        route.prompts = PromptProfile { count: Some(3), prefix_cache, ..PromptProfile::default() };
        text(&all(route), Code::RepeatedPrompts)
    };
    let sentence = repeated(30, "warm").unwrap();
    assert!(sentence.starts_with("llmload sent each prompt about 10 times"), "{sentence}");
    assert_eq!((repeated(29, "warm"), repeated(300, "cold")), (None, None));
}
