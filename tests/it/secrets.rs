//! No secret appears in a log, a page, a label, an error or the debug form of a value, even if the
//! server quotes the secret.
//!
//! Every secret in this file contains the *mark* `cAnArY`, which must not appear in any output. The
//! servers quote their requests. The outputs must contain `[redacted]`, which proves that a server
//! quoted a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::ops::Add as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use llmload::config;
use llmload::endpoint::HttpEndpoint;
use llmload::plan::Location;

use crate::binary::{Daemon, sample};
use crate::upstream::{
    Act, FINISH, Upstream, chunk, good, head, last_chunk, plain, stream_head, token,
};

const KEY: &str = "sk-cAnArY-key/+0123456789";
const FILE_KEY: &str = "sk-cAnArY-file-0123456789";
const HEADER: &str = "Basic b-cAnArY-header==";
const DOTENV: &str = "d-cAnArY-dotenv~&=?0123456789";
/// The percent-encoded user and password of a URL, which llmload sends in base64.
const USER_INFO: &str = "u-cAnArY-user:p-cAnArY%2F%40password";
const PASSWORD: &str = "p-cAnArY-variable";
const QUERY: &str = "q-cAnArY query/+&=%\"0123456789";

/// The forbidden strings: the mark, and its three possible forms in base64. An output that is cut
/// inside a secret can show its first few characters. The tests allow this.
const MARKS: [&str; 4] = ["cAnArY", "Y0FuQXJZ", "NBbkFyW", "jQW5Bcl"];

/// Servers whose error messages quote the request.
const QUOTES: [&str; 8] = [
    "quotes_key",
    "quotes_request",
    "quotes_long",
    "quotes_json",
    "quotes_html",
    "not_a_stream",
    "stream_error",
    "rate_limits",
];
/// Servers that misbehave in other ways. Each is a separate target, so the test can check each
/// failure.
const OTHERS: [&str; 9] = [
    "redirects",
    "resets",
    "mute",
    "bad_frame",
    "model_is_key",
    "garbage",
    "bad_header",
    "truncates",
    "endless_line",
];

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    lines
        .into_iter()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map_or("", |(_, value)| value)
}

fn misbehave(request: &str, stranger: &str) -> Vec<Act> {
    let path = request.split(' ').nth(1).unwrap();
    // A proxy receives the complete URL.
    let path = path.strip_prefix("http://nowhere.invalid").unwrap_or(path);
    let mut key = header(request, "authorization").trim_start_matches("Bearer ").to_owned()
        + header(request, "api-key");
    for name in ["authorization", "proxy-authorization"] {
        if let Some(base64) = header(request, name).strip_prefix("Basic ") {
            let decoded = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
            let decoded = String::from_utf8(decoded).unwrap();
            let (user, password) = decoded.split_once(':').unwrap();
            write!(key, " {base64} {decoded} user={user} password={password}").unwrap();
        }
    }
    let everything = request.replace("\r\n", " | ");
    let json = |message: &str| serde_json::json!({"error": {"message": message}}).to_string();
    let quote =
        format!("Incorrect API key provided: {key}. You can find yours at https://example.org.");
    if path.contains("/models") {
        // llmload requests this list for the target without a model.
        let list = serde_json::json!({"data": [{"id": key}, {"id": everything}]}).to_string();
        return plain("200 OK", "application/json", &list);
    }
    match path.split('/').nth(2).unwrap() {
        "quotes_key" => plain("401 Unauthorized", "application/json", &json(&quote)),
        "quotes_request" => plain("403 Forbidden", "text/plain", &everything),
        "quotes_long" => plain("500 Oops", "text/plain", &format!("{}{key}{key}", "x".repeat(225))),
        "quotes_json" => plain(
            "400 Bad Request",
            "application/json",
            &json(&everything)[..200].replace('/', "\\/"),
        ),
        "quotes_html" => {
            plain("404 Not Found", "text/html", &format!("<p>No route <b>{path}</b> for {key}</p>"))
        }
        "redirects" => {
            let location = format!("location: {stranger}/?key={key}");
            vec![head("307 Temporary Redirect", &[&location, "content-length: 0"])]
        }
        "resets" => vec![Act::Reset],
        "mute" => vec![Act::Silence],
        "not_a_stream" => plain("200 OK", "text/html", &format!("Welcome {key}")),
        "stream_error" => {
            vec![stream_head(), chunk(&format!("data: {}\n\n", json(&quote))), last_chunk()]
        }
        "bad_frame" => {
            vec![stream_head(), chunk(&format!("data: {{\"key\": {key}}}\n\n")), last_chunk()]
        }
        "model_is_key" => {
            let event = token("a").replacen('{', &format!("{{\"model\":\"{key}\","), 1);
            vec![stream_head(), chunk(&event), chunk(FINISH), last_chunk()]
        }
        "garbage" => {
            vec![Act::Write(format!("{key} {everything}\r\n\r\n").into_bytes()), Act::Close]
        }
        "bad_header" => vec![head("200 OK", &[&format!("{everything}: {key}")]), Act::Close],
        "truncates" => vec![stream_head(), chunk(&token(&key)), Act::Close],
        "endless_line" => {
            vec![
                stream_head(),
                Act::Trickle(chunk_of(&key.repeat(1000)), std::time::Duration::ZERO),
            ]
        }
        "rate_limits" => plain("429 Too Many Requests", "application/json", &json(&quote)),
        _ => good(),
    }
}

