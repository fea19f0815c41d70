//! Tests of the cost of a search: the limit of its steps for proofs, and the expected time.

use super::*;

type NewServer = fn(u64) -> Server;

/// Searches with steps of different lengths on different servers.
fn cases() -> [(Arc<SearchSpec>, NewServer); 4] {
    let even: NewServer = |seed| Server::new(seed, 16, Service::Uniform(1.8, 2.2), Load::Even);
    let random: NewServer = |seed| Server::new(seed, 16, Service::Exponential(1.0), Load::Random);
    let closed: NewServer = |seed| Server::new(seed, 16, Service::Uniform(1.0, 3.0), Load::Even);
    let steps = |seconds, resolution, objective| {
        let step = Duration::from_secs(seconds);
        spec_with_steps(step, rates("1/s", "100/s"), resolution, objective)
    };
    [
        (steps(60, 0.02, ttft(0.99, 500)), even),
        (steps(24, 0.03, ttft(0.95, 250)), random),
        (steps(24, 0.02, ttft(0.99, 500)), even),
        (spec(concurrencies(1, 256), 0.02, ttft(0.9, 1000)), closed),
    ]
}

/// The factor of the documentation.
#[test]
fn a_search_takes_at_most_six_steps_for_proofs_and_fifty_times_as_long_as_a_step() {
    let mut limited = 0;
    for (spec, server) in cases() {
        for seed in 0..SEEDS {
            let (outcome, search) = search(&spec, &mut server(seed));
            let steps = search.steps().iter();
            let proofs = steps.filter(|step| step.plan.reason.is_proof()).count();
            assert!(proofs <= 6, "seed {seed}: {proofs}");
            assert!(search.elapsed <= spec.step * 50, "seed {seed}: {:?}", search.elapsed);
            let sentence = outcome.sentence(&spec);
            let is_explained = sentence.contains(", after the limit of 6 steps for proofs.");
            assert_eq!(is_explained, outcome.is_out_of_proofs, "seed {seed}: {sentence}");
            limited += usize::from(outcome.is_out_of_proofs);
        }
    }
    assert!(limited >= 10, "{limited}");
}

/// A prediction is right if the search takes as long as the range, or a step more or less.
#[test]
fn the_expected_time_of_a_search_is_right_and_falls() {
    for (spec, server) in cases() {
        let (mut predictions, mut wrong, mut rises, mut report) = (0, 0, 0, String::new());
        for seed in 0..SEEDS {
            let (mut search, mut server) = (Search::new(Arc::clone(&spec)), server(seed));
            let mut expected = Vec::new();
            while let Decision::Step(plan) = search.next() {
                let range = search.expected_time(Duration::ZERO);
                let later = search.expected_time(Duration::from_secs(1));
                assert_eq!(later.1, range.1.saturating_sub(Duration::from_secs(1)));
                expected.push((search.elapsed, range));
                let result = server.run(&plan, &spec.slo.objectives);
                search.record(plan, result);
            }
            for (elapsed, (least, most)) in &expected {
                let rest = search.elapsed.saturating_sub(*elapsed);
                predictions += 1;
                wrong += usize::from(rest + spec.step < *least || rest > *most + spec.step);
                let _written = write!(report, "{rest:.0?}: {least:.0?} to {most:.0?}; ");
            }
            let rise = |pair: &&[(Duration, (Duration, Duration))]| pair[1].1.1 > pair[0].1.1;
            rises += expected.windows(2).filter(rise).count();
            report.push('\n');
        }
        assert!(wrong * 10 <= predictions, "{wrong} of {predictions} are wrong\n{report}");
        assert!(rises * 5 <= predictions, "{rises} of {predictions} rise\n{report}");
    }
}
