//! Reloads and admin commands of a running daemon, over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, pause, request, sample};
use crate::upstream::{Act, Upstream, good, plain};

fn write(daemon: &Daemon, yaml: &str) {
    std::fs::write(daemon.folder.path().join("llmload.yml"), yaml).unwrap();
}

fn reload(daemon: &Daemon) -> (u16, String) {
    let (status, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
    (status, body)
}

fn scenario(status: &str, name: &str) -> Option<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    status["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .find(|scenario| scenario["scenario"] == name)
        .cloned()
}

fn has_ended(status: &str, name: &str) -> Option<()> {
    let scenario = scenario(status, name)?;
    (scenario["state"] == "ended" && scenario["ledger"]["in_flight"] == 0).then_some(())
}

/// Every second file is invalid. The valid files change a setting of the scenario, and add or
/// remove another scenario.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_lose_double_or_abort_no_request() {
    let upstream = Upstream::start(|_| good()).await;
    let url = upstream.url();
    let yaml = move |turn: u32| {
        let guest = if turn.is_multiple_of(4) { "  guest: {rate: 1/s, start: now}\n" } else { "" };
        let broken = if turn % 2 == 1 { "    speed: 3\n" } else { "" };
        format!(
            "targets: {{t: {{base_url: '{url}', model: m}}}}
scenarios:
  s:
    {{start: now, repeat: 1, max_concurrency: {}, max_lag: 10s, schedule: [{{constant: 200/s, for: 6s}}]}}
{guest}{broken}",
            500 + turn
        )
    };
    let exposition = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml(0));
        let mut observed = 0.0;
        for turn in 1..=100 {
            write(&daemon, &yaml(turn));
            let (status, reply) = reload(&daemon);
            assert_eq!(status, if turn % 2 == 1 { 500 } else { 200 }, "{turn}: {reply}");
            let exposition = daemon.get("/metrics").2;
            let last = sample(&exposition, "llmload_config_last_reload_successful", &[]);
            assert_eq!(last, f64::from(u8::from(turn % 2 == 0)));
            let labels = ["scenario=\"s\""];
            let seen = sample(&exposition, "llmload_time_to_first_token_seconds_count", &labels);
            assert!(seen >= observed, "no reload resets a histogram");
            observed = seen;
            // The limit is from the last valid file.
            let limit = sample(&exposition, "llmload_requests_in_flight_limit", &labels);
            assert_eq!(limit, f64::from(500 + turn - turn % 2));
        }
        daemon.wait_for("/api/v1/status", |status| has_ended(status, "s"));
        daemon.get("/metrics").2
    });
    let exposition = exposition.await.unwrap();
    let of_s = |name: &str| sample(&exposition, name, &["scenario=\"s\""]);
    assert_eq!(of_s("llmload_arrivals_total"), 1200.0);
    assert_eq!(of_s("llmload_requests_started_total"), 1200.0);
    assert_eq!(of_s("llmload_requests_total"), 1200.0);
    assert_eq!(of_s("llmload_request_failures_total"), 0.0, "no connection was reset");
    assert_eq!(of_s("llmload_time_to_first_token_seconds_count"), 1200.0);
    assert_eq!(sample(&exposition, "llmload_request_failures_total", &[]), 0.0);
    assert_balanced(&exposition);
}