fn chunk_of(text: &str) -> Vec<u8> {
    let Act::Write(bytes) = chunk(text) else { unreachable!() };
    bytes
}

fn configuration(upstream: &Upstream) -> String {
    let mut targets = String::from("targets:\n");
    let mut scenarios = String::from("scenarios:\n");
    let extras = "headers: {x-session: {env: CANARY_HEADER}, x-beside: {env: CANARY_DOTENV}}, query: {sig: {env: CANARY_QUERY}}";
    let mut add = |name: &str, base: &str, key: &str, start: &str| {
        // Long timeouts, so that a busy machine causes none.
        let first_token = if name == "mute" { "500ms" } else { "60s" };
        let timeouts = format!("timeouts: {{connect: 2s, first_token: {first_token}, idle: 60s}}");
        let model = if start == "now" { "model: m, " } else { "" };
        writeln!(targets, "  {name}: {{base_url: '{base}', {model}{key}, {extras}, {timeouts}}}")
            .unwrap();
        writeln!(
            scenarios,
            "  {name}: {{target: {name}, start: {start}, repeat: 1, max_concurrency: 4, max_lag: 60s, \
             request: {{max_tokens: 8}}, schedule: [{{constant: 4/s, for: 1s}}]}}"
        )
        .unwrap();
    };
    let address = upstream.address;
    for name in QUOTES.into_iter().chain(OTHERS) {
        add(name, &format!("http://{address}/v1/{name}"), "api_key_env: CANARY_KEY", "now");
    }
    for name in QUOTES {
        let base = format!("http://{address}/v1/{name}");
        add(&format!("{name}_file"), &base, "api_key_file: key, auth: api-key", "now");
        let base = format!("http://{USER_INFO}@{address}/v1/{name}");
        add(&format!("{name}_user"), &base, "terminal: eof", "now");
        let base = format!("http://u-cAnArY:${{CANARY_PASSWORD}}@nowhere.invalid/v1/{name}");
        let proxy = format!("proxy: 'http://{USER_INFO}@{address}'");
        add(&format!("{name}_proxy"), &base, &proxy, "now");
    }
    add(
        "which_model",
        &format!("http://{address}/v1/which_model"),
        "api_key_env: CANARY_KEY",
        "when_ready",
    );
    add("no_tls", &format!("https://{address}/v1"), "api_key_env: CANARY_KEY", "now");
    add("no_host", "http://nowhere.invalid/v1", "api_key_env: CANARY_KEY", "now");
    targets
        + &scenarios
        + "metrics: {max_combinations: 64}\nfailures: {dir: failures, prompts: full}\n"
}

