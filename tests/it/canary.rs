//! One table: every place of a secret, every form in which a server quotes it, and every output.
//!
//! Each secret contains a unique *mark*. The server of a target quotes the secrets of its requests
//! one by one. No output contains a mark in any form. `secrets.rs` has the servers that misbehave
//! in other ways.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::binary::{Daemon, request, sample};
use crate::upstream::{Act, Upstream, chunk, last_chunk, plain, stream_head};

/// A place of the configuration that contains a secret. The number is a part of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Key = 1,
    Header,
    HeaderFile,
    DotEnv,
    Query,
    ExtraBody,
    ExtraBodyVariable,
    RequestExtra,
    KeyFile,
    User,
    Password,
    ProxyUser,
    ProxyPassword,
}

impl Place {
    const ALL: [Place; 13] = [
        Place::Key,
        Place::Header,
        Place::HeaderFile,
        Place::DotEnv,
        Place::Query,
        Place::ExtraBody,
        Place::ExtraBodyVariable,
        Place::RequestExtra,
        Place::KeyFile,
        Place::User,
        Place::Password,
        Place::ProxyUser,
        Place::ProxyPassword,
    ];

    fn mark(self) -> String {
        format!("cAnArY{:02}", self as u8)
    }

    fn secret(self) -> String {
        format!("sk-{}-0a1b2c3d4e5f", self.mark())
    }
}

/// The kinds of targets. The credentials of one kind exclude those of the others.
const TARGETS: [(&str, &[Place]); 4] = [
    (
        "values",
        &[
            Place::Key,
            Place::Header,
            Place::HeaderFile,
            Place::DotEnv,
            Place::Query,
            Place::ExtraBody,
            Place::ExtraBodyVariable,
            Place::RequestExtra,
        ],
    ),
    ("file", &[Place::KeyFile]),
    ("user", &[Place::User, Place::Password]),
    ("proxy", &[Place::ProxyUser, Place::ProxyPassword]),
];

/// The forms in which a server quotes a secret.
const FORMS: [&str; 14] = [
    "plain",
    "percent",
    "percent_lower",
    "upper",
    "lower",
    "base64",
    "base64_after_one",
    "base64_after_two",
    "hex",
    "json",
    "html",
    "cut",
    "cut_inside",
    "without_start",
];

fn each_byte(text: &str, format: impl Fn(u8) -> String) -> String {
    text.bytes().map(format).collect()
}

fn form(name: &str, secret: &str) -> String {
    match name {
        "plain" => secret.to_owned(),
        "percent" => each_byte(secret, |byte| format!("%{byte:02X}")),
        "percent_lower" => each_byte(secret, |byte| format!("%{byte:02x}")),
        "upper" => secret.to_uppercase(),
        "lower" => secret.to_lowercase(),
        "base64" => BASE64.encode(secret),
        "base64_after_one" => BASE64.encode(format!("x{secret}y")),
        "base64_after_two" => BASE64.encode(format!("xy{secret}z")),
        "hex" => each_byte(secret, |byte| format!("{byte:02x}")),
        "json" => each_byte(secret, |byte| format!("\\u{byte:04x}")),
        "html" => each_byte(secret, |byte| format!("&#x{byte:x};")),
        "cut" | "cut_inside" => secret[..14].to_owned(),
        "without_start" => secret[3..].to_owned(),
        _ => unreachable!(),
    }
}

/// Returns each form of a mark. The lower-case forms are for a text in lower case.
fn marks_of(place: Place) -> (Vec<String>, Vec<String>) {
    let (mut lower, mut exact) = (Vec::new(), Vec::new());
    for mark in [place.mark(), place.mark().to_lowercase(), place.mark().to_uppercase()] {
        for name in ["plain", "percent", "hex", "json", "html"] {
            lower.push(form(name, &mark).to_lowercase());
        }
        // The two characters after the mark, because base64 can cut off a part of the last one.
        let mark = mark + "-0";
        for before in 0..3 {
            // Only the characters that do not depend on the bytes around the mark.
            let encoded = BASE64.encode("x".repeat(before) + &mark);
            let start = (before * 8).div_ceil(6);
            exact.push(encoded[start..(before + mark.len()) * 8 / 6].to_owned());
        }
    }
    (lower, exact)
}