/// A failed request misses every objective. After the reload, the counts continue with the new
/// threshold.
#[test]
fn objectives_count_each_request_and_follow_a_reload() {
    let yaml = |slo: &str| {
        format!(
            "targets: {{sim: {{simulator: {{faults: {{http_500: 30%}}}}}}}}
scenarios: {{s: {{target: sim, rate: 50/s, request: {{max_tokens: 2}}{slo}}}}}
"
        )
    };
    let mut daemon = Daemon::start(&yaml(
        ", slo: {ttft: {p50: 1us, p99: 1m}, tpot: {p99: 1m}, success_rate: 90%}",
    ));
    let of = |text: &str, family: &str, slo: &str| {
        sample(text, &format!("llmload_slo_{family}"), &[&format!("slo=\"{slo}\"")])
    };
    let text = daemon.wait_for("/metrics", |text| {
        let failed = sample(text, "llmload_request_failures_total", &[]);
        (failed > 10.0 && of(text, "violations_total", "ttft_p50") > 30.0).then(|| text.to_owned())
    });
    assert_eq!(of(&text, "threshold_seconds", "ttft_p99"), 60.0);
    assert_eq!(of(&text, "objective_ratio", "success_rate"), 0.9);
    let all = of(&text, "requests_total", "success_rate");
    for slo in ["ttft_p50", "ttft_p99"] {
        assert!(
            (of(&text, "requests_total", slo) - all).abs() <= 1.0,
            "{slo}: a scrape can miss one request"
        );
    }
    // On a busy machine, the two tokens of a response can arrive together. Then it has no TPOT.
    let tpot = of(&text, "requests_total", "tpot_p99");
    assert!(tpot <= all + 1.0, "{tpot} of {all}");
    assert!(tpot >= of(&text, "violations_total", "success_rate") - 1.0, "a failure misses it");
    let violations = |slo| of(&text, "violations_total", slo);
    assert!((violations("ttft_p50") - all).abs() <= 1.0, "no request is that fast");
    assert!((violations("ttft_p99") - violations("success_rate")).abs() <= 1.0);
    assert_eq!(sample(&text, "llmload_slo_good_requests_total", &[]), 0.0);
    write(&daemon, &yaml(", slo: {ttft: {p99: 2m}}"));
    assert_eq!(reload(&daemon).0, 200);
    let text = daemon.get("/metrics").2;
    assert_eq!(of(&text, "threshold_seconds", "ttft_p99"), 120.0);
    assert!(of(&text, "requests_total", "ttft_p99") >= all - 1.0, "the count started again");
    assert!(!text.contains("ttft_p50") && !text.contains("success_rate"), "{text}");
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_slo_good_requests_total", &[]) > 0.0).then_some(())
    });
    write(&daemon, &yaml(""));
    assert_eq!(reload(&daemon).0, 200);
    assert!(!daemon.get("/metrics").2.contains("llmload_slo_good_requests_total{"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_scenario_drains_while_a_changed_scenario_continues() {
    let gate = CancellationToken::new();
    let held = gate.clone();
    // The target responds to the scenario `guest` only after `gate` is cancelled.
    let upstream = Upstream::start_with_head(move |_, head| {
        if head.contains("x-who: guest") {
            [vec![Act::WaitFor(held.clone())], good()].concat()
        } else {
            good()
        }
    })
    .await;
    let url = upstream.url();
    tokio::task::spawn_blocking(move || {
        let targets = format!(
            "targets:
  t: {{base_url: '{url}', model: m}}
  g: {{base_url: '{url}', model: m, headers: {{x-who: guest}}}}
scenarios:
  s: {{target: t, schedule: [{{name: NAME, constant: RATE, for: 1h}}]}}
"
        );
        let kept = |name: &str, rate: &str| targets.replace("NAME", name).replace("RATE", rate);
        let guest = "  guest: {target: g, start: now, repeat: 1, schedule: [{constant: 100/s, for: 20ms}]}\n";
        let mut daemon = Daemon::start(&(kept("first", "20/s") + guest));
        let label = ["scenario=\"guest\""];
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_in_flight", &label) >= 2.0).then_some(())
        });
        write(&daemon, &kept("second", "40/s").replace("  g: ", "  #g: "));
        let (status, reply) = reload(&daemon);
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reply, "The configuration was reloaded: 1 changed (s), 1 removed (guest).\n");
        // The status no longer shows the scenario, but its series exist until its requests end.
        assert!(scenario(&daemon.get("/api/v1/status").2, "guest").is_none());
        assert_eq!(sample(&daemon.get("/metrics").2, "llmload_requests_in_flight", &label), 2.0);
        let now = scenario(&daemon.get("/api/v1/status").2, "s").unwrap();
        assert_eq!((&now["phase"]["name"], &now["rate_per_second"]), (&"second".into(), &40.0.into()));
        let exposition = daemon.get("/metrics").2;
        assert!(!exposition.contains("phase=\"first\""), "{exposition}");
        assert_balanced(&exposition);
        gate.cancel();
        daemon.wait_for("/metrics", |text| (!text.contains("guest")).then_some(()));
        assert!(!daemon.get("/metrics").2.contains("target=\"g\""));
        let before = sample(&daemon.get("/metrics").2, "llmload_requests_total", &[]);
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_total", &[]) >= before + 10.0).then_some(())
        });
    })
    .await
    .unwrap();
}

