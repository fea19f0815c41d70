//! Runs that end early: a refused key, a signal, a full disk. The report and the exit code contain
//! the reason.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use llmload::measurement::Failure;
use llmload::report::{Outcome, ReasonCode};
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, TEST_TIMEOUT};
use crate::run::{RunOutput, command, on, ran, run_against};
use crate::upstream::{Act, Upstream, good, plain};

const LIST: &str = r#"{"object":"list","data":[{"id":"m"}]}"#;
const SPENT: &str = r#"{"error":{"message":"no credit left","type":"insufficient_quota"}}"#;

/// Starts a server with these scripts for the list of models and for requests.
async fn serving(
    models: impl Fn() -> Vec<Act> + Send + Sync + 'static,
    chat: impl Fn() -> Vec<Act> + Send + Sync + 'static,
) -> Upstream {
    Upstream::start_with_head(move |_, head| match head.split(' ').nth(1).unwrap_or_default() {
        "/v1/models" => models(),
        "/v1/chat/completions" => chat(),
        _ => plain("404 Not Found", "application/json", "{}"),
    })
    .await
}

fn refused() -> Vec<Act> {
    plain("401 Unauthorized", "application/json", r#"{"error":"Unauthorized"}"#)
}

fn forbidden() -> Vec<Act> {
    plain("403 Forbidden", "application/json", r#"{"error":"no"}"#)
}

fn listed() -> Vec<Act> {
    plain("200 OK", "application/json", LIST)
}

fn spent() -> Vec<Act> {
    plain("429 Too Many Requests", "application/json", SPENT)
}

/// Returns a configuration with a schedule of one second. A run with this configuration waits ten
/// minutes for its target.
fn waiting(upstream: &Upstream, keys: &str) -> String {
    format!(
        "targets: {{t: {{base_url: '{}'{keys}}}}}
scenarios: {{s: {{target: t, schedule: [{{constant: 10/s, for: 1s}}]}}}}
",
        upstream.url()
    )
}

/// Checks that a run has failed before its schedule for a reason that contains all these texts.
fn assert_refused(ran: RunOutput, texts: &[&str], model: &str) {
    assert_eq!(ran.code, 4, "{}", ran.log);
    let report = ran.report.unwrap();
    assert_eq!(report.verdict.result, Outcome::Invalid);
    assert_eq!(report.verdict.reasons[0].code, ReasonCode::Refused);
    let reason = &report.verdict.reasons[0].text;
    for text in texts {
        assert!(reason.contains(text), "{reason} lacks {text}");
    }
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed(&ran.table).contains(&squeezed(reason)), "{}", ran.table);
    assert!(ran.log.trim_end().ends_with(reason), "{}", ran.log);
    assert!(ran.files.iter().all(|file| file.contains("invalid")));
    let phase = &report.routes[0].phases[0];
    assert!(!phase.sent && phase.statistics.seconds == 0.0, "{phase:?}");
    assert_eq!((report.routes[0].ledger.arrivals, report.routes[0].model.as_str()), (0, model));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_ends_a_run_at_once_with_the_reason() {
    let upstream = serving(refused, refused).await;
    let unnamed = run_against(waiting(&upstream, ""), &[]).await;
    assert_refused(unnamed, &["/models returned 401", "no key is set", "api_key_env"], "");
    let upstream = serving(forbidden, good).await;
    let unnamed = run_against(waiting(&upstream, ""), &[]).await;
    assert_refused(unnamed, &["/models returned 403"], "");
    // The configuration names the model, so llmload does not need the list. One request shows that
    // the key is refused.
    let upstream = serving(refused, refused).await;
    let named = run_against(waiting(&upstream, ", model: x"), &[]).await;
    assert_refused(named, &["warm-up", "auth", "401", "api_key_env"], "x");
    assert_eq!(upstream.requests.load(Relaxed), 2, "the list of models and one request");
}

/// Some keys have access to the API, but not to the list of models.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_access_to_the_list_of_models_does_not_end_a_run() {
    let upstream = serving(forbidden, good).await;
    let ran = run_against(waiting(&upstream, ", model: x"), &[]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.table, ran.log);
    assert_eq!(ran.report.unwrap().routes[0].ledger.succeeded, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_without_access_or_quota_ends_a_run_at_its_first_request() {
    for (chat, class) in [(refused as fn() -> Vec<Act>, "auth"), (spent, "quota")] {
        let upstream = serving(listed, chat).await;
        let yaml = waiting(&upstream, "").replace("schedule", "warmup: 5, schedule");
        let ran = run_against(yaml, &[]).await;
        assert_refused(ran, &["warm-up", class], "m");
        let chats = upstream.requests.load(Relaxed) - 1;
        assert_eq!(chats, 1, "the warm-up requests");
    }
}

/// Somebody can correct the key on the server while the daemon runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_ends_no_daemon_and_its_status_contains_the_reason() {
    let corrected = CancellationToken::new();
    let (models, chat) = (corrected.clone(), corrected.clone());
    let upstream = serving(
        move || if models.is_cancelled() { listed() } else { refused() },
        move || if chat.is_cancelled() { good() } else { refused() },
    )
    .await;
    let yaml = waiting(&upstream, "");
    let warming = waiting(&upstream, ", model: x").replace("schedule", "warmup: 10000, schedule");
    tokio::task::spawn_blocking(move || {
        let mut daemons = [Daemon::start(&yaml), Daemon::start(&warming)];
        for (daemon, texts) in daemons
            .iter_mut()
            .zip([["/models returned 401", "no key is set"], ["its warm-up", "auth: HTTP 401"]])
        {
            daemon.wait_for("/api/v1/status", |status| {
                texts.iter().all(|text| status.contains(text)).then_some(())
            });
        }
        corrected.cancel();
        daemons[0]
            .wait_for("/api/v1/status", |status| status.contains("\"running\"").then_some(()));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_success_names_the_classes_of_all_failures() {
    let chats = AtomicU64::new(0);
    let chat = move || if chats.fetch_add(1, Relaxed) < 3 { refused() } else { spent() };
    let upstream = serving(listed, chat).await;
    let ran = run_against(on(&upstream.url(), "", "constant: 20/s, for: 500ms"), &[]).await;
    ran.assert_code(3);
    let (auth, quota) = (Failure::Auth.as_str(), Failure::Quota.as_str());
    let verdict = ran.report.unwrap().verdict;
    let reasons: Vec<_> = verdict.reasons.into_iter().map(|reason| reason.text).collect();
    let expected = format!("all 10 requests failed: 7 {quota}, 3 {auth}");
    assert!(reasons.contains(&expected), "{reasons:?}");
    // The first failure of a class is not one of several, so the log has no count.
    assert!(!ran.log.contains("not_logged=0"), "{}", ran.log);
}

/// A closed terminal ends a run as Ctrl-C does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_interrupts_a_run_and_the_report_is_written() {
    let begun = CancellationToken::new();
    let trigger = begun.clone();
    let chat = move || {
        trigger.cancel();
        good()
    };
    let upstream = serving(listed, chat).await;
    let folder = tempfile::tempdir().unwrap();
    let run = command(folder.path(), &on(&upstream.url(), "", "constant: 20/s, for: 10m"), &[]);
    // A program inherits an ignored SIGHUP, for example from `nohup`.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(run.get_program()).args(run.get_args());
    command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    begun.cancelled().await;
    let pid = child.id().to_string();
    let signal = |name: &str| Command::new("kill").args(["-s", name, &pid]).status().unwrap();
    assert!(signal("HUP").success());
    let mut output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Ok(output) = tokio::time::timeout(TEST_TIMEOUT, &mut output).await else {
        signal("KILL");
        panic!("SIGHUP does not end the run: {:?}", output.await);
    };
    let output = output.unwrap();
    let ran = ran(folder.path(), &output);
    assert_eq!(ran.code, 4, "{}", ran.log);
    assert!(ran.table.contains("the run was interrupted"), "{}\n{}", ran.table, ran.log);
    assert!(ran.report.unwrap().interrupted);
}

/// Runs `llmload run` after a shell command.
async fn run_after(shell: &'static str, folder: &Path, yaml: &str) -> RunOutput {
    let run = command(folder, yaml, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]).arg(run.get_program());
    command.args(run.get_args()).current_dir(folder);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    ran(folder, &output)
}

/// `ulimit -f` limits the size of a file. A write beyond it fails, as a write to a full disk does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_does_not_fit_on_the_disk_leaves_the_table_and_no_half_of_a_file() {
    let upstream = Upstream::start(|_| good()).await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = on(&upstream.url(), "", "constant: 20/s, for: 500ms");
    let ran = run_after("trap '' XFSZ; ulimit -f 1", folder.path(), &yaml).await;
    assert_eq!(ran.code, 1, "{}", ran.log);
    assert!(ran.table.contains("10 arrivals = 10 sent + 0 dropped"), "{}", ran.table);
    let last = ran.log.lines().last().unwrap();
    for text in ["cannot write out/report.json: ", "File too large", "--report"] {
        assert!(last.contains(text), "{last}");
    }
    let files: Vec<_> = std::fs::read_dir(folder.path().join("out")).unwrap().collect();
    assert!(files.is_empty(), "{files:?}");
}
