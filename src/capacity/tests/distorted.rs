//! Tests of searches with distorted steps.

use super::*;

#[test]
fn a_distorted_step_is_repeated_twice_and_does_not_count() {
    let mut search = Search::new(spec(rates("1/s", "2/s"), 0.05, ttft(0.99, 500)));
    let distorted = || StepResult { distortion: Some("no CPU left".into()), ..result(2000) };
    let Decision::Step(first) = search.next() else { panic!("a step must follow") };
    assert_eq!(search.record(first, distorted()).verdict, None);
    let Decision::Step(repeated) = search.next() else { panic!("a step must follow") };
    assert_eq!((repeated.level, repeated.reason), (first.level, Reason::Distorted));
    search.record(repeated, result(0));
    let Decision::Step(next) = search.next() else { panic!("a step must follow") };
    assert_eq!(next.level, rate("2/s"));
    search.record(next, distorted());
    for _ in 0..2 {
        let Decision::Step(again) = search.next() else { panic!("a step must follow") };
        assert_eq!((again.level, again.reason), (next.level, Reason::Distorted));
        search.record(again, distorted());
    }
    assert_eq!(search.next(), Decision::End(Ending::Distorted));
    let outcome = search.outcome(Ending::Distorted);
    assert_eq!(outcome.met.map(|step| step.plan.level), Some(first.level));
}

#[test]
fn a_step_that_a_limit_of_llmload_distorted_ends_the_search_and_the_sentence_names_the_limit() {
    let mut search = Search::new(spec(rates("1/s", "2/s"), 0.05, ttft(0.99, 500)));
    let Decision::Step(first) = search.next() else { panic!("a step must follow") };
    search.record(first, result(0));
    let Decision::Step(second) = search.next() else { panic!("a step must follow") };
    let distortion = Some("a budget was used up; raise it".into());
    search.record(second, StepResult { distortion, limit: Some(Limit::Budget), ..result(0) });
    assert_eq!(search.next(), Decision::End(Ending::Limited));
    let text = search.outcome(Ending::Limited).sentence(search.spec());
    assert!(
        text.contains("the last step does not count (a budget was used up; raise it)"),
        "{text}"
    );
    assert!(!text.contains("llmload distorted"), "{text}");
}