/// Creates the configuration, the key file and the file `.env`.
fn folder(yaml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("llmload.yml", yaml),
        ("key", &format!("{FILE_KEY}\n")),
        (".env", &format!("CANARY_DOTENV='{DOTENV}'\n")),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn variable(name: &str) -> Option<OsString> {
    let variables = [
        ("CANARY_KEY", KEY),
        ("CANARY_HEADER", HEADER),
        ("CANARY_QUERY", QUERY),
        ("CANARY_PASSWORD", PASSWORD),
    ];
    variables.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
}

pub fn llmload() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    for name in ["CANARY_KEY", "CANARY_HEADER", "CANARY_QUERY", "CANARY_PASSWORD"] {
        command.env(name, variable(name).unwrap());
    }
    command
}

pub fn assert_clean(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what} has content");
    for mark in MARKS {
        if let Some(at) = text.find(mark) {
            let around =
                text.floor_char_boundary(at.saturating_sub(200))..text.ceil_char_boundary(at + 100);
            panic!("{what} contains a secret: …{}…", &text[around]);
        }
    }
}

/// Runs the daemon with all misbehaving servers, asserts that no output contains a secret, and
/// returns the outputs.
async fn outputs(log: [&'static str; 4]) -> BTreeMap<&'static str, String> {
    let redirected = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&redirected);
    let stranger = Upstream::start(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        good()
    })
    .await;
    let elsewhere = format!("http://{}", stranger.address);
    let upstream =
        Upstream::start_with_head(move |_, request| misbehave(request, &elsewhere)).await;
    let yaml = configuration(&upstream);
    let work = move || {
        let folder = folder(&yaml);
        let mut daemon = Daemon::of(llmload(), &log, folder);
        let status = daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let has_ended =
                |s: &serde_json::Value| s["state"] == "ended" && s["ledger"]["in_flight"] == 0;
            let waits = |s: &serde_json::Value| {
                s["waiting_for"].as_str().is_some_and(|w| w.contains("a model"))
            };
            let all = status["scenarios"].as_array().unwrap();
            all.iter()
                .all(|s| has_ended(s) || s["scenario"] == "which_model" && waits(s))
                .then(|| text.to_owned())
        });
        let mut outputs = BTreeMap::from([("/api/v1/status", status)]);
        for path in ["/metrics", "/config", "/", "/-/ready", "/nope"] {
            outputs.insert(path, daemon.get(path).2);
        }
        let check =
            llmload().arg("check").arg(daemon.folder.path().join("llmload.yml")).output().unwrap();
        outputs.insert("check", String::from_utf8([check.stdout, check.stderr].concat()).unwrap());
        let mut probed = String::new();
        let with_user = ["quotes_key_user", "quotes_key_proxy"];
        for target in QUOTES.into_iter().chain(["which_model"]).chain(with_user) {
            let mut probe = llmload();
            probe.args(["probe", "--target", target]).args(log).arg("--config.file");
            let probe = probe.arg(daemon.folder.path().join("llmload.yml")).output().unwrap();
            probed += &String::from_utf8([probe.stdout, probe.stderr].concat()).unwrap();
        }
        outputs.insert("probe", probed);
        daemon.signal("TERM");
        let archive = daemon.folder.path().join("failures/failures.jsonl");
        let ended = daemon.child.wait().unwrap();
        assert!(ended.success(), "{ended}");
        outputs.insert("archive", std::fs::read_to_string(archive).unwrap());
        outputs.insert("log", daemon.wait().1);
        outputs
    };
    let outputs = tokio::task::spawn_blocking(work).await.unwrap();
    for (what, text) in &outputs {
        assert_clean(what, text);
    }
    assert_eq!(redirected.load(Ordering::Relaxed), 0, "no redirect is followed");
    outputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_with_misbehaving_servers_shows_no_secret() {
    let outputs = outputs(["--log.level", "trace", "--log.format", "text"]).await;
    let status: serde_json::Value = serde_json::from_str(&outputs["/api/v1/status"]).unwrap();
    let messages_of = |name: &str| {
        let scenarios = status["scenarios"].as_array().unwrap();
        let scenario = scenarios.iter().find(|s| s["scenario"] == name).unwrap();
        format!("{} {}", scenario["failures"], scenario["waiting_for"])
    };
    for name in QUOTES {
        for name in ["", "_file", "_user", "_proxy"].map(|suffix| name.to_owned() + suffix) {
            assert!(
                messages_of(&name).contains("[redacted]"),
                "the failure message of {name} must contain `[redacted]`: {}",
                messages_of(&name)
            );
        }
    }
    assert!(messages_of("which_model").contains("`[redacted]`"), "{}", messages_of("which_model"));
    assert!(
        outputs["log"].contains("Incorrect API key provided: [redacted]"),
        "{}",
        outputs["log"]
    );
    // Every target fails, except the target with a wrong model name and a good response.
    let failed = |name: &str| {
        let label = format!("scenario=\"{name}\"");
        sample(&outputs["/metrics"], "llmload_request_failures_total", &[&label])
    };
    let wrong = QUOTES.into_iter().chain(OTHERS).filter(|name| *name != "model_is_key");
    for name in wrong.chain(["no_tls", "no_host"]) {
        assert!(failed(name) > 0.0, "{name}");
    }
    assert!(outputs["/config"].contains("CANARY_KEY"), "names of variables may be shown");
    assert!(outputs["check"].contains("CANARY_KEY"), "{}", outputs["check"]);
    let probed = outputs["probe"].split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(probed.contains("CANARY_KEY") && probed.contains("[redacted]"), "{probed}");
}

