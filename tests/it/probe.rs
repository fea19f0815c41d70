//! `llmload probe` and the daemon's status among a beginner's mistakes, typed on purpose: each is
//! named, with what mends it, and no key is shown.

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
use llmload::probe::text::Words;
use llmload::probe::{Seen, Streamed, tap};
use llmload::protocol::RequestParameters;
use llmload::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::binary::Daemon;
use crate::upstream::{
    Act, Beat, DONE, FINISH, InMemory, Shared, USAGE, Upstream, chunk, good, last_chunk, plain,
    says, self_signed, stream_head, token,
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

/// Exit code, stdout and stderr of `llmload probe`.
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

/// Words on one line: where lines are broken depends on the address.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Answers `/v1/models` with one model, chat with this, and all else with 404.
async fn serving(chat: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Upstream {
    Upstream::reading(move |_, head| match head.split(' ').nth(1).unwrap_or_default() {
        "/v1/models" => plain("200 OK", "application/json", LIST),
        "/v1/chat/completions" => chat(head),
        _ => plain("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#),
    })
    .await
}

async fn always(status: &'static str, kind: &'static str, body: &'static str) -> Upstream {
    Upstream::start(move |_| plain(status, kind, body)).await
}

/// A port that speaks TLS, with a certificate that nobody vouches for, until the test's process ends.
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

/// One mistake: what was typed, and words of the remedy, which probe and status both have to name.
struct Mistake {
    name: &'static str,
    url: String,
    /// Of the target in a file.
    keys: &'static str,
    /// Beside the URL on a command line.
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
    // As vLLM with --api-key: only who has the right one gets in.
    let locked = Upstream::reading(|_, head| {
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
    let whole = serving(|_| {
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
    let nobody = closed.local_addr().unwrap();
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
            format!("http://{nobody}/v1"),
            "",
            &[],
            "connect_refused",
            &format!("start the server, or correct the port: nothing listens at {nobody}"),
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
        mistake("no_stream", whole.url(), "", &[], "not_sse", "`request: {stream: false}`"),
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
        whole,
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
        let (told, mends) =
            flat.split_once("error: ").and_then(|(_, told)| told.split_once("remedy: ")).unwrap();
        assert!(flat.contains(class) && !told.is_empty(), "{name}: {class}\n{out}");
        assert!(mends.contains(remedy), "{name}: {remedy}\n{out}");
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
                let waits = scenario["waiting_for"].as_str().unwrap_or_default();
                let mut failures = scenario["failures"].as_array().unwrap().iter();
                let mends = |f: &Value| f["remedy"].as_str().unwrap().contains(remedy);
                (waits.split_once("; ").is_some_and(|(_, words)| words.contains(remedy))
                    || failures.any(mends))
                .then_some(())
            });
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    for (args, words) in [
        (
            vec!["http://h/v1/chat/completions"],
            "URL: `/chat/completions` is added for each request; write `http://h/v1`",
        ),
        (
            vec!["localhost:8000/v1"],
            "a URL that starts with http:// or https://; write http://localhost:8000/v1",
        ),
        (vec!["api.example.com/v1"], "; write https://api.example.com/v1"),
        (vec!["prode"], "a URL that starts with http:// or https://; see"),
        (vec![], "give a URL, as in llmload probe http://localhost:8000/v1"),
        (
            vec!["http://h/v1", "--api-key-env", "NOT_SET"],
            "--api-key-env: the variable `NOT_SET` is not set",
        ),
        (vec!["http://h/v1", "--api-key-env", KEY], "write the name, never the value itself"),
        (vec!["http://h/v1", "--target", "t"], "cannot be used with"),
    ] {
        let (code, out, err) = probe(&args).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(words) && !err.contains(KEY), "{args:?}: {err}");
    }
}

/// The remedy for a certificate that nobody vouches for is one: with it only what follows is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_trusted_once_its_authority_is_named() {
    let url = format!("https://{}/v1", tls_port());
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/self-signed.crt.pem");
    let run =
        move || command().args(["probe", &url]).env("SSL_CERT_FILE", authority).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("error: /models: reset"), "the handshake went well: {out}");
}

/// With its key, headers and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_a_file_is_probed_as_a_load_would_meet_it() {
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
        assert_eq!(heads.len(), 2, "one request, and the same once more");
        for head in heads.iter() {
            assert!(head.contains("x-team: staging") && head.contains(KEY), "{head}");
        }
    }
    let (code, _, err) = probe(&["--config.file", file]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("name one with --target: `a`, `b`"), "{err}");
    let (code, _, err) = probe(&["--config.file", file, "--target", "c"]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("a target `c`; write one of `a`, `b`"), "{err}");

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
    assert!(connects(0) && !connects(1), "the second goes over the connection of the first: {out}");
    assert_eq!(seen["requests"].as_array().unwrap().len(), 2);
}