#[test]
fn an_invalid_file_is_rejected_with_positions_and_changes_nothing() {
    let good = "target: {simulator: {}}\nrate: 5/s\n";
    let mut daemon = Daemon::start(good);
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) > 0.0).then_some(())
    });
    write(&daemon, "target: {simulator: {}}\nrate: 5\nspeed: 3\n");
    let (status, reply) = reload(&daemon);
    assert_eq!(status, 500);
    assert!(reply.contains("llmload.yml:2:") && reply.contains("llmload.yml:3:"), "{reply}");
    assert!(daemon.get("/api/v1/status").2.contains("\"reload_refused\":\""));
    let config = daemon.get("/config").2;
    assert!(config.contains("5/s") && !config.contains("speed"), "{config}");
    assert_eq!(
        sample(&daemon.get("/metrics").2, "llmload_config_last_reload_successful", &[]),
        0.0
    );
    // After SIGHUP, the problems are in the log.
    daemon.signal("HUP");
    daemon.wait_for_log("llmload.yml:3:");
    write(&daemon, good);
    let unchanged = "The configuration was reloaded: 1 unchanged (default).\n";
    assert_eq!(reload(&daemon), (200, unchanged.into()));
    assert_eq!(
        sample(&daemon.get("/metrics").2, "llmload_config_last_reload_successful", &[]),
        1.0
    );
    std::fs::remove_file(daemon.folder.path().join("llmload.yml")).unwrap();
    let (status, reply) = reload(&daemon);
    assert!(status == 500 && reply.contains("there is no such file"), "{reply}");
}

/// Kubernetes changes a `ConfigMap` by a swap of symbolic links, so the names and times of the
/// files stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_reload_notices_changed_files_and_secrets() {
    let keys = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&keys);
    let upstream = Upstream::start_with_head(move |_, head| {
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
        seen.lock().unwrap().extend(key.map(str::to_owned));
        good()
    })
    .await;
    let yaml = format!(
        "target: {{base_url: '{}', model: m, api_key_file: key}}\nrate: 20/s\nstart: now\n",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, key, rate) in
            [("1", "sk-the-old-one", "20/s"), ("2", "sk-the-new-one", "30/s")]
        {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("key"), key).unwrap();
            std::fs::write(at(version).join("llmload.yml"), yaml.replace("20/s", rate)).unwrap();
        }
        std::os::unix::fs::symlink("1", at("data")).unwrap();
        std::os::unix::fs::symlink("data/llmload.yml", at("llmload.yml")).unwrap();
        std::os::unix::fs::symlink("data/key", at("key")).unwrap();
        let (one, two) = (at("data"), at("swap"));
        let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
        let mut daemon = Daemon::of(llmload, &["--config.auto-reload"], folder);
        let old = |keys: &BTreeSet<String>| keys.contains("sk-the-old-one");
        daemon.wait_for("/metrics", |_| old(&keys.lock().unwrap()).then_some(()));
        assert_eq!(keys.lock().unwrap().len(), 1);
        std::os::unix::fs::symlink("2", &two).unwrap();
        std::fs::rename(&two, &one).unwrap();
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_schedule_target_requests_per_second", &[]) == 30.0).then_some(())
        });
        daemon.wait_for("/metrics", |_| {
            keys.lock().unwrap().contains("sk-the-new-one").then_some(())
        });
        let log = daemon.log.lock().unwrap().clone();
        assert!(!log.contains("sk-the"), "{log}");
    })
    .await
    .unwrap();
}

#[test]
fn auto_reload_watches_the_files_of_a_rejected_configuration_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    std::fs::write(&file, "target: {simulator: {}}\nrate: 5/s\n").unwrap();
    let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let mut daemon = Daemon::of(llmload, &["--config.auto-reload"], folder);
    std::fs::write(&file, "target: {simulator: {}}\nrate: 7/s\nprompts: {p: {lines: new.txt}}\n")
        .unwrap();
    daemon.wait_for_log("new.txt");
    std::fs::write(daemon.folder.path().join("new.txt"), "Say hello.\n").unwrap();
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_schedule_target_requests_per_second", &[]) == 7.0).then_some(())
    });
    assert_eq!(daemon.log.lock().unwrap().matches("configuration rejected").count(), 1);
}

