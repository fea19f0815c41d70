//! Tests of the judgement of targets, and of the table.

use super::*;
use crate::check::text::{TextStyle, width};
use crate::report::layout::Block;
use crate::report::{Distributions, Level, LevelKind, Summary, render};

/// The mean and the margin of a difference from the baseline target, in milliseconds.
type Paired = Option<(f64, f64)>;

fn summary(mean: f64) -> Summary {
    let mean = Some(mean);
    Summary { count: 1000, mean, p50: mean, p99: mean.map(|mean| 3.0 * mean), ..Summary::default() }
}

/// A target with a TTFT of 100 ms. `paired` is the difference of TTFT.
fn target(name: &str, paired: Paired) -> RouteReport {
    let mean = |(mean, margin): (f64, f64)| MeanDifference {
        mean_seconds: mean / 1e3,
        margin_seconds: (margin > 0.0).then_some(margin / 1e3),
    };
    let slower = paired.map_or(0.0, |paired| paired.0 / 1e3);
    // The values are spread by ± 25 %.
    let spread = |middle: f64| (0..1000).map(move |i| (middle * (0.75 + f64::from(i) / 2e3), 1));
    let statistics = Statistics {
        seconds: 60.0,
        sent: 1000,
        succeeded: 1000,
        success_rate: Some(1.0),
        offered_per_second: Some(20.0),
        queries_per_second: Some(20.0),
        requests_in_flight: Some(2.0),
        output_tokens_per_request_second: Some(50.0),
        time_to_first_token_seconds: summary(0.1 + slower),
        time_per_output_token_seconds: summary(0.02),
        request_duration_seconds: summary(0.5),
        ..Statistics::default()
    };
    let times = spread(0.1 + slower).collect();
    let phase = PhaseReport {
        name: "steady".to_owned(),
        load: "constant 20/s".to_owned(),
        level: Some(Level { kind: LevelKind::Rate, value: 20.0 }),
        sent: true,
        statistics,
        distributions: Distributions::from([(TTFT.1.to_owned(), times)]),
        difference: paired.map(|paired| PairedDifference {
            pairs: 1000,
            time_to_first_token: Some(mean(paired)),
            time_per_output_token: Some(mean((0.0, 0.1))),
            request_duration: Some(mean((0.0, 1.0))),
        }),
        ..PhaseReport::default()
    };
    RouteReport {
        scenario: "both".to_owned(),
        target: name.to_owned(),
        phases: vec![phase],
        ..RouteReport::default()
    }
}