/// Returns the response to request `k` of a target. It quotes one secret of the target.
fn respond(path: &str, k: usize) -> Vec<Act> {
    let name = path.split("/v1/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let (target, form_name) = name.split_once("__").unwrap();
    let (_, places) = TARGETS.into_iter().find(|(known, _)| *known == target).unwrap();
    let quote = form(form_name, &places[k % places.len()].secret());
    let message = match form_name {
        "cut" => format!("you sent {quote}"),
        _ => format!("you sent {quote}, which is wrong"),
    };
    let error = serde_json::json!({"error": {"message": message}}).to_string();
    let status = ["401 A", "402 B", "429 C", "503 D", "500 E", "400 F", "404 G"];
    match k % (status.len() + 1) {
        7 => vec![stream_head(), chunk(&format!("data: {error}\n\n")), last_chunk()],
        k => plain(status[k], "application/json", &error),
    }
}

fn configuration(upstream: &Upstream) -> String {
    let address = upstream.address;
    let secret = Place::secret;
    let (mut targets, mut scenarios) = (String::from("targets:\n"), String::from("scenarios:\n"));
    for form in FORMS {
        for (target, places) in TARGETS {
            let name = format!("{target}__{form}");
            let user_info = format!("{}:{}@", secret(Place::User), secret(Place::Password));
            let proxy = format!("{}:${{PROXY_PASSWORD}}@{address}", secret(Place::ProxyUser));
            let (base, keys) = match target {
                "values" => (
                    address.to_string(),
                    format!(
                        ", api_key_env: TARGET_KEY, query: {{sig: {{env: QUERY_VALUE}}}}, \
                         headers: {{x-a: {{env: HEADER_VALUE}}, x-b: {{file: header}}, \
                         x-c: {{env: DOTENV_VALUE}}}}, \
                         extra_body: {{api_key: {}, inner: {{password: '${{BODY_VALUE}}'}}}}",
                        secret(Place::ExtraBody)
                    ),
                ),
                "file" => (address.to_string(), ", api_key_file: key, auth: x-api-key".into()),
                "user" => (format!("{user_info}{address}"), String::new()),
                _ => ("nowhere.invalid".into(), format!(", proxy: 'http://{proxy}'")),
            };
            writeln!(targets, "  {name}: {{base_url: 'http://{base}/v1/{name}', model: m{keys}}}")
                .unwrap();
            let extra = match target {
                "values" => format!("extra: {{api_token: {}}}", secret(Place::RequestExtra)),
                _ => "max_tokens: 8".into(),
            };
            // Each request quotes another secret.
            writeln!(
                scenarios,
                "  {name}: {{target: {name}, start: now, repeat: 1, max_lag: 60s, \
                 request: {{{extra}}}, schedule: [{{constant: 10/s, for: {}ms}}]}}",
                places.len() * 100
            )
            .unwrap();
        }
    }
    targets
        + &scenarios
        + "metrics: {max_combinations: 64}\nfailures: {dir: failures, prompts: full}\n"
}

fn llmload() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    for (name, place) in [
        ("TARGET_KEY", Place::Key),
        ("HEADER_VALUE", Place::Header),
        ("QUERY_VALUE", Place::Query),
        ("BODY_VALUE", Place::ExtraBodyVariable),
        ("PROXY_PASSWORD", Place::ProxyPassword),
    ] {
        command.env(name, place.secret());
    }
    command
}

/// All that llmload writes, by the name of the output.
#[derive(Default)]
struct Outputs(BTreeMap<String, String>);

impl Outputs {
    /// Adds a text to those with the same name.
    fn add(&mut self, name: &str, text: &str) {
        assert!(!text.is_empty(), "{name} is empty");
        let texts = self.0.entry(name.to_owned()).or_default();
        texts.push_str(text);
        texts.push('\n');
    }