/// Another address is another server, so the old version is no longer true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_a_target_is_unknown_after_a_change_of_its_address() {
    let gate = CancellationToken::new();
    let server = |version: &'static str, held: Option<CancellationToken>| {
        Upstream::start_with_head(move |_, head| {
            if !head.starts_with("GET /version ") {
                return good();
            }
            let response =
                plain("200 OK", "application/json", &format!("{{\"version\":\"{version}\"}}"));
            held.iter().map(|held| Act::WaitFor(held.clone())).chain(response).collect()
        })
    };
    let (old, new) = (server("1.0", None).await, server("2.0", Some(gate.clone())).await);
    tokio::task::spawn_blocking(move || {
        let yaml = |url: String| {
            format!("target: {{base_url: '{url}', model: m}}\nrate: 20/s\nstart: now\n")
        };
        let mut daemon = Daemon::start(&yaml(old.url()));
        let of = |text: &str, version: &str| {
            let version = format!("version=\"{version}\"");
            sample(text, "llmload_target_info", &[&version])
        };
        daemon.wait_for("/metrics", |text| (of(text, "1.0") == 1.0).then_some(()));
        write(&daemon, &yaml(new.url()));
        assert_eq!(reload(&daemon).0, 200);
        let text = daemon.get("/metrics").2;
        assert_eq!((of(&text, "unknown"), sample(&text, "llmload_target_info", &[])), (1.0, 1.0));
        gate.cancel();
        let text =
            daemon.wait_for("/metrics", |text| (of(text, "2.0") == 1.0).then(|| text.to_owned()));
        assert_eq!(sample(&text, "llmload_target_info", &[]), 1.0);
    })
    .await
    .unwrap();
}