/// The level `trace` includes the lines of the libraries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_log_as_json_shows_no_secret() {
    let outputs = outputs(["--log.level", "trace,llmload=trace", "--log.format", "json"]).await;
    let log = &outputs["log"];
    assert!(log.contains("Incorrect API key provided: [redacted]"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
}

#[test]
fn the_debug_forms_of_plan_and_endpoint_show_no_secret() {
    let yaml = "
targets:
  t:
    base_url: http://127.0.0.1:1/v1
    model: m
    api_key_file: key
    headers: {x-session: {env: CANARY_HEADER}, x-beside: {env: CANARY_DOTENV}}
    query: {sig: {env: CANARY_QUERY}}
  u: {base_url: 'http://127.0.0.1:1/v1', model: m, api_key_env: CANARY_KEY}
  v:
    base_url: http://u-cAnArY-user:${CANARY_PASSWORD}@127.0.0.1:1/v1
    proxy: http://u-cAnArY-user:p-cAnArY-password@127.0.0.1:1
scenarios:
  s: {target: t, rate: 1/s}
  r: {target: u, rate: 1/s}
  q: {target: v, rate: 1/s}
";
    let folder = folder(yaml);
    let plan = config::load(&folder.path().join("llmload.yml"), &variable).unwrap();
    assert_clean("the plan", &format!("{plan:?} {plan:#?}"));
    for scenario in &plan.scenarios {
        let Location::Url(base) = &scenario.target.location else { unreachable!() };
        let endpoint = HttpEndpoint::new(&scenario.target, base).unwrap();
        assert_clean("the endpoint", &format!("{endpoint:?} {endpoint:#?}"));
    }
}

/// A response contains the URL of its request with the query.
#[tokio::test]
async fn the_debug_form_of_a_response_shows_no_secret() {
    use llmload::endpoint::{Endpoint as _, Request};
    let upstream = Upstream::start_with_head(|_, request| {
        vec![head(
            "200 OK",
            &[&format!("x-echo: {}", header(request, "x-session")), "content-length: 0"],
        )]
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, headers: {{x-session: {{env: CANARY_HEADER}}}}, \
         query: {{sig: {{env: CANARY_QUERY}}}}}}}}\nscenarios: {{s: {{target: t, rate: 1/s}}}}\n",
        upstream.url()
    );
    let plan = config::parse(&yaml, "test", None, &variable).unwrap();
    let target = &plan.scenarios[0].target;
    let Location::Url(base) = &target.location else { unreachable!() };
    let endpoint = HttpEndpoint::new(target, base).unwrap();
    let request = Request {
        path: "chat/completions",
        body: "{}".into(),
        stream: true,
        trace: None,
        session: None,
    };
    let response = endpoint.send(request, |_| ()).await.unwrap();
    assert_clean("the response", &format!("{response:?}"));
}