    /// Runs a command in a folder, and adds both of its outputs.
    fn run(&mut self, folder: &Path, arguments: &[&str]) {
        let output = llmload().args(arguments).current_dir(folder).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let both = text(&output.stdout) + "\n" + &text(&output.stderr);
        self.add(&arguments.join(" "), &both);
    }

    fn add_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            self.add(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
        }
    }

    /// Returns each place whose secret is in an output.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (name, text) in &self.0 {
            let lower = text.to_lowercase();
            for place in Place::ALL {
                let (in_lower, exact) = marks_of(place);
                let found = in_lower.iter().find_map(|mark| lower.find(mark));
                let found = found.or_else(|| exact.iter().find_map(|mark| text.find(mark)));
                if let Some(at) = found {
                    let around = text.floor_char_boundary(at.saturating_sub(150))
                        ..text.ceil_char_boundary(at + 50);
                    let around = text.get(around).unwrap_or_default();
                    leaks.push(format!("{place:?} in `{name}`: …{around}…"));
                }
            }
        }
        leaks
    }
}

/// The outputs of a daemon, including a reload of a file with misplaced secrets.
fn run_daemon(folder: tempfile::TempDir, format: &str, outputs: &mut Outputs) -> tempfile::TempDir {
    let log = ["--log.level", "trace", "--log.format", format];
    let mut daemon = Daemon::of(llmload(), &log, folder);
    let status = daemon.wait_for("/api/v1/status", |text| {
        let status: serde_json::Value = serde_json::from_str(text).unwrap();
        let all = status["scenarios"].as_array().unwrap();
        let has_ended = |scenario: &serde_json::Value| {
            scenario["state"] == "ended" && scenario["ledger"]["in_flight"] == 0
        };
        all.iter().all(has_ended).then(|| text.to_owned())
    });
    outputs.add("/api/v1/status", &status);
    let quotes: usize = TARGETS.iter().map(|(_, places)| places.len() * FORMS.len()).sum();
    daemon.wait_for("/metrics", |text| {
        let archived = sample(text, "llmload_failures_archived_total", &[]);
        (archived == quotes as f64).then_some(())
    });
    for path in ["/metrics", "/config", "/", "/nope"] {
        outputs.add(path, &daemon.get(path).2);
    }
    let file = daemon.folder.path().join("llmload.yml");
    let valid = std::fs::read_to_string(&file).unwrap();
    let key = Place::Key.secret();
    for misplaced in [
        format!("api_key: {key}\n"),
        format!("target: {{base_url: 'http://127.0.0.1:1/v1', auth: {key}}}\nrate: 1/s\n"),
        format!("target: {{base_url: 'http://{key}:x@127.0.0.1:1/v1', Authorization: {key}}}\n"),
        format!("target: {{base_url: 'http://127.0.0.1:1/v1', headers: {{x-a: [{key}]}}}}\n"),
    ] {
        std::fs::write(&file, misplaced).unwrap();
        let (code, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert_eq!(code, 500, "{body}");
        outputs.add("refused reload", &body);
        outputs.add("status after a refused reload", &daemon.get("/api/v1/status").2);
        outputs.run(daemon.folder.path(), &["check", "llmload.yml"]);
    }
    std::fs::write(&file, valid).unwrap();
    daemon.signal("TERM");
    let ended = daemon.child.wait().unwrap();
    assert!(ended.success(), "{ended}");
    outputs.add_files(&daemon.folder.path().join("failures"));
    let log = std::mem::take(&mut *daemon.log.lock().unwrap());
    outputs.add(&format!("log as {format}"), &log);
    let empty = tempfile::tempdir().unwrap();
    std::mem::replace(&mut daemon.folder, empty)
}

/// Checks that the server has quoted each secret in each form, and that llmload has masked it.
fn assert_quoted(archive: &str) {
    let mut records: BTreeMap<String, usize> = BTreeMap::new();
    for line in archive.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record["body"].as_str().unwrap().contains("[redacted]"), "{record}");
        *records.entry(record["target"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for form in FORMS {
        for (target, places) in TARGETS {
            let name = format!("{target}__{form}");
            assert_eq!(records.get(&name), Some(&places.len()), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_output_contains_a_secret_from_any_place_in_any_form() {
    let numbers: Mutex<HashMap<String, usize>> = Mutex::default();
    let upstream = Upstream::start_with_head(move |_, head| {
        let mut line = head.split(' ');
        let (method, path) = (line.next().unwrap(), line.next().unwrap().to_owned());
        if method == "GET" {
            return respond(&path, 0);
        }
        let mut numbers = numbers.lock().unwrap();
        let number = numbers.entry(path.clone()).or_default();
        *number += 1;
        respond(&path, *number - 1)
    })
    .await;
    let yaml = configuration(&upstream);
    let work = move || {
        let mut outputs = Outputs::default();
        let [json, text] = ["json", "text"].map(|format| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in [
                ("llmload.yml", yaml.clone()),
                ("key", Place::KeyFile.secret()),
                ("header", Place::HeaderFile.secret()),
                (".env", format!("DOTENV_VALUE={}\n", Place::DotEnv.secret())),
            ] {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            run_daemon(folder, format, &mut outputs)
        });
        let archive_in = |folder: &tempfile::TempDir| {
            let file = folder.path().join("failures/failures.jsonl");
            let archive = std::fs::read_to_string(file).unwrap();
            assert_quoted(&archive);
            archive
        };
        archive_in(&json);
        let archive = archive_in(&text);
        let folder = text.path();
        for arguments in [
            &["check", "llmload.yml"][..],
            &["check", "llmload.yml", "--json"],
            &["run", "--report", "report", "--log.level", "trace"],
            &["compare", "report", "report"],
            &["compare", "report", "report", "--format", "markdown"],
            &["compare", "report", "report", "--format", "json"],
            &["failures", "failures"],
            &["failures", "failures", "--json"],
            &["failures", "report"],
        ] {
            outputs.run(folder, arguments);
        }
        outputs.add_files(&folder.join("report"));
        for form in ["plain", "base64"] {
            let capacity = ["capacity", "--config.file", "llmload.yml", "--scenario"];
            let name = format!("values__{form}");
            let search = ["--slo", "success>99%", "--to", "8", "--for", "100ms", "--log.level"];
            let report = ["trace", "--report", "searched"];
            outputs.run(folder, &[&capacity[..], &[&name], &search, &report].concat());
        }
        // A search that a target refuses writes no report.
        if folder.join("searched").is_dir() {
            outputs.add_files(&folder.join("searched"));
        }
        for (target, _) in TARGETS {
            for form in ["plain", "cut_inside"] {
                let name = format!("{target}__{form}");
                let number = archive.lines().position(|line| line.contains(&name)).unwrap() + 1;
                let number = number.to_string();
                outputs.run(folder, &["probe", "--target", &name, "--log.level", "trace"]);
                outputs.run(folder, &["probe", "--target", &name, "--json"]);
                outputs.run(folder, &["failures", "failures", "--show", &number]);
                outputs.run(folder, &["failures", "failures", "--resend", &number]);
                outputs.run(folder, &["failures", "failures", "--resend", &number, "--json"]);
            }
        }
        for name in ["report.json", "report.md", "report.html", "report.csv", "junit.xml"] {
            assert!(outputs.0.keys().any(|output| output.ends_with(name)), "{name}");
        }
        let leaks = outputs.leaks();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// The search itself must find each form of each secret, or the test above proves nothing.
#[test]
fn every_form_of_every_secret_would_be_found() {
    for place in Place::ALL {
        for name in FORMS {
            let mut outputs = Outputs::default();
            outputs.add("output", &format!("before {} after", form(name, &place.secret())));
            outputs.add("output", "another text of the same output");
            assert_eq!(outputs.leaks().len(), 1, "{place:?} as {name}");
        }
    }
}
