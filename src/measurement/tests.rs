//! Tests of the derived values, the anomalies and the printable messages.

use super::*;

fn measurement(output: u64, reasoning: u64, reasoning_shown: bool) -> Measurement {
    let sent = Instant::now();
    let at = |millis| sent + Duration::from_millis(millis);
    Measurement {
        due: sent,
        sent,
        first_token: Some(at(100)),
        first_answer_token: None,
        last_token: Some(at(400)),
        end: at(500),
        usage: Usage { output: Some(output), reasoning: Some(reasoning), ..Usage::default() },
        token_events: 1,
        reasoning_shown,
        anomalies: Anomalies::default(),
    }
}

#[test]
fn a_set_of_anomalies_contains_the_added_anomalies() {
    let mut set = Anomalies::default();
    set.add_if(Anomaly::ModelMismatch, true);
    set.add_if(Anomaly::MissingUsage, true);
    set.add_if(Anomaly::MissingDone, false);
    assert_eq!(set.iter().collect::<Vec<_>>(), [Anomaly::MissingUsage, Anomaly::ModelMismatch]);
}

#[test]
fn tpot_and_tps_follow_from_the_intervals_between_tokens() {
    let m = measurement(31, 0, false);
    assert_eq!(m.time_per_output_token(), Some(Duration::from_millis(10)));
    assert_eq!(m.tokens_per_second(), Some(100.0));
    assert_eq!(measurement(1, 0, false).time_per_output_token(), None);
    assert_eq!(measurement(0, 0, false).tokens_per_second(), None);
}

#[test]
fn hidden_reasoning_does_not_count_in_tpot_and_tps() {
    assert_eq!(measurement(331, 300, false).tokens_per_second(), Some(100.0));
    assert_eq!(measurement(331, 300, true).tokens_per_second(), Some(1100.0));
    assert_eq!(measurement(300, 300, false).tokens_per_second(), None);
}

#[test]
fn tokens_that_arrived_at_once_have_no_speed() {
    let within = |output, micros| {
        let mut m = measurement(output, 0, false);
        m.last_token = m.first_token.map(|first| first + Duration::from_micros(micros));
        (m.time_per_output_token(), m.tokens_per_second(), m.is_coalesced())
    };
    for (output, micros) in [(31, 0), (2, 38), (31, 999), (10_001, 99_999), (1_000_001, 1_500)] {
        assert_eq!(within(output, micros), (None, None, true), "{output} in {micros} µs");
    }
    let slowest = Duration::from_millis(1);
    assert_eq!(within(2, 1_000), (Some(slowest), Some(1_000.0), false));
    assert_eq!(within(10_001, 100_000), (Some(slowest / 100), Some(100_000.0), false));
    // Nothing is wrong with a response of one token.
    assert_eq!(within(1, 0), (None, None, false));
}

#[test]
fn a_response_without_token_counts_can_be_coalesced_too() {
    let mut m = measurement(0, 0, false);
    m.usage.output = None;
    m.last_token = m.first_token;
    assert!(!m.is_coalesced(), "one event");
    m.token_events = 2;
    assert!(m.is_coalesced());
    m.last_token = Some(m.end);
    assert!(!m.is_coalesced(), "two reads");
    (m.first_token, m.last_token) = (None, None);
    assert!(!m.is_coalesced(), "without streaming");
}

#[test]
fn an_unknown_count_is_not_zero() {
    let counts = |input, output| Usage { input, output, ..Usage::default() };
    let mut sum = Usage::default();
    sum.add(counts(Some(3), None));
    assert_eq!(sum, counts(Some(3), None));
    sum.add(counts(Some(4), Some(0)));
    assert_eq!(sum, counts(Some(7), Some(0)));
    sum.add(Usage::default());
    assert_eq!(sum, counts(Some(7), Some(0)));
    assert_eq!(counts(None, Some(5)).or(counts(Some(1), Some(2))), counts(Some(1), Some(5)));
}

#[test]
fn a_message_cannot_forge_a_log_line_and_is_bounded() {
    let long = format!("a\nb\u{1b}[31m{}", "é".repeat(500));
    let detail = FailureDetail::new(Failure::StreamError, &long);
    assert!(detail.message.len() <= FailureDetail::MESSAGE_LIMIT);
    assert!(!detail.message.contains(char::is_control));
    assert!(detail.message.ends_with('…'));
    assert_eq!(FailureDetail::new(Failure::Auth, " no key ").message, "no key");
}
