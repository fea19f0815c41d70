//! Tests of single requests on a paused clock: timeouts, and the end of a response.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use llmload::endpoint::{Endpoint, Request, Response, SendStep};
use llmload::event::{Arrival, Event, Observe};
use llmload::exchange::{RequestSpec, exchange};
use llmload::measurement::{Anomaly, Failure, FailureCause, FailureDetail, LookupFault};
use llmload::plan::Timeouts;
use llmload::protocol::{Api, Terminal};
use tokio::time::Instant;

use crate::upstream::{
    BodyStep, DONE, FINISH, InMemory, InMemoryEndpoint, InMemoryResponse, Recorder, USAGE,
    arrival_now, data, token,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Only a silent response exceeds these timeouts.
fn timeouts() -> Timeouts {
    Timeouts {
        first_token: millis(2_000),
        idle: millis(3_000),
        total: millis(20_000),
        ..Timeouts::default()
    }
}

fn request_spec(terminal: Terminal, timeouts: Timeouts) -> RequestSpec {
    RequestSpec {
        request: Request {
            path: Api::Chat.path(),
            body: Bytes::new(),
            stream: true,
            trace: None,
            session: None,
        },
        model: "m".into(),
        api: Api::Chat,
        terminal,
        expects_usage: true,
        expected_vectors: 0,
        timeouts,
        keeps_answer: false,
    }
}

/// Sends a streaming request. Returns the result and the events.
async fn send(
    endpoint: Arc<InMemory>,
    terminal: Terminal,
    timeouts: Timeouts,
) -> (Result<(), Failure>, Recorder) {
    let recorder = Recorder::default();
    let request_spec = request_spec(terminal, timeouts);
    let outcome =
        exchange(&InMemoryEndpoint(endpoint), arrival_now(), || Ok(request_spec), &recorder)
            .await
            .outcome
            .map(|_| ());
    let ends = recorder.failed.lock().unwrap().len() + recorder.succeeded.lock().unwrap().len();
    assert_eq!(ends, 1, "exactly one end is reported");
    (outcome, recorder)
}

#[tokio::test(start_paused = true)]
async fn if_two_timeouts_end_together_the_more_specific_one_is_reported() {
    let mute = || InMemory::with_body(millis(0), vec![BodyStep::Silence]);
    let silent = || {
        InMemory::with_body(
            millis(0),
            vec![BodyStep::Pause(millis(500)), data(&[&token("a")]), BodyStep::Silence],
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
        let (outcome, recorder) = send(endpoint, Terminal::FinishReason, timeouts).await;
        assert_eq!(outcome, Err(class));
        assert_eq!(recorder.failed_after.lock().unwrap()[0].as_millis(), 2_000);
    }
}

/// Sends a token after 100 ms, the finish reason after 200 ms, and then `rest`.
fn finished_then(rest: Vec<BodyStep>) -> Arc<InMemory> {
    let mut body = vec![
        BodyStep::Pause(millis(100)),
        data(&[&token("a")]),
        BodyStep::Pause(millis(100)),
        data(&[FINISH]),
    ];
    body.extend(rest);
    InMemory::with_body(millis(0), body)
}

#[tokio::test(start_paused = true)]
async fn a_response_with_a_finish_reason_is_a_success_even_if_the_connection_then_breaks() {
    let comment = || data(&[": still here\n\n"]);
    let comments: Vec<_> =
        (0..100).flat_map(|_| [BodyStep::Pause(millis(300)), comment()]).collect();
    let late_usage = |then| vec![BodyStep::Pause(millis(900)), data(&[USAGE]), then];
    for (name, rest, end, took, usage) in [
        ("broken", vec![BodyStep::Break], 200, 200, false),
        ("broken later", vec![BodyStep::Pause(millis(700)), BodyStep::Break], 200, 900, false),
        ("silent", vec![BodyStep::Silence], 200, 1_200, false),
        ("only comments", comments, 200, 1_200, false),
        ("half an event", vec![data(&["data: {\"usage\""]), BodyStep::Silence], 200, 1_200, false),
        ("usage, then broken", late_usage(BodyStep::Break), 1_100, 1_100, true),
        ("usage, then silent", late_usage(BodyStep::Silence), 1_100, 2_100, true),
        ("a clean end, late", vec![BodyStep::Pause(millis(900))], 200, 1_100, false),
    ] {
        let began = Instant::now();
        // The idle timeout is shorter than the wait for usage, but does not apply after the finish
        // reason.
        let timeouts = Timeouts { idle: millis(300), ..timeouts() };
        let (outcome, recorder) = send(finished_then(rest), Terminal::FinishReason, timeouts).await;
        assert_eq!(outcome, Ok(()), "{name}");
        let m = &recorder.succeeded.lock().unwrap()[0];
        assert_eq!(m.duration().as_millis(), end, "{name}");
        assert_eq!(began.elapsed().as_millis(), took, "{name}");
        assert!(m.anomalies.contains(Anomaly::MissingDone), "{name}");
        assert_eq!(m.anomalies.contains(Anomaly::MissingUsage), !usage, "{name}");
    }
    let short = Timeouts { total: millis(600), ..timeouts() };
    let endpoint = finished_then(vec![BodyStep::Silence]);
    assert_eq!(
        send(endpoint, Terminal::FinishReason, short).await.0,
        Ok(()),
        "the total timeout ends the wait for usage"
    );
    // A response with hidden reasoning can have no token at all. After the finish reason, the
    // request must not wait for one.
    let hidden = vec![data(&[FINISH, USAGE]), BodyStep::Silence];
    let (outcome, _) =
        send(InMemory::with_body(millis(0), hidden), Terminal::FinishReason, timeouts()).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn ttfo_is_the_time_to_the_first_text_after_reasoning() {
    let reasoning = token("hm").replace("content", "reasoning_content");
    let body = |first: &str| {
        vec![
            data(&[first]),
            BodyStep::Pause(millis(300)),
            data(&[first]),
            BodyStep::Pause(millis(400)),
            data(&[&token("4"), &token("2")]),
            BodyStep::Pause(millis(50)),
            data(&[&token("!"), FINISH, USAGE, DONE]),
        ]
    };
    for (first, expected) in [(reasoning, Some(800)), (token("a"), None)] {
        let endpoint = InMemory::with_body(millis(100), body(&first));
        let (outcome, recorder) = send(endpoint, Terminal::FinishReason, timeouts()).await;
        assert_eq!(outcome, Ok(()));
        let m = &recorder.succeeded.lock().unwrap()[0];
        assert_eq!(m.time_to_first_token(), Some(millis(100)));
        let ttfo = m.time_to_first_answer_token().map(|time| time.as_millis());
        assert_eq!(ttfo, expected);
        let observed = recorder.first_answers.lock().unwrap().clone();
        assert_eq!(observed, Vec::from_iter(m.time_to_first_answer_token()));
    }
}

#[tokio::test(start_paused = true)]
async fn ttfo_is_observed_even_if_the_request_fails_later() {
    let reasoning = token("hm").replace("content", "reasoning_content");
    for (answer, expected) in [(token("4"), vec![millis(300)]), (reasoning.clone(), vec![])] {
        let body = vec![
            data(&[&reasoning]),
            BodyStep::Pause(millis(200)),
            data(&[&answer]),
            BodyStep::Silence,
        ];
        let endpoint = InMemory::with_body(millis(100), body);
        let (outcome, recorder) = send(endpoint, Terminal::FinishReason, timeouts()).await;
        assert_eq!(outcome, Err(Failure::TimeoutIdle));
        assert_eq!(*recorder.first_answers.lock().unwrap(), expected);
    }
}

/// Some gateways send usage long after the finish reason, and some servers send more text.
#[tokio::test(start_paused = true)]
async fn after_end_limits_the_wait_for_usage_and_text_after_the_finish_reason() {
    let late = |events: &[&str]| vec![BodyStep::Pause(millis(3_500)), data(events)];
    let more = token("b");
    let cases = [
        ("usage too late", 1_000, late(&[USAGE, DONE]), (200, 1_200, 1), None),
        ("usage in time", 4_000, late(&[USAGE, DONE]), (3_700, 3_700, 1), Some(2)),
        ("text too late", 1_000, late(&[&more, FINISH, USAGE, DONE]), (200, 1_200, 1), None),
        ("text in time", 4_000, late(&[&more, FINISH, USAGE, DONE]), (3_700, 3_700, 2), Some(2)),
    ];
    for (name, after_end, rest, (end, took, chunks), output) in cases {
        let began = Instant::now();
        let timeouts = Timeouts { after_end: millis(after_end), ..timeouts() };
        let (outcome, recorder) = send(finished_then(rest), Terminal::FinishReason, timeouts).await;
        assert_eq!(outcome, Ok(()), "{name}");
        let m = &recorder.succeeded.lock().unwrap()[0];
        let waited = (m.duration().as_millis(), began.elapsed().as_millis());
        assert_eq!(waited, (end, took), "{name}");
        assert_eq!(recorder.chunks.load(Ordering::Relaxed), chunks, "{name}");
        assert_eq!(m.usage.output, output, "{name}");
        assert_eq!(m.anomalies.contains(Anomaly::MissingUsage), output.is_none(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_response_that_breaks_or_falls_silent_is_a_failure() {
    use Failure::{Filtered, StreamError, TimeoutIdle, Truncated};
    let reason = |name: &str| data(&[&FINISH.replace("stop", name)]);
    let every = || data(&[&token("a").replace("null", "\"stop\"")]);
    let gap = || BodyStep::Pause(millis(900));
    let start = || data(&[&token("a")]);
    for (name, body, terminal, class) in [
        ("broken", vec![start(), BodyStep::Break], Terminal::FinishReason, Truncated),
        ("silent", vec![start(), BodyStep::Silence], Terminal::FinishReason, TimeoutIdle),
        (
            "a finish reason, but the target ends with [DONE]",
            vec![start(), data(&[FINISH]), BodyStep::Break],
            Terminal::Done,
            Truncated,
        ),
        (
            "a finish reason, but the target ends with the body",
            vec![start(), data(&[FINISH]), BodyStep::Break],
            Terminal::Eof,
            Truncated,
        ),
        (
            "a finish reason in every event, broken",
            vec![every(), gap(), every(), BodyStep::Break],
            Terminal::FinishReason,
            Truncated,
        ),
        (
            "a finish reason in every event, silent",
            vec![every(), gap(), every(), BodyStep::Silence],
            Terminal::FinishReason,
            TimeoutIdle,
        ),
        (
            "an error as finish reason",
            vec![start(), reason("error"), BodyStep::Silence],
            Terminal::FinishReason,
            StreamError,
        ),
        (
            "a content filter",
            vec![start(), reason("content_filter"), BodyStep::Break],
            Terminal::FinishReason,
            Filtered,
        ),
    ] {
        let (outcome, _) = send(InMemory::with_body(millis(0), body), terminal, timeouts()).await;
        assert_eq!(outcome, Err(class), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_finish_reason_ends_with_its_body_or_its_end_marker() {
    let body = vec![data(&[&token("a")]), BodyStep::Pause(millis(700))];
    let (outcome, recorder) =
        send(InMemory::with_body(millis(0), body), Terminal::Eof, timeouts()).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(recorder.succeeded.lock().unwrap()[0].duration(), millis(700));
    let body =
        vec![data(&[&token("a")]), BodyStep::Pause(millis(700)), data(&[DONE]), BodyStep::Silence];
    let (outcome, recorder) =
        send(InMemory::with_body(millis(0), body), Terminal::Done, timeouts()).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(recorder.succeeded.lock().unwrap()[0].duration(), millis(700));
}

/// An endpoint whose first attempts to connect fail.
struct SlowToConnect {
    /// The duration of each failed attempt.
    attempts: Mutex<Vec<Duration>>,
    failure: FailureDetail,
    endpoint: InMemoryEndpoint,
}

impl Endpoint for SlowToConnect {
    type Response = InMemoryResponse;

    async fn send(
        &self,
        request: Request,
        report: impl FnMut(SendStep) + Send,
    ) -> Result<InMemoryResponse, FailureDetail> {
        let attempt = self.attempts.lock().unwrap().pop();
        let Some(time) = attempt else { return self.endpoint.send(request, report).await };
        tokio::time::sleep(time).await;
        Err(self.failure.clone())
    }
}

/// While llmload is stopped, neither the target nor the resolver can respond. So this time does not
/// count.
#[tokio::test(start_paused = true)]
async fn a_connect_timeout_that_expired_while_llmload_was_stopped_is_repeated() {
    let connect = Duration::from_secs(5);
    let lookup = |fault| {
        FailureDetail::new(Failure::Dns, "on purpose").with_cause(FailureCause::Lookup(fault))
    };
    let timeout = FailureDetail::new(Failure::ConnectTimeout, "on purpose");
    for (stopped, failure, is_repeated) in [
        (true, timeout.clone(), true),
        (false, timeout, false),
        (true, lookup(LookupFault::NoAnswer), true),
        (false, lookup(LookupFault::NoAnswer), false),
        (true, lookup(LookupFault::UnknownName), false),
    ] {
        let outcome = if is_repeated { Ok(()) } else { Err(failure.failure) };
        let (recorder, first) = (Recorder::default(), InMemory::responding_after(millis(10)));
        let endpoint = SlowToConnect {
            attempts: Mutex::new(vec![connect]),
            failure: failure.clone(),
            endpoint: InMemoryEndpoint(Arc::clone(&first)),
        };
        let timeouts = Timeouts { connect, first_token: connect * 4, ..Timeouts::default() };
        let spec = request_spec(Terminal::FinishReason, timeouts);
        let request = exchange(&endpoint, arrival_now(), || Ok(spec), &recorder);
        let stop = async {
            if stopped {
                tokio::time::sleep(millis(100)).await;
                tokio::time::advance(connect).await;
            }
        };
        let (finished, ()) = tokio::join!(request, stop);
        assert_eq!(finished.outcome.map(|_| ()), outcome, "stopped: {stopped}, {failure:?}");
        assert_eq!(first.sent.lock().unwrap().len(), usize::from(is_repeated));
    }
}

/// An endpoint with an HTTP/2 stream that becomes free after `stream_after`, or never for `None`.
/// Without HTTP/2, the request waits for the connecting of other requests.
struct Queueing {
    is_http2: bool,
    stream_after: Option<Duration>,
    endpoint: InMemoryEndpoint,
}

impl Endpoint for Queueing {
    type Response = InMemoryResponse;

    async fn send(
        &self,
        request: Request,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<InMemoryResponse, FailureDetail> {
        if self.is_http2 {
            report(SendStep::Queued);
        }
        let Some(waited) = self.stream_after else { return std::future::pending().await };
        tokio::time::sleep(waited).await;
        report(SendStep::Begun { waited });
        self.endpoint.send(request, |_| {}).await
    }
}

/// The wait for a stream does not shorten the time of the server. If no request reaches the server,
/// llmload is at fault.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_server_begins_when_the_request_has_a_stream() {
    let timeouts = Timeouts { first_token: millis(1000), ..Timeouts::default() };
    for (stream_after, response_after, expected) in [
        (Some(millis(900)), millis(900), Ok(())),
        (Some(millis(900)), millis(1100), Err(Failure::TimeoutFirstToken)),
        (None, millis(0), Err(Failure::ClientResource)),
    ] {
        let recorder = Recorder::default();
        let endpoint = InMemoryEndpoint(InMemory::responding_after(response_after));
        let endpoint = Queueing { is_http2: true, stream_after, endpoint };
        let spec = request_spec(Terminal::FinishReason, timeouts);
        let finished = exchange(&endpoint, arrival_now(), || Ok(spec), &recorder).await;
        assert_eq!(finished.outcome.map(|_| ()), expected, "{stream_after:?} {response_after:?}");
        assert_eq!(finished.was_sent, stream_after.is_some());
    }
    let endpoint = InMemoryEndpoint(InMemory::responding_after(millis(1)));
    let error = || Err(FailureDetail::new(Failure::Internal, "no request"));
    let finished = exchange(&endpoint, arrival_now(), error, &Recorder::default()).await;
    assert!(!finished.was_sent && !finished.request_outcome().was_sent);
}

/// Collects the lag of each sending, and its part that is a wait for a stream.
#[derive(Default)]
struct Lags(Mutex<Vec<(Duration, Duration)>>);

impl Observe for Lags {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        if let Event::Sent { lag, waited } = event {
            self.0.lock().unwrap().push((lag, waited));
        }
    }
}

/// The message of a distortion names HTTP/2 streams only if requests waited for them.
#[tokio::test(start_paused = true)]
async fn a_wait_to_connect_is_dispatch_lag_but_no_wait_for_a_stream() {
    for (is_http2, for_stream) in [(true, millis(200)), (false, millis(0))] {
        let lags = Lags::default();
        let endpoint = InMemoryEndpoint(InMemory::responding_after(millis(1)));
        let endpoint = Queueing { is_http2, stream_after: Some(millis(200)), endpoint };
        let spec = request_spec(Terminal::FinishReason, timeouts());
        exchange(&endpoint, arrival_now(), || Ok(spec), &lags).await.outcome.unwrap();
        assert_eq!(*lags.0.lock().unwrap(), [(millis(200), for_stream)]);
    }
}

/// A response whose bytes another task sends. For a real response, such a task reads the socket.
struct Relayed(tokio::sync::mpsc::Receiver<Bytes>);

impl Response for Relayed {
    fn status(&self) -> u16 {
        200
    }

    fn content_type(&self) -> Option<&str> {
        Some("text/event-stream")
    }

    fn content_encoding(&self) -> Option<&str> {
        None
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        Ok(self.0.recv().await)
    }
}

/// Sends the first token at once, and the other bytes `pause` later.
struct Relay {
    pause: Duration,
}

impl Endpoint for Relay {
    type Response = Relayed;

    async fn send(
        &self,
        _: Request,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<Relayed, FailureDetail> {
        report(SendStep::Begun { waited: Duration::ZERO });
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let pause = self.pause;
        tokio::spawn(async move {
            let _gone = sender.send(token("a").into()).await;
            tokio::time::sleep(pause).await;
            // The runtime also needs several turns to pass bytes from a socket to a request.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let _gone = sender.send([FINISH, USAGE, DONE].concat().into()).await;
        });
        Ok(Relayed(receiver))
    }
}

/// After a stop that is longer than a timeout, llmload first reads the bytes that have arrived. If
/// there are none, the request fails, but the time of the stop does not count.
#[tokio::test(start_paused = true)]
async fn a_timeout_does_not_count_the_time_in_which_llmload_was_stopped() {
    let idle = Failure::TimeoutIdle;
    for (pause, stop_at, outcome, duration) in [
        // The last bytes arrive during the stop.
        (1_000, 500, Ok(()), 10_500),
        (1_990, 1_980, Ok(()), 11_980),
        // The last bytes arrive after the stop, before the moved deadline.
        (11_800, 500, Ok(()), 11_800),
        // Without a stop, the deadline is 2 s after the first token. llmload can underestimate a
        // stop by a tenth of the timeout.
        (20_000, 500, Err(idle), 11_900),
        (20_000, 590, Err(idle), 11_990),
    ] {
        let recorder = Recorder::default();
        let timeouts = Timeouts { idle: millis(2_000), ..Timeouts::default() };
        let spec = request_spec(Terminal::FinishReason, timeouts);
        let begin = Instant::now();
        let endpoint = Relay { pause: millis(pause) };
        let request = exchange(&endpoint, arrival_now(), || Ok(spec), &recorder);
        let stop = async {
            tokio::time::sleep(millis(stop_at)).await;
            tokio::time::advance(millis(10_000)).await;
        };
        let (finished, ()) = tokio::join!(request, stop);
        assert_eq!(finished.outcome.map(|_| ()), outcome, "{pause} {stop_at}");
        assert_eq!(begin.elapsed().as_millis(), duration, "{pause} {stop_at}");
        if outcome.is_err() {
            let failed = recorder.failed.lock().unwrap();
            assert!(failed[0].message.contains("in which llmload did not run"), "{failed:?}");
        }
    }
}
