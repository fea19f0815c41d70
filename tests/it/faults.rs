//! Tests of the failure classes. A scripted TCP server causes every kind of failure of an endpoint.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use llmload::endpoint::{HttpEndpoint, Request};
use llmload::exchange::{RequestSpec, exchange};
use llmload::ledger::Ledger;
use llmload::measurement::{Anomaly, Failure, FailureCause};
use llmload::plan::{Auth, Connection, Location, RequestParameters, Target, Timeouts};
use llmload::protocol::{Dialect, Terminal, Trace};
use url::Url;

use crate::upstream::{
    Act, DONE, FINISH, Recorder, USAGE, Upstream, arrival_now, chunk, good, head, last_chunk,
    plain, self_signed, stream_head, token,
};

pub fn target(url: &str) -> Target {
    Target {
        name: "t".into(),
        location: Location::Url(Url::parse(url).unwrap()),
        model: Some("m".into()),
        auth: Auth::None,
        headers: Vec::new(),
        query: Vec::new(),
        body_secrets: Vec::new(),
        dialect: Dialect::default(),
        connection: Connection::default(),
        traceparent: true,
        terminal: Terminal::FinishReason,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_millis(400),
            idle: Duration::from_millis(200),
            total: Duration::from_millis(900),
            ..Timeouts::default()
        },
        rate_limits: None,
        prices: None,
        metrics_pages: Vec::new(),
    }
}

pub fn endpoint(target: &Target) -> HttpEndpoint {
    let Location::Url(url) = &target.location else { unreachable!() };
    HttpEndpoint::new(target, url).unwrap()
}

/// Sends one request. Returns the result, the message of the failure, and the reported events.
async fn send(
    endpoint: &HttpEndpoint,
    target: &Target,
    stream: bool,
) -> (Result<(), Failure>, String, Recorder) {
    send_recorded(endpoint, target, stream, Recorder::default()).await
}

/// Returns a small request to a target.
pub fn request_spec(target: &Target, stream: bool) -> RequestSpec {
    let parameters = RequestParameters {
        max_tokens: NonZeroU32::new(8).unwrap(),
        temperature: None,
        system: None,
        stream,
        extra: BTreeMap::new(),
    };
    RequestSpec {
        request: Request {
            path: target.dialect.path(),
            body: target.dialect.encode("m", &parameters, &"hi".into()).into(),
            stream,
            trace: target.traceparent.then(|| Trace::new(1, 2, 3)),
            session: None,
        },
        model: "m".into(),
        api: target.dialect.api,
        terminal: target.terminal,
        expects_usage: target.dialect.include_usage,
        expected_vectors: 0,
        timeouts: target.timeouts,
        keeps_answer: false,
    }
}

pub async fn send_recorded(
    endpoint: &HttpEndpoint,
    target: &Target,
    stream: bool,
    recorder: Recorder,
) -> (Result<(), Failure>, String, Recorder) {
    send_spec(endpoint, request_spec(target, stream), recorder).await
}

/// Sends one request. Returns the result, the message of the failure, and the reported events.
pub async fn send_spec(
    endpoint: &HttpEndpoint,
    request_spec: RequestSpec,
    recorder: Recorder,
) -> (Result<(), Failure>, String, Recorder) {
    let ledger = Ledger::new();
    let (started, ()) = ledger.record_arrival(|_| Ok(())).unwrap();
    let finished = exchange(endpoint, arrival_now(), || Ok(request_spec), &recorder).await;
    let outcome = finished.outcome.map(|_| ());
    started.finish(outcome);
    finished.drain_body().await;
    let counts = ledger.counts();
    assert_eq!(counts.first_broken_equation(), None);
    assert_eq!((counts.finished, counts.in_flight), (1, 0));
    let ends = recorder.failed.lock().unwrap().len() + recorder.succeeded.lock().unwrap().len();
    assert_eq!(ends, 1, "exactly one end is reported");
    let message =
        recorder.failed.lock().unwrap().first().map(|d| d.message.clone()).unwrap_or_default();
    (outcome, message, recorder)
}

async fn outcome_of(script: Vec<Act>) -> (Result<(), Failure>, String, Recorder) {
    let upstream = Upstream::start(move |_| script.clone()).await;
    let target = target(&upstream.url());
    send(&endpoint(&target), &target, true).await
}

fn failure(outcome: &(Result<(), Failure>, String, Recorder)) -> Failure {
    outcome.0.expect_err("a failure")
}