fn compared(routes: &[RouteReport]) -> SideBySide {
    let mut all = side_by_side(routes);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The judgement of a figure at the second target.
fn change_of(all: &SideBySide, kind: FigureKind) -> Change {
    let figure = all.phases[0].figures.iter().find(|figure| figure.figure == kind).unwrap();
    figure.by_target[1].difference.as_ref().unwrap().change
}

#[test]
fn a_difference_over_pairs_counts_if_it_is_significant_and_above_the_tolerance() {
    for (paired, expected) in [
        ((10.0, 2.0), Change::Worse),
        ((-10.0, 2.0), Change::Better),
        ((4.0, 1.0), Change::Tolerated),
        ((10.0, 12.0), Change::Unclear),
        ((1.0, 2.0), Change::None),
        ((0.0, 0.0), Change::TooFew),
    ] {
        let all = compared(&[target("one", Some((0.0, 1.0))), target("two", Some(paired))]);
        assert_eq!(change_of(&all, FigureKind::TimeToFirstTokenMean), expected, "{paired:?}");
        assert_eq!(change_of(&all, FigureKind::RequestDurationMean), Change::None);
        assert_eq!(change_of(&all, FigureKind::QueriesPerSecond), Change::None);
        assert_eq!(change_of(&all, FigureKind::OutputTokensPerRequestSecond), Change::NotJudged);
    }
}

/// With one test, a difference of 2.2 standard errors would be significant.
#[test]
fn the_significance_is_corrected_for_the_number_of_tests() {
    let paired = (10.0, 1.96 / 2.2 * 10.0);
    let all = compared(&[target("one", None), target("two", Some(paired))]);
    assert_eq!(change_of(&all, FigureKind::TimeToFirstTokenMean), Change::Unclear);
}

#[test]
fn figures_without_pairs_have_the_tests_of_compare() {
    let mut failing = target("two", Some((60.0, 2.0)));
    let statistics = &mut failing.phases[0].statistics;
    (statistics.succeeded, statistics.failed, statistics.success_rate) = (950, 50, Some(0.95));
    let all = compared(&[target("one", None), failing]);
    assert_eq!(change_of(&all, FigureKind::SuccessRate), Change::Worse);
    assert_eq!(change_of(&all, FigureKind::TimeToFirstTokenP99), Change::Worse);
    let failures = all.phases[0].figures.iter().find(|one| one.figure == FigureKind::Failed);
    let values: Vec<_> = failures.unwrap().by_target.iter().map(|one| one.value).collect();
    assert_eq!(values, [Some(0.0), Some(50.0)]);
}

#[test]
fn a_phase_that_explores_or_was_cut_is_shown_but_not_judged() {
    for index in 0..2 {
        let mut routes = [target("one", None), target("two", Some((50.0, 1.0)))];
        routes[index].phases[0].explore = true;
        let all = compared(&routes);
        assert_eq!(change_of(&all, FigureKind::TimeToFirstTokenMean), Change::NotJudged);
        routes[index].phases[0].explore = false;
        routes[index].phases[0].cut = true;
        assert_eq!(
            change_of(&compared(&routes), FigureKind::TimeToFirstTokenMean),
            Change::NotJudged
        );
    }
}

/// The comparison of a route with a route of another scenario.
fn separate(change: fn(&mut RouteReport)) -> Vec<SideBySide> {
    let mut other = target("two", Some((60.0, 2.0)));
    "other".clone_into(&mut other.scenario);
    change(&mut other);
    side_by_side(&[target("one", None), other])
}

#[test]
fn scenarios_that_differ_only_in_their_target_are_compared_by_their_quantiles() {
    let all = separate(|_| {}).remove(0);
    assert!(!all.is_paired);
    let scenarios: Vec<_> = all.columns.iter().map(|column| column.scenario.as_str()).collect();
    assert_eq!(scenarios, ["both", "other"]);
    assert_eq!(change_of(&all, FigureKind::TimeToFirstTokenP50), Change::Worse);
    let differences =
        all.phases[0].figures.iter().filter_map(|figure| figure.by_target[1].difference.as_ref());
    assert!(differences.clone().count() > 3 && differences.clone().all(|one| one.pairs.is_none()));
    let text = lines(&all).join("\n");
    assert!(text.contains("separate scenarios") && !text.contains("mean"), "{text}");
    let changes: [fn(&mut RouteReport); 7] = [
        |route| "other".clone_into(&mut route.phases[0].name),
        |route| "constant 25/s".clone_into(&mut route.phases[0].load),
        |route| route.phases[0].planned_seconds = Some(30.0),
        |route| "poisson".clone_into(&mut route.gaps),
        |route| "other".clone_into(&mut route.prompts.name),
        |route| route.max_tokens = Some(1),
        |route| "one".clone_into(&mut route.target),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(separate(change), [], "{index}");
    }
}

#[test]
fn each_group_of_routes_has_a_separate_comparison() {
    let of = |scenario: &str, name: &str| {
        let mut route = target(name, Some((0.0, 1.0)));
        scenario.clone_into(&mut route.scenario);
        route
    };
    let routes =
        [of("a", "one"), of("both", "one"), of("both", "two"), of("b", "two"), of("c", "three")];
    let compared = side_by_side(&routes);
    let scenarios =
        compared.iter().map(|all| names(all.columns.iter().map(|column| column.scenario.as_str())));
    assert_eq!(scenarios.collect::<Vec<_>>(), ["a, b and c", "both"]);
}

#[test]
fn only_several_targets_and_phases_sent_to_all_of_them_are_compared() {
    assert_eq!(side_by_side(&[target("one", None)]), []);
    let mut unsent = target("two", Some((1.0, 1.0)));
    unsent.phases[0].sent = false;
    assert_eq!(side_by_side(&[target("one", None), unsent]), []);
}

fn lines(all: &SideBySide) -> Vec<String> {
    let style = TextStyle { width: 80, colours: false };
    let text = render::styled("", &all.blocks(true), style);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn up_to_three_targets_fit_beside_each_other_on_a_terminal() {
    let slower = Some((110.0, 2.0));
    let routes =
        [target("main", None), target("canary", slower), target("old", Some((-10.0, 1.0)))];
    let lines = lines(&compared(&routes));
    let head = lines.iter().find(|line| line.contains("main")).unwrap();
    assert!(head.ends_with("main  canary    difference     old      difference"), "{lines:#?}");
    let row = lines.iter().find(|line| line.contains("TTFT mean")).unwrap();
    let expected = "100 ms  210 ms  worse +110 %   90 ms  better −10.0 %";
    assert!(row.ends_with(expected), "{lines:#?}");
    assert!(lines.iter().all(|line| width(line) <= 80), "{lines:#?}");
}

#[test]
fn a_table_that_is_too_wide_continues_below_with_the_baseline_target() {
    let names = ["llama-3.1-8b-instruct", "qwen2.5-7b-instruct", "并发模型", "mistral-small-24b"];
    let others = names[1..].iter().map(|name| target(name, Some((40.0, 2.0))));
    let routes: Vec<_> = std::iter::once(target(names[0], None)).chain(others).collect();
    let all = compared(&routes);
    let lines = lines(&all);
    assert!(lines.iter().all(|line| width(line) <= 80), "{lines:#?}");
    let heads: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(names[0]) && line.contains("  difference"))
        .collect();
    assert!(heads.len() > 1, "{lines:#?}");
    for name in names {
        assert!(heads.iter().any(|head| head.contains(name)), "{name}: {lines:#?}");
    }
    let steady = lines.iter().filter(|line| *line == "  steady");
    assert_eq!(steady.count(), heads.len(), "{lines:#?}");
    // Other forms have one table.
    let tables =
        all.blocks(true).into_iter().filter(|block| matches!(block, Block::WideTable { .. }));
    assert_eq!(tables.count(), 1);
}