/// Some web frameworks quote the rejected body in the response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_a_request_body_is_masked_in_every_output_of_a_run() {
    const TARGET_SECRET: &str = "sk-cAnArY-body/0123456789";
    const SCENARIO_SECRET: &str = "pw cAnArY \"quoted\" 0123456789";
    const NUMBER: u64 = 4_711_081_547_110_815;
    let upstream = Upstream::start(|index| {
        let quotes = [
            serde_json::json!({"input": {"api_key": TARGET_SECRET, "password": SCENARIO_SECRET,
                "pin_secret": NUMBER}})
            .to_string(),
            format!("no {}", TARGET_SECRET.to_uppercase().replace('/', "%2f")),
            format!("cut {}", &TARGET_SECRET[3..]),
        ];
        let quote = &quotes[usize::try_from(index).unwrap() % quotes.len()];
        plain(
            "422 Unprocessable Entity",
            "application/json",
            &serde_json::json!({"error": {"message": quote}}).to_string(),
        )
    })
    .await;
    let yaml = format!(
        "target: {{base_url: '{}', model: m, extra_body: {{api_key: '{TARGET_SECRET}'}}}}\n\
         request: {{extra: {{password: '{SCENARIO_SECRET}', pin_secret: {NUMBER}}}}}\nstart: now\nrepeat: 1\nmax_lag: 60s\n\
         schedule: [{{constant: 6/s, for: 1s}}]\n",
        upstream.url()
    );
    let work = move || {
        let folder = folder(&yaml);
        let mut run = llmload();
        let run = run
            .args(["run", "--report", "report", "--log.level", "trace"])
            .current_dir(folder.path());
        let output = run.output().unwrap();
        let mut outputs = vec![output.stdout, output.stderr];
        for name in ["report.json", "report.md", "report.html", "report.csv", "junit.xml"] {
            outputs.push(std::fs::read(folder.path().join("report").join(name)).unwrap());
        }
        outputs.into_iter().map(|output| String::from_utf8(output).unwrap()).collect::<Vec<_>>()
    };
    for output in tokio::task::spawn_blocking(work).await.unwrap() {
        assert_clean("the output", &output);
        assert!(!output.to_lowercase().contains("canary"), "{output}");
        assert!(!output.contains(&NUMBER.to_string()), "{output}");
    }
    assert!(upstream.requests.load(Ordering::Relaxed) >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_of_a_url_on_the_command_line_is_sent_and_shown_nowhere() {
    let upstream = Upstream::start_with_head(|_, request| {
        let is_known =
            request.contains("authorization: Basic dS1jQW5BclktdXNlcjpwLWNBbkFyWS9AcGFzc3dvcmQ=");
        if is_known && request.starts_with("GET ") {
            return plain("200 OK", "application/json", r#"{"data": [{"id": "m"}]}"#);
        }
        if is_known { good() } else { plain("401 Unauthorized", "text/plain", request) }
    })
    .await;
    let url = format!("http://{USER_INFO}@{}/v1", upstream.address);
    let work = move || {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report");
        let mut run = llmload();
        run.args(["run", &url, "--rate", "20/s", "--for", "1s", "--log.level", "trace"]);
        let ran = run.arg("--report").arg(&report).output().unwrap();
        let probed = llmload().args(["probe", &url]).output().unwrap();
        let wrong = llmload().args(["run", &format!("{url}/@"), "--rate", "1/s"]).output().unwrap();
        assert!(ran.status.success() && probed.status.success(), "{ran:?} {probed:?}");
        assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
        for output in [ran, probed, wrong] {
            assert_clean(
                "the output",
                &String::from_utf8_lossy(&output.stdout).into_owned().add(" "),
            );
            assert_clean("the log", &String::from_utf8_lossy(&output.stderr).into_owned().add(" "));
        }
        for entry in std::fs::read_dir(report).unwrap() {
            let path = entry.unwrap().path();
            assert_clean("the report", &std::fs::read_to_string(path).unwrap());
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}
