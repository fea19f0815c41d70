//! For each typical mistake of a beginner, `llmload probe` and the status page name the problem and
//! its remedy, and show no key.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmload::check::text::TextStyle;
use llmload::config;
use llmload::endpoint::ConnectTiming;
use llmload::measurement::{Failure, FailureDetail};
use llmload::plan::Target;
use llmload::probe::text::ReportText;
use llmload::probe::{OfferedApis, ProbeReport, ProbedRequest, request};
use llmload::protocol::{Api, RequestParameters};
use llmload::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::binary::Daemon;
use crate::upstream::{
    Act, BodyStep, DONE, FINISH, InMemory, InMemoryEndpoint, USAGE, Upstream, chunk, data, good,
    last_chunk, plain, self_signed, stream_head, token,
};

const KEY: &str = "sk-canary-0123456789";
const LIST: &str = r#"{"object":"list","data":[{"id":"m"}]}"#;
const PAGE: &str =
    "<!doctype html><html><title>Chat</title><body>Please enable JavaScript</body></html>";

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.env("PROBE_KEY", KEY).env_remove("NO_COLOR");
    command
}

/// Returns the exit code, stdout and stderr.
async fn probe(args: &[&str]) -> (Option<i32>, String, String) {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let run = move || {
        let folder = tempfile::tempdir().unwrap();
        let output = command().arg("probe").args(args).current_dir(folder.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Joins the lines of a text, because line breaks depend on the length of the address.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Starts a server with one model. `chat` is the script for chat requests, and any other path gets
/// status 404.
async fn serving(chat: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Upstream {
    Upstream::start_with_head(move |_, head| match head.split(' ').nth(1).unwrap_or_default() {
        "/v1/models" => plain("200 OK", "application/json", LIST),
        "/v1/chat/completions" => chat(head),
        _ => plain("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#),
    })
    .await
}

async fn always(status: &'static str, kind: &'static str, body: &'static str) -> Upstream {
    Upstream::start(move |_| plain(status, kind, body)).await
}

/// Opens a port with a self-signed certificate until the test process ends.
fn tls_port() -> SocketAddr {
    let server = self_signed();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            let _refused = connection.complete_io(&mut stream.unwrap());
        }
    });
    address
}

/// Opens a port that resets each connection at its first bytes, until the test process ends.
fn resetting_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The kernel sends RST, because the received bytes are never read.
            let _bytes = stream.unwrap().peek(&mut [0]);
        }
    });
    address
}

/// A mistake of a user, and the text that the probe and the status page must both show.
struct Mistake {
    name: &'static str,
    url: String,
    /// The keys of the target in a file.
    keys: &'static str,
    /// The options after the URL on a command line.
    options: &'static [&'static str],
    class: &'static str,
    remedy: String,
}