#[tokio::test]
async fn a_good_response_is_a_success_with_all_its_instants() {
    let (outcome, _, recorder) = outcome_of(good()).await;
    assert_eq!(outcome, Ok(()));
    let succeeded = recorder.succeeded.lock().unwrap();
    let m = &succeeded[0];
    assert_eq!(m.usage.output, Some(2));
    assert!(
        m.sent <= m.first_token.unwrap()
            && m.first_token <= m.last_token
            && m.last_token.unwrap() <= m.end
    );
    // The server sends all tokens without a pause.
    let anomalies: Vec<_> = m.anomalies.iter().filter(|kind| *kind != Anomaly::Coalesced).collect();
    assert_eq!(anomalies, []);
}

#[tokio::test]
async fn each_status_has_its_class_and_keeps_the_message_of_the_endpoint() {
    let quota = r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let unknown =
        r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#;
    for (status, body, class, message) in [
        ("401 Unauthorized", "{\"error\":\"bad key\"}", Failure::Auth, "bad key"),
        ("403 Forbidden", "", Failure::Auth, "403"),
        ("402 Payment Required", "", Failure::Quota, "402"),
        ("429 Too Many Requests", "slow down", Failure::RateLimited, "slow down"),
        ("429 Too Many Requests", quota, Failure::Quota, "quota"),
        ("503 Service Unavailable", "", Failure::Overloaded, "503"),
        ("529 Overloaded", "", Failure::Overloaded, "529"),
        ("404 Not Found", unknown, Failure::Http4xx, "does not exist"),
        ("500 Internal Server Error", "oops", Failure::Http5xx, "oops"),
        ("204 No Content", "", Failure::HttpUnexpected, "204"),
        ("307 Temporary Redirect", "", Failure::HttpUnexpected, "307"),
        ("201 Created", "", Failure::HttpUnexpected, "201"),
    ] {
        let body = if status.starts_with("204") {
            vec![head(status, &[])]
        } else {
            plain(status, "application/json", body)
        };
        let outcome = outcome_of(body).await;
        assert_eq!(failure(&outcome), class, "{status}");
        assert!(outcome.1.contains(message), "{status}: {}", outcome.1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start(|_| good()).await;
    let location = format!("location: {}/chat/completions", elsewhere.url());
    let outcome =
        outcome_of(vec![head("307 Temporary Redirect", &[&location, "content-length: 0"])]).await;
    assert_eq!(failure(&outcome), Failure::HttpUnexpected);
    assert_eq!(elsewhere.requests.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_response_with_status_200_but_no_stream_is_a_failure() {
    let completion = r#"{"object":"chat.completion","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let outcome = outcome_of(plain("200 OK", "application/json", completion)).await;
    assert_eq!(failure(&outcome), Failure::NotSse);
    let outcome = outcome_of(plain("200 OK", "text/html", "<html>Log in</html>")).await;
    assert_eq!(failure(&outcome), Failure::NotSse);
    let wrapped = r#"{"error":{"message":"m","code":429}}"#;
    let outcome = outcome_of(plain("200 OK", "application/json", wrapped)).await;
    assert_eq!(failure(&outcome), Failure::StreamError);
}

/// Some servers send an event stream with a wrong `content-type` or without one.
#[tokio::test]
async fn an_event_stream_with_another_content_type_is_read_and_has_an_anomaly() {
    let kinds =
        [None, Some("text/plain"), Some("application/json"), Some("text/html; charset=utf-8")];
    for kind in kinds {
        let kind = kind.map(|kind| format!("content-type: {kind}"));
        let lines = [kind.as_deref(), Some("transfer-encoding: chunked")];
        let lines: Vec<_> = lines.into_iter().flatten().collect();
        // The start of the body arrives in several reads.
        let start = [head("200 OK", &lines), chunk("\n"), chunk("da"), chunk(&token("a")[2..])];
        let end = [chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()];
        let outcome = outcome_of([&start[..], &end[..]].concat()).await;
        assert_eq!(outcome.0, Ok(()), "{kind:?}: {}", outcome.1);
        let m = outcome.2.succeeded.lock().unwrap()[0].clone();
        assert!(m.anomalies.contains(Anomaly::UnexpectedContentType), "{kind:?}");
        assert!(m.first_token.is_some() && m.usage.output == Some(2), "{kind:?}");
        let silent = outcome_of(vec![head("200 OK", &lines), Act::Silence]).await;
        assert_eq!(failure(&silent), Failure::TimeoutFirstToken, "{kind:?}");
    }
}

/// llmload sends `accept-encoding: identity` and decodes nothing, because a small encoded body can
/// decode to a huge one.
#[tokio::test]
async fn an_encoding_that_was_not_requested_is_not_decoded() {
    let gzip: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let encoded = |status: &str, kind: &str, lines: &[&str]| {
        let (length, kind) =
            (format!("content-length: {}", gzip.len()), format!("content-type: {kind}"));
        let lines = [lines, &[length.as_str(), kind.as_str()]].concat();
        vec![head(status, &lines), Act::Write(gzip.to_vec())]
    };
    for lines in [
        &["content-encoding: gzip"][..],
        &["content-encoding: identity, br"],
        &["content-encoding: identity", "content-encoding: zstd"],
        &["content-encoding: \u{fc}"],
        &["transfer-encoding: gzip, chunked"],
    ] {
        for kind in ["text/event-stream", "application/json"] {
            let outcome = outcome_of(encoded("200 OK", kind, lines)).await;
            assert_eq!(failure(&outcome), Failure::HttpProtocol, "{lines:?}: {}", outcome.1);
            assert!(outcome.1.contains("not requested"), "{}", outcome.1);
            let detail = &outcome.2.failed.lock().unwrap()[0];
            assert_eq!(detail.cause, Some(FailureCause::Encoded), "{lines:?}");
        }
    }
    // A response with an error status keeps the class of this status, even if its body is encoded.
    let outcome =
        outcome_of(encoded("429 Too Many Requests", "text/html", &["content-encoding: gzip"]))
            .await;
    assert_eq!((failure(&outcome), outcome.1.as_str()), (Failure::RateLimited, "HTTP 429"));
    let mut plain = good();
    plain[0] = head(
        "200 OK",
        &[
            "content-type: text/event-stream",
            "transfer-encoding: chunked",
            "content-encoding: Identity",
        ],
    );
    assert_eq!(outcome_of(plain).await.0, Ok(()));
}

#[tokio::test]
async fn each_broken_or_incomplete_stream_has_its_class() {
    let a = || chunk(&token("a"));
    let error = "data: {\"error\":{\"message\":\"engine died\"}}\n\n";
    for (name, acts, class, tokens) in [
        ("reset before the head", vec![Act::Reset], Failure::Reset, 0),
        ("closed before the head", vec![Act::Close], Failure::Reset, 0),
        (
            "half a head",
            vec![Act::Write(b"HTTP/1.1 200 OK\r\nconte".to_vec()), Act::Close],
            Failure::Reset,
            0,
        ),
        ("silence in the stream", vec![stream_head(), a(), Act::Silence], Failure::TimeoutIdle, 1),
        ("cut in the stream", vec![stream_head(), a(), Act::Close], Failure::Truncated, 1),
        (
            "a clean end of the body without a finish reason",
            vec![stream_head(), a(), last_chunk()],
            Failure::Incomplete,
            1,
        ),
        (
            "[DONE] without a finish reason",
            vec![stream_head(), a(), chunk(DONE), last_chunk()],
            Failure::Incomplete,
            1,
        ),
        (
            "no text",
            vec![stream_head(), chunk(FINISH), chunk(DONE), last_chunk()],
            Failure::EmptyOutput,
            0,
        ),
        ("empty body", vec![stream_head(), last_chunk()], Failure::Incomplete, 0),
        (
            "error in the stream",
            vec![stream_head(), a(), chunk(error), last_chunk()],
            Failure::StreamError,
            1,
        ),
        (
            "broken JSON",
            vec![stream_head(), chunk("data: {\"choices\": [\n\n"), last_chunk()],
            Failure::BadFrame,
            0,
        ),
        (
            "bad UTF-8",
            vec![stream_head(), Act::Write(b"9\r\ndata: \xff\n\n\r\n".to_vec()), last_chunk()],
            Failure::BadFrame,
            0,
        ),
        (
            "bad chunk size",
            vec![stream_head(), Act::Write(b"zz\r\nxx\r\n".to_vec())],
            Failure::HttpProtocol,
            0,
        ),
        (
            "not HTTP",
            vec![Act::Write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())],
            Failure::HttpProtocol,
            0,
        ),
        ("silence", vec![Act::Silence], Failure::TimeoutFirstToken, 0),
        ("a head and silence", vec![stream_head(), Act::Silence], Failure::TimeoutFirstToken, 0),
    ] {
        let outcome = outcome_of(acts).await;
        assert_eq!(failure(&outcome), class, "{name}: {}", outcome.1);
        let first = outcome.2.first_tokens.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(first, tokens, "{name}: the first token is recorded when it arrives");
    }
}

/// The server waits with the reset until llmload has recorded the token. Otherwise the reset could
/// arrive before the token is read.
#[tokio::test]
async fn a_reset_in_the_stream_is_a_truncated_response() {
    let recorder = Recorder::default();
    let seen = recorder.first_token.clone();
    let upstream = Upstream::start(move |_| {
        vec![stream_head(), chunk(&token("a")), Act::WaitFor(seen.clone()), Act::Reset]
    })
    .await;
    let target = target(&upstream.url());
    let outcome = send_recorded(&endpoint(&target), &target, true, recorder).await;
    assert_eq!(failure(&outcome), Failure::Truncated, "{}", outcome.1);
    assert!(outcome.1.to_lowercase().contains("reset"), "{}", outcome.1);
    assert_eq!(outcome.2.first_tokens.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// After the last event of the model, a proxy can close the connection or keep it open without
/// sending anything.
#[tokio::test]
async fn a_connection_that_breaks_after_the_finish_reason_does_not_fail_the_request() {
    for (name, rest) in [
        ("reset", vec![Act::Reset]),
        ("closed", vec![Act::Close]),
        ("silent", vec![Act::Silence]),
        ("not HTTP", vec![Act::Write(b"zz\r\nxx\r\n".to_vec())]),
    ] {
        let acts =
            [vec![stream_head(), chunk(&token("a")), chunk(FINISH), chunk(USAGE)], rest].concat();
        let upstream = Upstream::start(move |_| acts.clone()).await;
        let mut target = target(&upstream.url());
        target.timeouts = Timeouts::default();
        let (outcome, message, recorder) = send(&endpoint(&target), &target, true).await;
        assert_eq!(outcome, Ok(()), "{name}: {message}");
        let succeeded = recorder.succeeded.lock().unwrap();
        assert!(succeeded[0].anomalies.contains(Anomaly::MissingDone), "{name}");
        assert!(!succeeded[0].anomalies.contains(Anomaly::MissingUsage), "{name}");
        assert_eq!(succeeded[0].usage.output, Some(2), "{name}");
    }
}

#[tokio::test]
async fn comments_are_not_tokens_and_endless_tokens_end_at_the_total_timeout() {
    let comment = b"5\r\n: hi\n\r\n".to_vec();
    let gap = Duration::from_millis(20);
    let outcome = outcome_of(vec![stream_head(), Act::Trickle(comment, gap)]).await;
    assert_eq!(failure(&outcome), Failure::TimeoutFirstToken);
    let Act::Write(more) = chunk(&token("a")) else { unreachable!() };
    let outcome = outcome_of(vec![stream_head(), Act::Trickle(more, gap)]).await;
    assert_eq!(failure(&outcome), Failure::TimeoutTotal);
}

#[tokio::test]
async fn an_endless_line_is_too_large() {
    let junk = vec![b'x'; 64 * 1024];
    let Act::Write(piece) = chunk(std::str::from_utf8(&junk).unwrap()) else { unreachable!() };
    let upstream = Upstream::start(move |_| {
        vec![stream_head(), chunk("data: "), Act::Trickle(piece.clone(), Duration::ZERO)]
    })
    .await;
    let mut target = target(&upstream.url());
    target.timeouts = Timeouts::default();
    let outcome = send(&endpoint(&target), &target, true).await;
    assert_eq!(failure(&outcome), Failure::TooLarge);
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_host_have_their_classes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let refused = target(&url);
    assert_eq!(failure(&send(&endpoint(&refused), &refused, true).await), Failure::ConnectRefused);
    let mut nowhere = target("http://no-such-host.invalid:1/v1");
    // Some resolvers take long to report an unknown host.
    nowhere.timeouts = Timeouts::default();
    assert_eq!(failure(&send(&endpoint(&nowhere), &nowhere, true).await), Failure::Dns);
}

#[tokio::test]
async fn tls_to_a_plain_port_is_a_tls_failure() {
    let upstream = Upstream::start(|_| vec![Act::Close]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    drop(upstream);
    let target = target(&format!("https://{address}/v1"));
    assert_eq!(failure(&send(&endpoint(&target), &target, true).await), Failure::Tls);
}

/// The handshake fails because no trusted authority signed the certificate. `openssl req -x509`
/// created the certificate and its key. They are valid for localhost, for a hundred years. The key
/// is used only in this test.
#[tokio::test]
async fn an_untrusted_certificate_is_a_tls_failure() {
    let server = self_signed();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(&format!("https://{}/v1", listener.local_addr().unwrap()));
    let refused = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(server).unwrap();
        connection.complete_io(&mut stream).map(drop).unwrap_err().to_string()
    });
    let outcome = send(&endpoint(&target), &target, true).await;
    assert_eq!(failure(&outcome), Failure::Tls, "{}", outcome.1);
    assert!(outcome.1.contains("certificate"), "{}", outcome.1);
    let refused = refused.join().unwrap();
    assert!(
        refused.contains("UnknownCA"),
        "the certificate is the reason, and no request is sent: {refused}"
    );
}

/// The accept queue of the listener is full, so the kernel lets the next connection wait.
#[tokio::test]
async fn a_connection_that_is_never_accepted_times_out() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(300), connect).await {
            Ok(connection) => waiting.push(connection.unwrap()),
            Err(_) => break,
        }
        assert!(waiting.len() < 100, "the accept queue is bounded");
    }
    let mut target = target(&format!("http://{address}/v1"));
    target.timeouts = Timeouts { connect: Duration::from_millis(200), ..Timeouts::default() };
    let outcome = send(&endpoint(&target), &target, true).await;
    assert_eq!(failure(&outcome), Failure::ConnectTimeout, "{}", outcome.1);
    // The time to connect is a part of the time to the first token. So the first-token timeout can
    // end before the connect timeout.
    target.timeouts = Timeouts { first_token: Duration::from_millis(200), ..Timeouts::default() };
    let outcome = send(&endpoint(&target), &target, true).await;
    assert_eq!(failure(&outcome), Failure::TimeoutFirstToken, "{}", outcome.1);
}

#[tokio::test]
async fn without_streaming_only_duration_and_tokens_are_measured() {
    let completion = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
    let upstream = Upstream::start(move |_| plain("200 OK", "application/json", completion)).await;
    let target = target(&upstream.url());
    let (outcome, _, recorder) = send(&endpoint(&target), &target, false).await;
    assert_eq!(outcome, Ok(()));
    let succeeded = recorder.succeeded.lock().unwrap();
    assert_eq!(succeeded[0].first_token, None);
    assert_eq!(succeeded[0].usage.output, Some(1));
    assert_eq!(recorder.first_tokens.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn requests_without_streaming_have_the_same_failure_classes() {
    let completion = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let json = |status, body| plain(status, "application/json", body);
    let cut = |act| {
        [head("200 OK", &["content-length: 100"]), Act::Write(completion.into()), act].to_vec()
    };
    for (name, acts, class, message) in [
        ("key", json("401 Unauthorized", r#"{"error":"bad key"}"#), Failure::Auth, "bad key"),
        ("rate", json("429 Too Many Requests", "slow down"), Failure::RateLimited, "slow down"),
        ("model", json("404 Not Found", r#"{"detail":"no model"}"#), Failure::Http4xx, "no model"),
        ("server", json("500 Internal Server Error", "oops"), Failure::Http5xx, "oops"),
        ("busy", json("503 Service Unavailable", ""), Failure::Overloaded, "503"),
        ("empty", vec![head("204 No Content", &[])], Failure::HttpUnexpected, "204"),
        (
            "error in a 200",
            json("200 OK", r#"{"error":{"message":"died"}}"#),
            Failure::StreamError,
            "died",
        ),
        ("not JSON", json("200 OK", "<html>"), Failure::BadFrame, ""),
        ("half of it", json("200 OK", &completion[..40]), Failure::Incomplete, ""),
        ("cut", cut(Act::Close), Failure::Truncated, ""),
        ("no head", vec![Act::Silence], Failure::TimeoutTotal, "900ms"),
        ("no end", cut(Act::Silence), Failure::TimeoutTotal, "900ms"),
    ] {
        let upstream = Upstream::start(move |_| acts.clone()).await;
        let target = target(&upstream.url());
        let outcome = send(&endpoint(&target), &target, false).await;
        assert_eq!(failure(&outcome), class, "{name}: {}", outcome.1);
        assert!(outcome.1.contains(message), "{name}: {}", outcome.1);
        assert_eq!(outcome.2.first_tokens.load(std::sync::atomic::Ordering::Relaxed), 0, "{name}");
    }
}