fn target() -> Arc<Target> {
    let text = "target: {base_url: 'http://h:8000/v1', model: m}\nrate: 1/s\n";
    Arc::clone(&config::parse(text, "test", None, &|_| None).unwrap().scenarios[0].target)
}

/// The kind of the first text, and whether a read brought events before it, as the captures have it.
#[tokio::test]
async fn an_event_before_the_first_text_is_told_only_where_there_was_one() {
    let told =
        |streamed: Streamed| words(&seen(vec![streamed])).contains("an event without text came");
    let silent = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let rest = || says(&[FINISH, USAGE, DONE]);
    let wait = || Beat::Waits(Duration::from_millis(2));
    // On the real clock, where each look at it is later than the one before.
    assert!(!told(streamed(vec![says(&[&token("a")]), wait(), rest()]).await));
    assert!(
        !told(streamed(vec![says(&[silent, &token("a")]), wait(), rest()]).await),
        "one read, one time"
    );
    assert!(told(streamed(vec![says(&[silent]), wait(), says(&[&token("a")]), rest()]).await));

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sse-captures");
    let mut counted = [0, 0];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sse") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let beats: Vec<Beat> =
            text.split_inclusive("\n\n").flat_map(|event| [wait(), says(&[event])]).collect();
        let streamed = streamed(beats).await;
        if streamed.outcome.is_err() || streamed.first_text.is_none() {
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
        assert_eq!(told(streamed), !has_text, "{}", path.display());
    }
    assert!(counted.iter().all(|count| *count >= 3), "of both kinds: {counted:?}");
}

async fn streamed(body: Vec<Beat>) -> Streamed {
    let endpoint = Arc::new(Shared(InMemory::playing(Duration::from_millis(5), body)));
    let parameters = RequestParameters {
        max_tokens: std::num::NonZeroU32::new(32).unwrap(),
        temperature: None,
        system: None,
        stream: true,
        extra: std::collections::BTreeMap::new(),
    };
    tap::stream(&endpoint, &target(), "m", &parameters, "Hi").await
}

fn seen(streams: Vec<Streamed>) -> Seen {
    Seen {
        target: target(),
        address: "http://h:8000/v1".into(),
        warnings: Vec::new(),
        listed: Ok((200, vec!["m".into()])),
        listing: Duration::from_millis(2),
        version: Some("0.11.0".into()),
        model: Some("m".into()),
        streams,
        elsewhere: None,
    }
}

fn words(seen: &Seen) -> String {
    Words { seen, paper: TextStyle { width: 80, colours: false } }.to_string()
}

