//! Tests of the findings: data that must give a finding, and data that must not.

use super::*;
use crate::report::server::ObservedQuantity;

fn quantity(quantity: Quantity, phases: &[(&str, f64, f64)]) -> ObservedQuantity {
    let phases = phases.iter().map(|(phase, mean, max)| ObservedPhase {
        phase: (*phase).to_owned(),
        pages: ENOUGH_PAGES,
        mean: *mean,
        max: *max,
    });
    ObservedQuantity {
        quantity: quantity.as_str().to_owned(),
        unit: quantity.unit().to_owned(),
        phases: phases.collect(),
        timeline_mean: Vec::new(),
        timeline_max: Vec::new(),
    }
}

fn page(quantities: Vec<ObservedQuantity>) -> ObservedReport {
    ObservedReport {
        source: "vllm".to_owned(),
        program: "vLLM".to_owned(),
        page: "http://host/metrics".to_owned(),
        reads: 10,
        failed_reads: 0,
        last_failed_read: None,
        quantities,
    }
}

/// Returns the findings about a page with these values of one quantity.
fn found(kind: Quantity, phases: &[(&str, f64, f64)]) -> Vec<String> {
    let page = page(vec![quantity(kind, phases)]);
    of_page(&page, &[]).into_iter().map(|(_, phase, text)| format!("{phase}: {text}")).collect()
}

#[test]
fn a_queue_a_full_cache_and_preemptions_are_found_in_their_worst_phase() {
    assert_eq!(
        found(Quantity::RequestsWaiting, &[("low", 0.4, 3.0), ("high", 12.0, 31.0)]),
        [
            "high: on average, 12 requests waited in the queue of vLLM (at most 31); a wait adds to TTFT"
        ]
    );
    assert_eq!(
        found(Quantity::KvCacheUse, &[("low", 0.4, 0.6), ("high", 0.91, 0.994)]),
        ["high: the KV cache of vLLM was full: 99 % in use at most, 91 % on average"]
    );
    let preempted = found(Quantity::Preemptions, &[("low", 0.0, 0.0), ("high", 0.5, 4.0)]);
    assert!(
        preempted[0].starts_with("high: vLLM preempted 0.5 requests per second"),
        "{preempted:?}"
    );
    let hits = found(Quantity::PrefixCacheHitRate, &[("p", 0.8, 1.0)]);
    assert!(hits[0].starts_with("p: vLLM found 80 % of the prompt tokens"), "{hits:?}");
}

#[test]
fn values_just_below_the_thresholds_give_no_finding() {
    for (kind, mean, max) in [
        // A short queue at the start of a phase is normal.
        (Quantity::RequestsWaiting, 0.99, 90.0),
        (Quantity::KvCacheUse, 0.94, 0.949),
        (Quantity::Preemptions, 0.0, 0.0),
        (Quantity::PrefixCacheHitRate, 0.49, 1.0),
        (Quantity::GpuUse, 1.0, 1.0),
    ] {
        assert_eq!(found(kind, &[("p", mean, max)]), [""; 0], "{kind:?}");
    }
}

#[test]
fn a_few_pages_give_no_finding() {
    let mut few = page(vec![quantity(Quantity::KvCacheUse, &[("p", 1.0, 1.0)])]);
    assert_eq!(of_page(&few, &[]).len(), 1);
    few.quantities[0].phases[0].pages = ENOUGH_PAGES - 1;
    assert_eq!(of_page(&few, &[]), []);
}

#[test]
fn the_requests_at_the_server_are_compared_with_those_of_llmload() {
    let compare = |running: f64, waiting: f64, in_flight: f64| {
        let page = page(vec![
            quantity(Quantity::RequestsRunning, &[("p", running, running)]),
            quantity(Quantity::RequestsWaiting, &[("p", waiting, waiting)]),
        ]);
        super::in_flight(&page, &[("p", in_flight)]).map(|(_, _, text)| text)
    };
    assert_eq!(
        compare(30.0, 10.0, 20.0).unwrap(),
        "vLLM had 40 requests on average, and llmload had 20 in flight, so other clients used the \
         server too"
    );
    assert!(compare(8.0, 0.0, 20.0).unwrap().contains("the others waited before the server"));
    assert_eq!(compare(28.0, 0.0, 20.0), None);
    assert_eq!(compare(11.0, 0.0, 20.0), None);
    assert_eq!(compare(9.0, 0.0, 3.0), None, "small numbers differ by chance");
}