/// Sends a POST with a form and one more header. Returns status and body.
fn post(daemon: &Daemon, path: &str, form: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    let length = form.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n{form}"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn admin_commands_take_effect_or_are_rejected_with_a_reason() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {}}, away: {base_url: 'http://127.0.0.1:9/v1'}}
scenarios:
  s: {target: sim, rate: 50/s}
  waiting: {target: away, rate: 1/s}
",
    );
    let of_s = ["scenario=\"s\""];
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &of_s) > 5.0).then_some(())
    });

    assert_eq!(daemon.get("/-/pause").0, 405);
    assert_eq!(
        post(&daemon, "/-/pause", "", ""),
        (200, "The load is paused, so all arrivals are dropped.\n".into())
    );
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_arrivals_dropped_total", &["reason=\"paused\""]) > 5.0).then_some(())
    });
    let paused = daemon.get("/metrics").2;
    assert_eq!(sample(&paused, "llmload_paused", &[]), 1.0);
    assert_balanced(&paused);
    let started = sample(&paused, "llmload_requests_started_total", &of_s);
    let status = daemon.get("/api/v1/status").2;
    let state = |name: &str| scenario(&status, name).unwrap()["state"].clone();
    assert_eq!((state("s"), state("waiting")), ("paused".into(), "waiting".into()));
    assert!(status.contains("\"state\":\"paused\",\"started\""), "{status}");
    assert_eq!(daemon.get("/-/ready").0, 200);
    assert_eq!(sample(&daemon.get("/metrics").2, "llmload_requests_started_total", &of_s), started);
    // A repeated command changes nothing, and the reply says so.
    let again = "The load is paused already, so all arrivals are dropped.\n";
    assert_eq!(post(&daemon, "/-/pause", "", ""), (200, again.into()));
    assert_eq!(post(&daemon, "/-/resume", "", ""), (200, "The load is resumed.\n".into()));
    let none = "The load is not paused, so there was nothing to resume.\n";
    assert_eq!(post(&daemon, "/-/resume", "", ""), (200, none.into()));
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_started_total", &of_s) > started).then_some(())
    });

    let path = "/api/v1/scenarios/s/rate";
    let (status, reply) = post(&daemon, path, "rate=7/s&for=10m", "");
    assert_eq!((status, reply.as_str()), (200, "Scenario s: the rate is set to 7/s for 10m.\n"));
    let set = |text: &str, rate: f64, active: f64| {
        let now = sample(text, "llmload_schedule_target_requests_per_second", &of_s);
        let is_active = sample(text, "llmload_schedule_rate_override_active", &of_s);
        (now == rate && is_active == active).then_some(())
    };
    daemon.wait_for("/metrics", |text| set(text, 7.0, 1.0));
    let of_scenario = scenario(&daemon.get("/api/v1/status").2, "s").unwrap();
    assert!(of_scenario["rate_set_until"].is_number() && of_scenario["rate_set_ignores"].is_null());
    assert_eq!(
        (&of_scenario["state"], &of_scenario["phase"]["name"]),
        (&"running".into(), &"set by hand".into())
    );
    assert!(of_scenario["phase"]["remaining_seconds"].as_f64().is_some_and(|left| left <= 600.0));
    let fetch =
        |path: &str| -> serde_json::Value { serde_json::from_str(&daemon.get(path).2).unwrap() };
    let overridden = fetch(path);
    assert_eq!(
        (&overridden["rate_per_second"], &overridden["schedule_rate_per_second"]),
        (&7.0.into(), &50.0.into())
    );
    assert!(overridden["rate_set_until"].is_number() && overridden["rate_set_ignores"].is_null());
    assert_eq!(daemon.get("/api/v1/scenarios/none/rate").0, 404);
    let back = |words: &str| {
        let (status, _, reply) = request(daemon.address, "DELETE", path).unwrap();
        assert_eq!((status, reply), (200, format!("Scenario s: {words}.\n")));
    };
    back("it follows its schedule again");
    back("no manual rate was set; it follows its schedule");
    daemon.wait_for("/metrics", |text| set(text, 50.0, 0.0));
    let cleared: serde_json::Value = serde_json::from_str(&daemon.get(path).2).unwrap();
    assert_eq!(
        (&cleared["rate_per_second"], &cleared["rate_set_until"]),
        (&50.0.into(), &serde_json::Value::Null)
    );

    for (form, problem) in [
        ("", "`rate` is missing"),
        ("rate=5", "not a rate"),
        ("rate=5/s", "`for` is missing"),
        ("rate=0/s&for=1m", "/-/pause"),
        ("rate=5/s&for=0s", "out of range"),
        ("rate=5/s&for=1m&who=me", "unknown parameter `who`"),
    ] {
        let (status, reply) = post(&daemon, path, form, "");
        assert!(status == 400 && reply.contains(problem), "{form}: {status} {reply}");
    }
    assert_eq!(post(&daemon, "/api/v1/scenarios/none/rate", "rate=5/s&for=1m", "").0, 404);
    assert_eq!(post(&daemon, "/api/v1/scenarios/waiting/rate", "rate=5/s&for=1m", "").0, 409);
    // These requests are from a page of another site, in a browser on this machine.
    for foreign in ["http://evil.example", "null", "http://localhost.evil.example"] {
        assert_eq!(post(&daemon, "/-/quit", "", &format!("origin: {foreign}\r\n")).0, 403);
    }
    assert_eq!(post(&daemon, "/-/resume", "", "origin: http://localhost\r\n").0, 200);

    assert_eq!(post(&daemon, "/-/quit", "", "").0, 200);
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// The override ignores cron and active windows, and the reply names both.
#[test]
fn a_manual_override_reports_the_active_hours_that_it_ignores() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {}, model: simulated-8b}}
scenarios:
  nightly: {target: sim, schedule: [{constant: 1/s, for: 1m}], start: {cron: '0 0 31 12 *'}, active: [{hours: '02:00-02:01'}]}
",
    );
    daemon.wait_for("/api/v1/status", |status| {
        (scenario(status, "nightly").unwrap()["state"] == "idle").then_some(())
    });
    let path = "/api/v1/scenarios/nightly/rate";
    let (status, reply) = post(&daemon, path, "rate=7/s&for=10m", "");
    let words = "the rate is set to 7/s for 10m, ignoring its cron and its active windows";
    assert_eq!((status, reply), (200, format!("Scenario nightly: {words}.\n")));
    daemon.wait_for("/api/v1/status", |status| {
        (scenario(status, "nightly").unwrap()["rate_set_ignores"]
            == "its cron and its active windows")
            .then_some(())
    });
    daemon.wait_for_log(words);
}

#[test]
fn the_end_of_a_manual_override_is_logged() {
    let yaml = |rate: u32| format!("target: {{simulator: {{}}}}\nrate: {rate}/s\n");
    let mut daemon = Daemon::start(&yaml(20));
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) > 0.0).then_some(())
    });
    let path = "/api/v1/scenarios/default/rate";
    assert_eq!(post(&daemon, path, "rate=7/s&for=1s", "").0, 200);
    daemon.wait_for_log("the time of the manual rate is over");
    assert_eq!(post(&daemon, path, "rate=7/s&for=10m", "").0, 200);
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_schedule_target_requests_per_second", &[]) == 7.0).then_some(())
    });
    write(&daemon, &yaml(30));
    assert_eq!(reload(&daemon).0, 200);
    daemon.wait_for_log("the reload changed the schedule and ended the manual rate");
    assert_eq!(daemon.log.lock().unwrap().matches("the time of the manual rate").count(), 1);
}