/// A role delta after 10 ms, reasoning after 30 more, an answer after 40 more; the second time half of the
/// prompt comes from a cache.
#[tokio::test(start_paused = true)]
async fn what_was_seen_is_told_in_these_words() {
    let wait = |millis| Beat::Waits(Duration::from_millis(millis));
    let role = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let thought = token("a").replace("content", "reasoning_content");
    let cached = USAGE.replace(
        "\"total_tokens\"",
        "\"prompt_tokens_details\":{\"cached_tokens\":2},\"total_tokens\"",
    );
    let answer = |usage: &str| {
        vec![
            wait(10),
            says(&[role]),
            wait(30),
            says(&[&thought]),
            wait(40),
            says(&[&token("b")]),
            says(&[FINISH, usage, DONE]),
        ]
    };
    let (mut first, second) = (streamed(answer(USAGE)).await, streamed(answer(&cached)).await);
    let (dns, connect) = (Some(Duration::from_micros(400)), Duration::from_micros(1_600));
    first.connected = Some(ConnectTiming { dns, connect });
    let expected = "\
http://h:8000/v1
  key            none
  models         m
  server         0.11.0
  model          m

  first token    reasoning, which counts; an event without text came 30.0 ms
                 before and does not count
  tokens         3 in, 2 out
  chunks         2 with text in 2 reads, 1.00 tokens each
  end            finish reason: a natural end, usage, [DONE]
  prefix cache   2 of 3 prompt tokens, the second time

  clock               first      again
  /models            2.0 ms             on a connection of its own
  name               0.4 ms             from sending
  connect            1.6 ms
  head               3.0 ms     5.0 ms
  first token       40.0 ms    40.0 ms
  last token        40.0 ms    40.0 ms
  end                0.0 ms     0.0 ms
  TTFT              45.0 ms    45.0 ms  all up to the first token
  TPOT              40.0 ms    40.0 ms  for each token after it

A stream came as it should.";
    let mut seen = seen(vec![first, second]);
    assert_eq!(words(&seen), expected);
    seen.address = "https://h/v1".into();
    assert!(words(&seen).contains("  connect            1.6 ms             TLS included\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_odd_about_a_good_stream_is_a_warning_with_a_remedy() {
    let usage = USAGE.replace(
        "\"completion_tokens\":2,\"total_tokens\":5",
        "\"completion_tokens\":9,\"total_tokens\":12",
    );
    let other = token("a").replace("{\"choices\"", "{\"model\":\"other\",\"choices\"");
    for (name, body, warning, remedy) in [
        (
            "no usage",
            vec![says(&[&token("a"), FINISH, DONE])],
            "no usage came",
            "stream_options.include_usage",
        ),
        (
            "gathered",
            vec![says(&[&token("a"), &token("b"), FINISH, &usage, DONE])],
            "all 9 tokens came at once",
            "a proxy that buffers",
        ),
        ("hidden", vec![says(&[FINISH, USAGE, DONE])], "no text came", "`max_tokens`"),
        (
            "another",
            vec![says(&[&other, FINISH, USAGE, DONE])],
            "names another model",
            "set `model`",
        ),
    ] {
        let seen = seen(vec![streamed(body).await]);
        let text = words(&seen);
        let (_, told) = text.split_once("warning: ").unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(flat(told).contains(warning) && flat(told).contains(remedy), "{name}: {text}");
        assert!(seen.is_well() && !text.contains("error:"), "{name}: {text}");
    }
    let good = || vec![says(&[&token("a")]), says(&[&token("b"), FINISH, USAGE, DONE])];
    let mut twice = seen(vec![streamed(good()).await, streamed(vec![Beat::Breaks]).await]);
    assert!(
        flat(&words(&twice)).contains("warning: the same request once more: truncated"),
        "{}",
        words(&twice)
    );
    twice.streams.truncate(1);
    assert!(twice.troubles().is_empty());
    twice.listed = Ok((200, vec!["n".into()]));
    assert!(
        flat(&words(&twice)).contains("warning: /models does not list `m` remedy: set `model`")
    );
    twice.listed = Err(FailureDetail::new(Failure::TimeoutTotal, "no answer within 10s"));
    twice.streams.clear();
    assert!(!twice.is_well() && words(&twice).contains("error: /models: timeout_total"));
}

/// A stream on real sockets, and the text of an answer never reaches the report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_the_endpoint_are_not_repeated() {
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
    assert!(!out.contains(KEY) && out.contains("A stream came as it should."), "{out}");
}
