//! One exchange on a paused clock: which timeout speaks, and when an answer is complete.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use llmload::endpoint::Request;
use llmload::exchange::{RequestSpec, exchange};
use llmload::measurement::{Anomaly, Failure};
use llmload::plan::Timeouts;
use llmload::protocol::{Terminal, chat};
use tokio::time::Instant;

use crate::upstream::{
    Beat, DONE, FINISH, InMemory, Recorder, Shared, USAGE, arrival_now, says, token,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// None of them shorter than what the answers here take.
fn timeouts() -> Timeouts {
    Timeouts {
        first_token: millis(2_000),
        idle: millis(3_000),
        total: millis(20_000),
        ..Timeouts::default()
    }
}

/// One streaming request; what became of it.
async fn ask(
    endpoint: Arc<InMemory>,
    terminal: Terminal,
    timeouts: Timeouts,
) -> (Result<(), Failure>, Recorder) {
    let recorder = Recorder::default();
    let order = RequestSpec {
        request: Request { path: chat::PATH, body: Bytes::new(), stream: true, trace: None },
        model: "m".into(),
        terminal,
        usage_asked: true,
        timeouts,
    };
    let outcome = exchange(&Shared(endpoint), arrival_now(), || Ok(order), &recorder)
        .await
        .outcome
        .map(|_| ());
    let told = recorder.failed.lock().unwrap().len() + recorder.succeeded.lock().unwrap().len();
    assert_eq!(told, 1, "told exactly once");
    (outcome, recorder)
}

#[tokio::test(start_paused = true)]
async fn of_two_timeouts_that_end_together_the_one_that_says_more_is_told() {
    let mute = || InMemory::playing(millis(0), vec![Beat::Mute]);
    let silent = || {
        InMemory::playing(
            millis(0),
            vec![Beat::Waits(millis(500)), says(&[&token("a")]), Beat::Mute],
        )
    };
    let limits = |first_token, idle| Timeouts {
        first_token: millis(first_token),
        idle: millis(idle),
        total: millis(2_000),
        ..Timeouts::default()
    };
    for (endpoint, timeouts, class) in [
        (mute(), limits(2_000, 1_000), Failure::TimeoutFirstToken),
        (mute(), limits(2_001, 1_000), Failure::TimeoutTotal),
        (silent(), limits(1_000, 1_500), Failure::TimeoutIdle),
        (silent(), limits(1_000, 1_501), Failure::TimeoutTotal),
    ] {
        let (outcome, recorder) = ask(endpoint, Terminal::FinishReason, timeouts).await;
        assert_eq!(outcome, Err(class));
        assert_eq!(recorder.failed_after.lock().unwrap()[0].as_millis(), 2_000);
    }
}

/// An answer of which one token came after 100 ms and the finish reason after 200.
fn finished_then(rest: Vec<Beat>) -> Arc<InMemory> {
    let mut body = vec![
        Beat::Waits(millis(100)),
        says(&[&token("a")]),
        Beat::Waits(millis(100)),
        says(&[FINISH]),
    ];
    body.extend(rest);
    InMemory::playing(millis(0), body)
}

/// `[DONE]` and a clean end are manners: their absence disproves nothing.
#[tokio::test(start_paused = true)]
async fn what_befalls_a_complete_answer_does_not_make_it_a_failure() {
    let comment = || says(&[": still here\n\n"]);
    let comments: Vec<_> = (0..100).flat_map(|_| [Beat::Waits(millis(300)), comment()]).collect();
    let late_usage = |then| vec![Beat::Waits(millis(900)), says(&[USAGE]), then];
    for (name, rest, end, took, usage) in [
        ("broken", vec![Beat::Breaks], 200, 200, false),
        ("broken later", vec![Beat::Waits(millis(700)), Beat::Breaks], 200, 900, false),
        ("silent", vec![Beat::Mute], 200, 1_200, false),
        ("only comments", comments, 200, 1_200, false),
        ("half an event", vec![says(&["data: {\"usage\""]), Beat::Mute], 200, 1_200, false),
        ("usage, then broken", late_usage(Beat::Breaks), 1_100, 1_100, true),
        ("usage, then silent", late_usage(Beat::Mute), 1_100, 2_100, true),
        ("a clean end, late", vec![Beat::Waits(millis(900))], 200, 1_100, false),
    ] {
        let began = Instant::now();
        // Idle is shorter than what may follow the end: it is about the middle of an answer.
        let timeouts = Timeouts { idle: millis(300), ..timeouts() };
        let (outcome, recorder) = ask(finished_then(rest), Terminal::FinishReason, timeouts).await;
        assert_eq!(outcome, Ok(()), "{name}");
        let m = &recorder.succeeded.lock().unwrap()[0];
        assert_eq!(m.duration().as_millis(), end, "{name}");
        assert_eq!(began.elapsed().as_millis(), took, "{name}");
        assert!(m.anomalies.contains(Anomaly::MissingDone), "{name}");
        assert_eq!(m.anomalies.contains(Anomaly::MissingUsage), !usage, "{name}");
    }
    let hurried = Timeouts { total: millis(600), ..timeouts() };
    let endpoint = finished_then(vec![Beat::Mute]);
    assert_eq!(ask(endpoint, Terminal::FinishReason, hurried).await.0, Ok(()), "no time for more");
    // Reasoning that is only counted: no token ever came, and none is waited for.
    let hidden = vec![says(&[FINISH, USAGE]), Beat::Mute];
    let (outcome, _) =
        ask(InMemory::playing(millis(0), hidden), Terminal::FinishReason, timeouts()).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_befalls_an_incomplete_answer_does() {
    use Failure::{Filtered, StreamError, TimeoutIdle, Truncated};
    let reason = |name: &str| says(&[&FINISH.replace("stop", name)]);
    let every = || says(&[&token("a").replace("null", "\"stop\"")]);
    let gap = || Beat::Waits(millis(900));
    let start = || says(&[&token("a")]);
    for (name, body, terminal, class) in [
        ("broken", vec![start(), Beat::Breaks], Terminal::FinishReason, Truncated),
        ("silent", vec![start(), Beat::Mute], Terminal::FinishReason, TimeoutIdle),
        (
            "a reason proves nothing",
            vec![start(), says(&[FINISH]), Beat::Breaks],
            Terminal::Done,
            Truncated,
        ),
        ("nor here", vec![start(), says(&[FINISH]), Beat::Breaks], Terminal::Eof, Truncated),
        (
            "a reason in every event",
            vec![every(), gap(), every(), Beat::Breaks],
            Terminal::FinishReason,
            Truncated,
        ),
        (
            "and silence",
            vec![every(), gap(), every(), Beat::Mute],
            Terminal::FinishReason,
            TimeoutIdle,
        ),
        (
            "a bad reason",
            vec![start(), reason("error"), Beat::Mute],
            Terminal::FinishReason,
            StreamError,
        ),
        (
            "a rule",
            vec![start(), reason("content_filter"), Beat::Breaks],
            Terminal::FinishReason,
            Filtered,
        ),
    ] {
        let (outcome, _) = ask(InMemory::playing(millis(0), body), terminal, timeouts()).await;
        assert_eq!(outcome, Err(class), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_names_no_end_ends_with_its_body() {
    let body = vec![says(&[&token("a")]), Beat::Waits(millis(700))];
    let (outcome, recorder) =
        ask(InMemory::playing(millis(0), body), Terminal::Eof, timeouts()).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(recorder.succeeded.lock().unwrap()[0].duration(), millis(700));
    let body = vec![says(&[&token("a")]), Beat::Waits(millis(700)), says(&[DONE]), Beat::Mute];
    let (outcome, recorder) =
        ask(InMemory::playing(millis(0), body), Terminal::Done, timeouts()).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(recorder.succeeded.lock().unwrap()[0].duration(), millis(700));
}