/// The responses take longer than the grace period, but the old simulator lives until its last
/// response has ended.
#[test]
fn a_removed_simulator_serves_its_last_request_and_then_ends() {
    let yaml = |slots: u32| {
        format!(
            "targets:
  t: {{model: simulated-8b, simulator: {{decode_tokens_per_second: 1, jitter: 0%, full_load_speed: 100%, slots: {slots}}}}}
scenarios:
  s: {{target: t, repeat: 1, request: {{max_tokens: 23}}, schedule: [{{constant: 20/s, for: 200ms}}]}}
"
        )
    };
    let mut daemon = Daemon::start(&yaml(16));
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_time_to_first_token_seconds_count", &[]) == 4.0).then_some(())
    });
    assert_eq!(daemon.threads_named("simulator"), 1);
    write(&daemon, &yaml(17));
    let (status, reply) = reload(&daemon);
    assert_eq!((status, reply.as_str()), (200, "The configuration was reloaded: 1 changed (s).\n"));
    assert_eq!(daemon.threads_named("simulator"), 2);
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_in_flight", &[]) == 0.0).then_some(())
    });
    let exposition = daemon.get("/metrics").2;
    assert_eq!(sample(&exposition, "llmload_requests_total", &[]), 4.0);
    assert_eq!(sample(&exposition, "llmload_request_failures_total", &[]), 0.0);
    assert_balanced(&exposition);
    let begun = Instant::now();
    while daemon.threads_named("simulator") > 1 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "the old simulator ends");
        pause();
    }
}

/// The server restarts while a schedule runs. The requests of the current cycle fail. The next
/// cycle begins when the server is ready, and is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_returns_gets_a_complete_cycle() {
    let loading = Arc::new(AtomicBool::new(false));
    let is_loading = Arc::clone(&loading);
    let upstream = Upstream::start(move |_| {
        let unavailable = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        if is_loading.load(Ordering::Relaxed) {
            vec![Act::Write(unavailable.to_vec())]
        } else {
            good()
        }
    })
    .await;
    let yaml = format!(
        "target: {{base_url: '{}', model: m}}
repeat: 2
schedule: [{{constant: 50/s, for: 1s}}, {{pause: 500ms}}]
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_total", &[]) > 5.0).then_some(())
        });
        loading.store(true, Ordering::Relaxed);
        daemon.wait_for("/api/v1/status", |status| {
            (scenario(status, "default").unwrap()["state"] == "waiting").then_some(())
        });
        let exposition = daemon.get("/metrics").2;
        assert_eq!(sample(&exposition, "llmload_target_ready", &[]), 0.0);
        let failed = sample(&exposition, "llmload_request_failures_total", &[]);
        assert!(failed > 0.0, "failures during an outage are counted");
        assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), 50.0);
        loading.store(false, Ordering::Relaxed);
        daemon.wait_for("/api/v1/status", |status| has_ended(status, "default"));
        let exposition = daemon.get("/metrics").2;
        assert_eq!(sample(&exposition, "llmload_target_ready", &[]), 1.0);
        assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), 100.0);
        assert_eq!(sample(&exposition, "llmload_request_failures_total", &[]), failed);
        assert_balanced(&exposition);
        // One log line for the outage, and one for the return.
        let log = daemon.log.lock().unwrap().clone();
        assert!(failed >= 3.0, "{failed}");
        let count_lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(
            (count_lines("target unavailable"), count_lines("target available again")),
            (1, 1),
            "{log}"
        );
    })
    .await
    .unwrap();
}