#[allow(clippy::too_many_lines)]
async fn mistakes() -> (Vec<Mistake>, Vec<Upstream>, Simulator) {
    let fine = serving(|_| good()).await;
    let wrong_model = serving(|_| {
        let body = r#"{"object":"error","message":"The model `x` does not exist.","code":404}"#;
        plain("404 Not Found", "application/json", body)
    })
    .await;
    // This server accepts only the right key, like vLLM with --api-key.
    let locked = Upstream::start_with_head(|_, head| {
        let quoted = if head.contains(KEY) {
            format!("Incorrect API key provided: {KEY}")
        } else {
            "Unauthorized".into()
        };
        plain("401 Unauthorized", "application/json", &format!(r#"{{"error":"{quoted}"}}"#))
    })
    .await;
    let forbidden = always("403 Forbidden", "application/json", r#"{"error":"no"}"#).await;
    let page = always("200 OK", "text/html", PAGE).await;
    let unstreamed = serving(|_| {
        let body = r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
        plain("200 OK", "application/json", body)
    })
    .await;
    let loading =
        always("503 Service Unavailable", "application/json", r#"{"error":"Loading model"}"#).await;
    let limited =
        serving(|_| plain("429 Too Many Requests", "application/json", r#"{"error":"slow down"}"#))
            .await;
    let spent = serving(|_| {
        let body = r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota"}}"#;
        plain("429 Too Many Requests", "application/json", body)
    })
    .await;
    let redirecting = always("308 Permanent Redirect", "text/plain", "").await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unused = closed.local_addr().unwrap();
    drop(closed);
    let tls = tls_port();
    let simulator = Simulator::start(
        SimulatorOptions::default(),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    )
    .unwrap();
    let http = simulator.address();

    let mistake = |name, url: String, keys, options, class, remedy: &str| Mistake {
        name,
        url,
        keys,
        options,
        class,
        remedy: remedy.to_owned(),
    };
    let root = format!("http://{}", fine.address);
    let key = (", api_key_env: PROBE_KEY", &["--api-key-env", "PROBE_KEY"][..]);
    let named = (", model: m", &["--model", "m"][..]);
    let all = vec![
        mistake("no_v1", root.clone(), "", &[], "", &format!("use {root}/v1")),
        mistake("wrong_version", format!("{root}/v2"), "", &[], "", &format!("{root}/v1")),
        mistake("beyond", format!("{root}/v1/models"), "", &[], "", &format!("{root}/v1")),
        mistake("wrong_path", format!("{root}/api/v1"), "", &[], "", &format!("{root}/v1")),
        mistake(
            "wrong_port",
            format!("http://{unused}/v1"),
            "",
            &[],
            "connect_refused",
            &format!("start the server, or correct the port: nothing listens at {unused}"),
        ),
        mistake(
            "tls_to_plain",
            format!("https://{http}/v1"),
            "",
            &[],
            "tls",
            &format!("use http://{http}/v1"),
        ),
        mistake(
            "plain_to_tls",
            format!("http://{tls}/v1"),
            "",
            &[],
            "",
            &format!("use https://{tls}/v1"),
        ),
        mistake("certificate", format!("https://{tls}/v1"), "", &[], "tls", "SSL_CERT_FILE"),
        mistake(
            "reset_in_handshake",
            format!("https://{}/v1", resetting_port()),
            "",
            &[],
            "tls",
            "check the server's log for the reason why it reset the connection in the TLS handshake",
        ),
        mistake(
            "wrong_model",
            wrong_model.url(),
            ", model: x",
            &["--model", "x"],
            "",
            "set `model`",
        ),
        mistake(
            "no_key",
            locked.url(),
            "",
            &[],
            "401",
            "set `api_key_env` (or `--api-key-env`) to the name of the variable that holds the key",
        ),
        mistake(
            "wrong_key",
            locked.url(),
            key.0,
            key.1,
            "401",
            "check that the variable PROBE_KEY holds a valid key",
        ),
        mistake(
            "forbidden",
            forbidden.url(),
            key.0,
            key.1,
            "403",
            "check that the variable PROBE_KEY holds a valid key",
        ),
        mistake(
            "no_host",
            "http://no-such-host.invalid:8000/v1".into(),
            "",
            &[],
            "dns",
            "check the spelling of `no-such-host.invalid`",
        ),
        mistake(
            "web_page",
            format!("http://{}", page.address),
            "",
            &[],
            "",
            &format!("use http://{}/v1", page.address),
        ),
        mistake("web_page_named", page.url(), named.0, named.1, "not_sse", "check the address"),
        mistake("no_stream", unstreamed.url(), "", &[], "not_sse", "`request: {stream: false}`"),
        mistake(
            "loading",
            loading.url(),
            "",
            &[],
            "503",
            "wait until the server has loaded its model",
        ),
        mistake("rate_limited", limited.url(), "", &[], "rate_limited", "lower the load"),
        mistake("no_quota", spent.url(), "", &[], "quota", "top up the account"),
        mistake(
            "redirect",
            redirecting.url(),
            named.0,
            named.1,
            "",
            "use the address that the redirect points to",
        ),
    ];
    let upstreams = vec![
        fine,
        wrong_model,
        locked,
        forbidden,
        page,
        unstreamed,
        loading,
        limited,
        spent,
        redirecting,
    ];
    (all, upstreams, simulator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_of_a_beginner_is_named_with_its_remedy() {
    let (mistakes, _upstreams, _simulator) = mistakes().await;
    for Mistake { name, url, options, class, remedy, .. } in &mistakes {
        let (code, out, err) = probe(&[&[url.as_str()], *options].concat()).await;
        assert_eq!((code, err.as_str()), (Some(1), ""), "{name}\n{out}");
        let flat = flat(&out);
        let (problem, shown) =
            flat.split_once("error: ").and_then(|(_, rest)| rest.split_once("remedy: ")).unwrap();
        assert!(flat.contains(class) && !problem.is_empty(), "{name}: {class}\n{out}");
        assert!(shown.contains(remedy), "{name}: {remedy}\n{out}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{name}\n{out}");
        assert!(!out.contains(KEY) && !out.contains('\u{1b}'), "{name}\n{out}");
        let (code, out, _) = probe(&[&[url.as_str(), "--json"], *options].concat()).await;
        let seen: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &seen["well"]), (Some(1), &json!(false)), "{name}\n{out}");
        let first = &seen["troubles"][0];
        assert_eq!(first["grade"], "error", "{name}\n{out}");
        assert!(!out.contains(KEY), "{name}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_page_names_the_same_remedies() {
    let (mistakes, _upstreams, _simulator) = mistakes().await;
    let (mut targets, mut scenarios) = ("targets:\n".to_owned(), "scenarios:\n".to_owned());
    for Mistake { name, url, keys, .. } in &mistakes {
        writeln!(targets, "  {name}: {{base_url: '{url}'{keys}}}").unwrap();
        writeln!(scenarios, "  {name}: {{target: {name}, rate: 5/s}}").unwrap();
    }
    let run = move || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("llmload.yml"), targets + &scenarios).unwrap();
        let mut daemon = Daemon::of(command(), &[], folder);
        for Mistake { name, remedy, .. } in &mistakes {
            daemon.wait_for("/api/v1/status", |text| {
                assert!(!text.contains(KEY), "{text}");
                let status: Value = serde_json::from_str(text).unwrap();
                let scenarios = status["scenarios"].as_array().unwrap();
                let scenario = scenarios.iter().find(|s| s["scenario"] == *name).unwrap();
                let waiting_for = scenario["waiting_for"].as_str().unwrap_or_default();
                let mut failures = scenario["failures"].as_array().unwrap().iter();
                let has_remedy = |f: &Value| f["remedy"].as_str().unwrap().contains(remedy);
                (waiting_for.split_once("; ").is_some_and(|(_, shown)| shown.contains(remedy))
                    || failures.any(has_remedy))
                .then_some(())
            });
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_a_list_of_models_is_no_problem_if_the_model_is_given() {
    let upstream = Upstream::start_with_head(|_, head| {
        if head.contains("/v1/chat/completions") {
            good()
        } else {
            plain("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#)
        }
    })
    .await;
    let (code, out, _) = probe(&[&upstream.url(), "--model", "m"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(!out.contains("remedy:") || !out.contains("path"), "{out}");
    assert!(!out.contains("there is no /models"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_target_is_refused_before_any_request() {
    for (args, message) in [
        (
            vec!["http://h/v1/chat/completions"],
            "URL: llmload adds `/chat/completions` to the URL itself; write `http://h/v1`",
        ),
        (
            vec!["localhost:8000/v1"],
            "a URL that starts with http:// or https://; write http://localhost:8000/v1",
        ),
        (vec!["api.example.com/v1"], "; write https://api.example.com/v1"),
        (vec!["prode"], "a URL that starts with http:// or https://; see"),
        (vec![], "pass a URL, as in llmload probe http://localhost:8000/v1"),
        (
            vec!["http://h/v1", "--api-key-env", "NOT_SET"],
            "--api-key-env: the variable `NOT_SET` is not set",
        ),
        (
            vec!["http://h/v1", "--api-key-env", KEY],
            "write the name of the variable, never its value",
        ),
        (vec!["http://h/v1", "--target", "t"], "cannot be used with"),
    ] {
        let (code, out, err) = probe(&args).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(message) && !err.contains(KEY), "{args:?}: {err}");
    }
}

/// The remedy for an untrusted certificate works: with it, the TLS handshake succeeds, and only the
/// next step fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_trusted_if_its_authority_is_configured() {
    let url = format!("https://{}/v1", tls_port());
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/self-signed.crt.pem");
    let run =
        move || command().args(["probe", &url]).env("SSL_CERT_FILE", authority).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("error: /models: reset"), "the handshake succeeded: {out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_a_file_is_probed_with_its_key_and_headers() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let upstream = serving(move |head| {
        seen.lock().unwrap().push(head.to_ascii_lowercase());
        good()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yml");
    let yaml = format!(
        "targets: {{a: {{base_url: '{}', api_key_env: PROBE_KEY, headers: {{x-team: staging}}}}, b: {{simulator: {{}}}}}}\n\
         scenarios: {{s: {{target: a, rate: 1/s}}, t: {{target: b, rate: 1/s}}}}\n",
        upstream.url()
    );
    std::fs::write(&file, yaml).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, _) = probe(&["--config.file", file, "--target", "a"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("from the variable PROBE_KEY, as bearer token") && !out.contains(KEY),
        "{out}"
    );
    {
        let heads = heads.lock().unwrap();
        assert_eq!(heads.len(), 3, "two requests, and one with an empty object");
        for head in heads.iter() {
            assert!(head.contains("x-team: staging") && head.contains(KEY), "{head}");
        }
    }
    let (code, _, err) = probe(&["--config.file", file]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("choose one with --target: `a`, `b`"), "{err}");
    let (code, _, err) = probe(&["--config.file", file, "--target", "c"]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("a target `c`; choose one of `a`, `b`"), "{err}");

    let (code, out, err) = probe(&["--config.file", file, "--target", "b", "--json"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let seen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&seen["well"], &seen["troubles"]), (&json!(true), &json!([])), "{out}");
    assert_eq!(seen["models"], json!([SimulatorOptions::default().model]));
    assert!(seen["version"].as_str().unwrap().contains("simulator"), "{out}");
    for request in seen["requests"].as_array().unwrap() {
        assert_eq!(
            (&request["status"], &request["first_text"]),
            (&json!(200), &json!("content")),
            "{out}"
        );
        let usage = &request["outcome"]["usage"];
        assert_eq!(
            (&usage["output_tokens"], &request["chunks"]),
            (&json!(32), &json!(32)),
            "{out}"
        );
    }
    let connects = |request: usize| seen["requests"][request]["connect_seconds"].is_number();
    assert!(connects(0) && !connects(1), "the second request reuses the connection: {out}");
    assert_eq!(seen["requests"].as_array().unwrap().len(), 2);
}

fn target() -> Arc<Target> {
    let text = "target: {base_url: 'http://h:8000/v1', model: m}\nrate: 1/s\n";
    Arc::clone(&config::parse(text, "test", None, &|_| None).unwrap().scenarios[0].target)
}

/// The test includes recorded streams of real servers.
#[tokio::test]
async fn the_report_mentions_an_event_before_the_first_text_only_if_one_arrived() {
    let is_shown =
        |request: ProbedRequest| text_of(&report(vec![request])).contains("an event without text");
    let without_text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let rest = || data(&[FINISH, USAGE, DONE]);
    let wait = || BodyStep::Pause(Duration::from_millis(2));
    // On the real clock. The first text and its event arrive together. If llmload read the clock
    // twice, the two times would differ, and the report would mention an earlier event.
    assert!(!is_shown(probed(vec![data(&[&token("a")]), wait(), rest()]).await));
    assert!(
        !is_shown(probed(vec![data(&[without_text, &token("a")]), wait(), rest()]).await),
        "two events in one read have the same time"
    );
    assert!(is_shown(
        probed(vec![data(&[without_text]), wait(), data(&[&token("a")]), rest()]).await
    ));

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sse-captures");
    let mut counted = [0, 0];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sse") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let beats: Vec<BodyStep> =
            text.split_inclusive("\n\n").flat_map(|event| [wait(), data(&[event])]).collect();
        let request = probed(beats).await;
        if request.outcome.is_err() || request.first_text.is_none() {
            continue;
        }
        let first = text.split("\n\n").find_map(|event| event.strip_prefix("data: ")).unwrap();
        let first: Value = serde_json::from_str(first).unwrap();
        let choice = &first["choices"][0];
        let has_text =
            [&choice["text"], &choice["delta"]["content"], &choice["delta"]["reasoning_content"]]
                .iter()
                .any(|text| text.as_str().is_some_and(|text| !text.is_empty()));
        counted[usize::from(has_text)] += 1;
        assert_eq!(is_shown(request), !has_text, "{}", path.display());
    }
    assert!(
        counted.iter().all(|count| *count >= 3),
        "streams of both kinds were tested: {counted:?}"
    );
}

async fn probed(body: Vec<BodyStep>) -> ProbedRequest {
    let endpoint = Arc::new(InMemoryEndpoint(InMemory::with_body(Duration::from_millis(5), body)));
    let parameters = RequestParameters {
        max_tokens: std::num::NonZeroU32::new(32).unwrap(),
        temperature: None,
        system: None,
        stream: true,
        extra: std::collections::BTreeMap::new(),
    };
    request::send(&endpoint, &target(), "m", &parameters, "Hi").await
}

fn report(requests: Vec<ProbedRequest>) -> ProbeReport {
    ProbeReport {
        target: target(),
        address: "http://h:8000/v1".into(),
        warnings: Vec::new(),
        models: Ok((200, vec!["m".into()])),
        models_time: Duration::from_millis(2),
        version: Some("0.11.0".into()),
        model: Some("m".into()),
        requests,
        apis: OfferedApis::default(),
        suggested_address: None,
    }
}

fn text_of(report: &ProbeReport) -> String {
    ReportText { report, style: TextStyle { width: 80, colours: false } }.to_string()
}

/// Each response sends only a role after 10 ms, reasoning 30 ms later, and the answer 40 ms later.
/// For the second request, two of three prompt tokens are cached.
#[tokio::test(start_paused = true)]
async fn the_report_of_a_successful_probe_has_this_text() {
    let wait = |millis| BodyStep::Pause(Duration::from_millis(millis));
    let role = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let thought = token("a").replace("content", "reasoning_content");
    let cached = USAGE.replace(
        "\"total_tokens\"",
        "\"prompt_tokens_details\":{\"cached_tokens\":2},\"total_tokens\"",
    );
    let answer = |usage: &str| {
        vec![
            wait(10),
            data(&[role]),
            wait(30),
            data(&[&thought]),
            wait(40),
            data(&[&token("b")]),
            data(&[FINISH, usage, DONE]),
        ]
    };
    let (mut first, second) = (probed(answer(USAGE)).await, probed(answer(&cached)).await);
    let (dns, connect) = (Some(Duration::from_micros(400)), Duration::from_micros(1_600));
    first.connect_timing = Some(ConnectTiming { dns, connect });
    let expected = "\
http://h:8000/v1
  key            none
  models         m
  server version 0.11.0
  model          m

  first token    reasoning text (counts as the first token); an event without
                 text arrived 30.0 ms earlier and does not count
  tokens         3 input, 2 output
  chunks         2 with text, received in 2 reads, 1.00 tokens per chunk
  end            finish reason `stop`, usage, [DONE]
  prefix cache   2 of 3 prompt tokens cached in request 2

  step            request 1  request 2  DNS lookup to end: one after the other
  /models            2.0 ms             on a separate connection
  DNS lookup         0.4 ms
  connect            1.6 ms
  response head      3.0 ms     5.0 ms
  first token       40.0 ms    40.0 ms
  last token        40.0 ms    40.0 ms
  end                0.0 ms     0.0 ms
  TTFT              45.0 ms    45.0 ms  from sending to the first token
  TTFO              85.0 ms    85.0 ms  from sending to the first answer token
  TPOT              40.0 ms    40.0 ms  for each token after the first

The endpoint streamed a complete response.";
    let mut report = report(vec![first, second]);
    assert_eq!(text_of(&report), expected);
    report.address = "https://h/v1".into();
    assert!(text_of(&report).contains("  connect            1.6 ms             TLS included\n"));
}

#[tokio::test(start_paused = true)]
async fn a_problem_of_a_successful_stream_is_a_warning_with_a_remedy() {
    let usage = USAGE.replace(
        "\"completion_tokens\":2,\"total_tokens\":5",
        "\"completion_tokens\":9,\"total_tokens\":12",
    );
    let other = token("a").replace("{\"choices\"", "{\"model\":\"other\",\"choices\"");
    for (name, body, warning, remedy) in [
        (
            "no usage",
            vec![data(&[&token("a"), FINISH, DONE])],
            "sent no valid count",
            "stream_options.include_usage",
        ),
        (
            "gathered",
            vec![data(&[&token("a"), &token("b"), FINISH, &usage, DONE])],
            "all 9 tokens arrived at once",
            "a proxy that buffers",
        ),
        ("hidden", vec![data(&[FINISH, USAGE, DONE])], "sent no text", "`max_tokens`"),
        (
            "another",
            vec![data(&[&other, FINISH, USAGE, DONE])],
            "names another model",
            "set `model`",
        ),
    ] {
        let report = report(vec![probed(body).await]);
        let text = text_of(&report);
        let (_, shown) = text.split_once("warning: ").unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(flat(shown).contains(warning) && flat(shown).contains(remedy), "{name}: {text}");
        assert!(report.is_successful() && !text.contains("error:"), "{name}: {text}");
    }
    let good = || vec![data(&[&token("a")]), data(&[&token("b"), FINISH, USAGE, DONE])];
    let mut twice = report(vec![probed(good()).await, probed(vec![BodyStep::Break]).await]);
    assert!(
        flat(&text_of(&twice)).contains("warning: the second request: truncated"),
        "{}",
        text_of(&twice)
    );
    twice.requests.truncate(1);
    assert!(twice.problems().is_empty());
    twice.models = Ok((200, vec!["n".into()]));
    assert!(
        flat(&text_of(&twice)).contains("warning: /models does not list `m` remedy: set `model`")
    );
    twice.models = Err(FailureDetail::new(Failure::TimeoutTotal, "no response within 10s"));
    twice.requests.clear();
    assert!(!twice.is_successful() && text_of(&twice).contains("error: /models: timeout_total"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_does_not_quote_the_answer() {
    let upstream = serving(|_| {
        vec![
            stream_head(),
            chunk(&token(KEY)),
            chunk(FINISH),
            chunk(USAGE),
            chunk(DONE),
            last_chunk(),
        ]
    })
    .await;
    let (code, out, _) = probe(&[&upstream.url(), "--api-key-env", "PROBE_KEY"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        !out.contains(KEY) && out.contains("The endpoint streamed a complete response."),
        "{out}"
    );
}

#[tokio::test]
async fn the_probe_of_each_api_succeeds_on_the_simulator_and_lists_all_apis() {
    for api in Api::ALL {
        let api = api.as_str();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("llmload.yml");
        let simulator = "simulator: {reasoning_tokens: 4, decode_tokens_per_second: 2000}";
        std::fs::write(&file, format!("target: {{{simulator}, api: {api}}}\nrate: 1/s\n")).unwrap();
        let file = file.to_str().unwrap();
        let (code, out, err) = probe(&["--config.file", file]).await;
        let out = flat(&out);
        assert_eq!(code, Some(0), "{api}: {out}\n{err}");
        let list = "APIs chat, completions, responses, messages, embeddings";
        assert!(out.contains(list), "{api}: {out}");
        assert!(!out.contains("error:"), "{api}: {out}");
        let expected = match api {
            "embeddings" => vec!["The endpoint returned a vector.", "input"],
            "completions" => vec!["answer text", "[DONE]", "a complete response"],
            "messages" => vec!["reasoning text", "message_stop", "a complete response"],
            "responses" => vec!["reasoning text", "response.completed", "a complete response"],
            _ => vec!["reasoning text", "[DONE]", "a complete response"],
        };
        assert!(expected.iter().all(|text| out.contains(text)), "{api}: {out}");
        let (_, json, _) = probe(&["--config.file", file, "--json"]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        let usage = &json["requests"][0]["outcome"]["usage"];
        assert!(usage["input_tokens"].as_u64() > Some(100), "{api}: {json}");
        assert_eq!(usage["output_tokens"].is_u64(), api != "embeddings", "{api}: {json}");
        assert!(Api::ALL.iter().all(|api| json["apis"][api.as_str()] == true), "{json}");
    }
}

#[tokio::test]
async fn an_api_that_the_endpoint_does_not_offer_is_named_with_one_that_it_offers() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let server = serving(move |head| {
        seen.lock().unwrap().push(head.to_owned());
        plain("400 Bad Request", "application/json", r#"{"error":"`messages` is missing"}"#)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    let text = format!("target: {{base_url: '{}', api: responses}}\nrate: 1/s\n", server.url());
    std::fs::write(&file, text).unwrap();
    let (code, out, _) = probe(&["--config.file", file.to_str().unwrap()]).await;
    let out = flat(&out);
    assert_eq!(code, Some(1), "{out}");
    let list = "APIs chat; not completions, responses, messages, embeddings";
    assert!(out.contains(list), "{out}");
    assert!(
        out.contains("the endpoint has no `/responses`, but it has `/chat/completions`"),
        "{out}"
    );
    assert!(out.contains("set `api: chat` in the target"), "{out}");
    let chat = bodies.lock().unwrap();
    assert_eq!(chat.len(), 1, "one small request finds out: {chat:?}");
    assert!(chat[0].to_ascii_lowercase().ends_with("content-length: 2"), "{chat:?}");
}
