//! The finding about the distorted steps of a search.

use super::*;
use crate::report::{SearchReport, StepReport};

/// A search by rate with steps of these levels. The levels in `distorted` are distorted.
fn searched(levels: &[f64], distorted: &[f64]) -> RouteReport {
    let step = |level: &f64| StepReport {
        level: *level,
        distortion: distorted.contains(level).then(|| "no CPU".to_owned()),
        ..StepReport::default()
    };
    let steps = levels.iter().map(step).collect();
    let search = Some(SearchReport { steps, ..SearchReport::default() });
    let phase = PhaseReport { name: "search".to_owned(), search, ..PhaseReport::default() };
    RouteReport { phases: vec![phase], ..RouteReport::default() }
}

#[test]
fn a_search_with_a_distortion_explains_that_distorted_steps_do_not_count() {
    let distortion = || Distortion { kind: "cpu".to_owned(), message: "no CPU left".to_owned() };
    let find = |route: RouteReport, distortions: &[Distortion]| {
        let run = Circumstances { distortions, ..Circumstances::default() };
        text(&super::super::find(&[route], run), Code::DistortedSteps)
    };
    assert_eq!(find(searched(&[1.0, 2.0], &[]), &[]), None);
    let found = find(searched(&[1.0, 2.0, 4.0], &[2.0]), &[]).unwrap();
    assert!(found.starts_with("llmload distorted 1 of 3 steps of the search"), "{found}");
    let found = find(searched(&[1.0, 2.0], &[]), &[distortion()]).unwrap();
    assert!(found.ends_with("in no step of the search that counts: no CPU left"), "{found}");
    // Beside other load, the distortion makes the run invalid, and another finding names it.
    let mut both = searched(&[1.0], &[1.0]);
    both.phases.push(at(1.0, 1.0, 0.1, 0.1, 1.0));
    assert_eq!(find(both, &[distortion()]), None);
}