/// SIGKILL ends a daemon in the middle of a wall-clock schedule. The next daemon sends at the
/// current rate of the schedule.
#[test]
fn after_a_kill_the_rate_follows_the_wall_clock() {
    let yaml = "target: {simulator: {}}
start: wall_clock
schedule: [{ramp: {from: 0/s, to: 100/s}, for: 10s}, {ramp: {to: 0/s}, for: 10s}]
";
    for _ in 0..2 {
        let mut daemon = Daemon::start(yaml);
        daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let scenario =
                scenario(text, "default").filter(|scenario| scenario["state"] == "running")?;
            let time = status["now"].as_f64().unwrap() % 20.0;
            let rate = if time < 10.0 { time * 10.0 } else { 200.0 - time * 10.0 };
            let shown = scenario["rate_per_second"].as_f64().unwrap();
            // Both values are from one response, but llmload read them some microseconds apart.
            assert!((shown - rate).abs() < 1.0, "{shown} at {time}");
            Some(())
        });
        daemon.child.kill().unwrap();
    }
}

#[test]
fn warm_up_requests_are_sent_first_and_counted_separately() {
    let mut daemon = Daemon::start(
        "target: {simulator: {}}\nwarmup: 3\nstart: now\nrepeat: 1\nschedule: [{constant: 10/s, for: 1s}]\n",
    );
    daemon.wait_for("/api/v1/status", |status| has_ended(status, "default"));
    let exposition = daemon.get("/metrics").2;
    let get = |name: &str| sample(&exposition, name, &[]);
    assert_eq!(get("llmload_warmup_requests_total"), 3.0);
    assert_eq!(get("llmload_arrivals_total"), 10.0);
    assert_eq!(get("llmload_time_to_first_token_seconds_count"), 10.0);
    assert_balanced(&exposition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_daemons_send_one_schedule() {
    // How often each daemon sent each prompt. A header identifies the daemon, and the length of the
    // request identifies the prompt.
    let sent = Arc::new(Mutex::new(vec![BTreeMap::<usize, u32>::new(); 3]));
    let log = Arc::clone(&sent);
    let upstream = Upstream::start_with_head(move |_, head| {
        let value = |name: &str| -> Option<usize> {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().parse().unwrap())
        };
        if let (Some(daemon), Some(length)) = (value("x-daemon:"), value("content-length:")) {
            *log.lock().unwrap()[daemon].entry(length).or_default() += 1;
        }
        good()
    })
    .await;
    let prompts: Vec<String> = (1..=21).map(|length| "x".repeat(length)).collect();
    let yaml = format!(
        "target: {{base_url: '{}', model: m, headers: {{x-daemon: '?'}}}}
prompts: {}
start: wall_clock
max_concurrency: 10
max_lag: 1m
schedule: [{{constant: 21/s, for: 1s}}]
",
        upstream.url(),
        serde_json::to_string(&prompts).unwrap()
    );
    let (expositions, sent) = tokio::task::spawn_blocking(move || {
        let daemon = |shard: u32| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(
                folder.path().join("llmload.yml"),
                yaml.replace('?', &shard.to_string()),
            )
            .unwrap();
            let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
            Daemon::of(llmload, &["--shard", &format!("{shard}/3")], folder)
        };
        let mut daemons: Vec<_> = (0..3).map(daemon).collect();
        let arrivals = |text: &str| sample(text, "llmload_arrivals_total", &[]);
        let expositions: Vec<_> = daemons
            .iter_mut()
            .map(|daemon| {
                daemon.wait_for("/metrics", |text| (arrivals(text) > 30.0).then(|| text.to_owned()))
            })
            .collect();
        let sent = sent.lock().unwrap().clone();
        (expositions, sent)
    })
    .await
    .unwrap();
    let shortest = *sent.iter().flat_map(BTreeMap::keys).min().unwrap();
    for (shard, counts) in sent.iter().enumerate() {
        let indices: Vec<_> = counts.keys().map(|length| length - shortest).collect();
        assert_eq!(
            indices,
            (shard..21).step_by(3).collect::<Vec<_>>(),
            "each daemon sends the prompts of its shard and no others"
        );
        let (fewest, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - fewest <= 1, "each prompt is sent once in a cycle: {counts:?}");
    }
    for (shard, (exposition, cap)) in expositions.iter().zip([4.0, 3.0, 3.0]).enumerate() {
        assert_eq!(sample(exposition, "llmload_requests_in_flight_limit", &[]), cap);
        assert_eq!(sample(exposition, "llmload_shard_info", &[&format!("shard=\"{shard}\"")]), 1.0);
        let rate = sample(exposition, "llmload_schedule_target_requests_per_second", &[]);
        assert!((rate - 7.0).abs() < 1e-9);
    }
}
