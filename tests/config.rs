//! Tests of the configuration loader: the meaning of valid files, the exact messages for invalid
//! files, and the masking of secrets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llmload::calendar::{Anchor, Cron, Zone};
use llmload::config::{self, Invalid, UrlOptions};
use llmload::plan::{Auth, Breaker, Location, Plan, RateLimits, Scenario, SecretOrigin, Start};
use llmload::protocol::Terminal;
use llmload::protocol::prompt::Content;
use llmload::schedule::{Area, Arrivals, Load, Rate, Repeat, Shard};
use llmload::slo::Share;
use secrecy::ExposeSecret;

/// A secret that no message contains.
const CANARY: &str = "sk-canary-0123456789";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn environment(name: &str) -> Option<OsString> {
    let known = HashMap::from([
        ("STAGING_API_KEY", CANARY),
        ("TEAM_TOKEN", CANARY),
        ("SECRET_VALUE", CANARY),
        ("RATE", "40/h"),
        ("MULTI_LINE", "sk-canary-0123456789\nsecond"),
    ]);
    known.get(name).map(Into::into)
}

fn parse(text: &str) -> Result<Plan, Invalid> {
    config::parse(text, "llmload.yml", None, &environment)
}

/// Returns the first chat message in the request of arrival `k`.
fn first_message(scenario: &Scenario, k: u64) -> String {
    let prompt = scenario.prompts.prompt_for(7, &scenario.name, k, None).unwrap();
    let Content::Conversation(messages) = prompt.content else { panic!("a payload") };
    messages[0].text.clone().into_owned()
}

/// Returns all messages, one per line.
fn problems_of(text: &str) -> String {
    parse(text).expect_err("an invalid text").to_string()
}

/// Compares the messages of each file in the folder with the text beside the file.
fn assert_expected_messages(folder: &str, least: usize, message: impl Fn(&Path) -> String) {
    let folder = crate::folder(folder);
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yml"));
    files.sort();
    assert!(files.len() > least);
    let mut differ = Vec::new();
    for file in files {
        let message = message(&file).replace(&format!("{}/", folder.display()), "") + "\n";
        assert!(!message.contains("canary") && !message.contains("$2y"), "{message}");
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &message).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != message {
            differ.push(format!("{}:\n{message}", expected.display()));
        }
    }
    assert!(differ.is_empty(), "UPDATE_EXPECTED=1 accepts these:\n{}", differ.join("\n"));
}

#[test]
fn invalid_files_give_exactly_the_expected_messages() {
    assert_expected_messages("invalid", 25, |file| {
        let text = fs::read_to_string(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let invalid = config::parse(&text, name, Some(&folder("invalid")), &environment);
        invalid.expect_err(name).to_string()
    });
}

#[test]
fn invalid_web_files_give_exactly_the_expected_messages() {
    assert_expected_messages("web", 10, |file| {
        let invalid = llmload::web::check_file(file);
        invalid.expect_err(&file.display().to_string()).to_string()
    });
}

/// A semicolon separates the message of a problem from its remedy.
#[test]
fn a_quoted_value_with_a_semicolon_stays_in_its_message() {
    let text = "target: http://localhost:8000/v1\nrate: 'a; b/s'\nmax_lag: 'soon; later'\n";
    let invalid = parse(text).unwrap_err();
    let checked = llmload::check::FileCheck::invalid(&invalid);
    let json = serde_json::to_value(&checked).unwrap();
    let problem = |i: usize| {
        let text = |field: &str| json["problems"][i][field].as_str().unwrap().to_owned();
        (text("path"), text("message"), text("remedy"))
    };
    let (path, message, remedy) = problem(0);
    assert_eq!((path.as_str(), message.as_str()), ("rate", "`a; b/s` is not a rate"));
    assert_eq!(remedy, "write a number and a unit, such as `5/s`, `300/m` or `40/h`");
    let (path, message, remedy) = problem(1);
    assert_eq!((path.as_str(), message.as_str()), ("max_lag", "`soon; later` is not a duration"));
    assert!(remedy.starts_with("write whole numbers of `d`"), "{remedy}");
    let fields: Vec<_> = json["problems"][0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["column", "line", "message", "path", "remedy"]);
}

#[test]
fn ten_problems_are_reported_at_once_with_their_places() {
    let text = fs::read_to_string(folder("invalid/ten_problems.yml")).unwrap();
    let invalid = parse(&text).unwrap_err();
    let places: Vec<(usize, usize, &str)> =
        invalid.problems.iter().map(|p| (p.line, p.column, p.path.as_str())).collect();
    assert_eq!(
        places,
        [
            (1, 1, "sede"),
            (4, 15, "targets.staging.base_url"),
            (5, 5, "targets.staging.api_key"),
            (6, 25, "targets.staging.timeouts.connect"),
            (9, 13, "scenarios.baseline.target"),
            (10, 27, "scenarios.baseline.request.max_tokens"),
            (10, 41, "scenarios.baseline.request.extra.n"),
            (12, 20, "scenarios.baseline.schedule[0].constant"),
            (13, 32, "scenarios.baseline.schedule[1].ramp.to"),
            (14, 9, "scenarios.baseline.schedule[2]"),
            (16, 5, "scenarios.baseline.max_lag"),
        ]
    );
    // Each place is the start of a key or of its value.
    for (line, column, path) in places {
        let line = text.lines().nth(line - 1).unwrap();
        let last = path.rsplit('.').next().unwrap();
        let there = &line[column - 1..];
        let key = line[..column - 1].trim_end_matches([' ', ':']);
        assert!(
            there.starts_with(last) || key.ends_with(last) || there.starts_with('{'),
            "{path}: {there}"
        );
    }
}

#[test]
fn an_unusual_url_is_accepted_with_a_warning() {
    let plan = parse("target: https://a.services.ai.azure.com/models/\nrate: 1/s\n").unwrap();
    let Location::Url(url) = &plan.scenarios[0].target.location else { panic!("not a URL") };
    assert_eq!(url.as_str(), "https://a.services.ai.azure.com/models");
    let [warning] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert!(
        warning.starts_with("llmload.yml:1:9: target: only Azure AI expects `/models`"),
        "{warning}"
    );
    let plan = parse("target: http://localhost:8000/\nrate: 1/s\n").unwrap();
    let [warning] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert!(
        warning.ends_with("the URL has no path; add `/v1`, which most servers expect"),
        "{warning}"
    );
    let message = problems_of("target: http://localhost:8000/v1/completions\nrate: 1/s\n");
    assert!(message.contains("llmload adds `/completions` to the URL itself"), "{message}");
}

#[test]
fn the_shortest_file_has_the_documented_meaning() {
    let plan = config::load(&folder("valid/shortest.yml"), &environment).unwrap();
    assert_eq!((plan.seed, plan.scenarios.len(), plan.warnings.len()), (0, 1, 0));
    let scenario = &plan.scenarios[0];
    assert_eq!((scenario.name.as_str(), scenario.target.name.as_str()), ("default", "default"));
    let Location::Url(url) = &scenario.target.location else { panic!("not a URL") };
    assert_eq!(url.as_str(), "http://localhost:8000/v1");
    assert!(matches!(scenario.target.auth, Auth::None));
    assert_eq!(scenario.target.model, None);
    assert_eq!(scenario.prompts.name, "builtin");
    assert_eq!(scenario.repeat, Repeat::Forever);
    assert_eq!(scenario.start, Start::WhenReady);
    assert_eq!(scenario.max_concurrency.get(), 256);
    assert_eq!(scenario.max_lag, Duration::from_millis(500));
    assert_eq!(scenario.request.max_tokens.get(), 256);
    assert!(scenario.request.stream);
    let [phase] = scenario.schedule.phases() else { panic!("not one phase") };
    assert_eq!(phase.name, "constant 5/s");
    assert_eq!(phase.load, Load::Constant("5/s".parse().unwrap()));
    assert_eq!(phase.length, Duration::from_hours(1));
}

#[test]
fn levels_and_loops_expand_to_phases_with_names() {
    let text = "
target: http://localhost:8000/v1
arrivals: {burstiness: 0.5}
schedule:
  - {name: stairs, steps: {from: 10/s, to: 25/s, by: 10/s}, for: 2m}
  - {steps: {from: 3/s, to: 1/s, by: 2/s}, for: 1m}
  - {concurrency: [5, 7], for: 1m}
  - repeat: 2
    phases:
      - {sine: {mean: 20/s, amplitude: 15/s, period: 1h}, for: 6h}
      - {repeat: 2, phases: [{name: burst, constant: 50/s, for: 10s}, {constant: 10/s, for: 50s}]}
      - {ramp: {to: 0/s}, for: 1m}
";
    let plan = parse(text).unwrap();
    let [scenario] = plan.scenarios.as_slice() else { panic!("not one scenario") };
    assert_eq!(scenario.arrivals, Arrivals::Burstiness(0.5));
    let phases: Vec<_> =
        scenario.schedule.phases().iter().map(|p| (p.name.as_str(), p.load.to_string())).collect();
    let once = [
        ("sine 20/s ± 15/s", "sine 20/s ± 15/s"),
        ("burst", "constant 50/s"),
        ("constant 10/s", "constant 10/s"),
        ("burst", "constant 50/s"),
        ("constant 10/s", "constant 10/s"),
        ("ramp 10/s to 0/s", "ramp 10/s to 0/s"),
    ];
    let mut expected = vec![
        ("stairs 10/s", "constant 10/s"),
        ("stairs 20/s", "constant 20/s"),
        ("stairs 25/s", "constant 25/s"),
        ("constant 3/s", "constant 3/s"),
        ("constant 1/s", "constant 1/s"),
        ("concurrency 5", "concurrency 5"),
        ("concurrency 7", "concurrency 7"),
    ];
    expected.extend(once);
    expected.extend(once);
    let phases: Vec<_> = phases.iter().map(|(name, load)| (*name, load.as_str())).collect();
    assert_eq!(phases, expected);
    assert_eq!(scenario.schedule.phases()[0].length, Duration::from_mins(2));
    // Before the loop, the phases send 2 · (10 + 20 + 25) + 3 + 1 arrivals per second for one
    // minute. The 2 is the length of a stair in minutes. Each repetition of the loop adds a sine,
    // four bursts and a ramp.
    let minutes = 2 * (10 + 20 + 25) + 3 + 1;
    let per_loop = 20 * 6 * 3600 + 2 * (50 * 10 + 10 * 50) + 10 * 60 / 2;
    assert_eq!(
        scenario.schedule.total(),
        Area::from_micro((minutes * 60 + 2 * per_loop) * 1_000_000)
    );
}

#[test]
fn start_and_active_windows_have_the_documented_meaning() {
    let scenario = |keys: &str| {
        let plan = parse(&format!("target: http://localhost:8000/v1\n{keys}\n")).unwrap();
        (plan.scenarios[0].clone(), plan.warnings)
    };
    let zone = |name| Zone::by_name(name).unwrap();
    assert_eq!(scenario("rate: 1/s").0.active, None);
    let (curve, warnings) = scenario("start: wall_clock\nschedule: [{constant: 1/s, for: 36h}]");
    assert_eq!((curve.start, curve.repeat), (Start::WallClock(Anchor::Epoch), Repeat::Forever));
    assert!(warnings.is_empty(), "{warnings:?}");
    let midnight =
        "start: {wall_clock: {timezone: europe/berlin}}\nschedule: [{constant: 1/s, for: ";
    let (daily, warnings) = scenario(&format!("{midnight}24h}}]"));
    assert_eq!(daily.start, Start::WallClock(Anchor::Midnight(zone("Europe/Berlin"))));
    assert!(warnings.is_empty(), "{warnings:?}");
    let (_, warnings) = scenario(&format!("{midnight}36h}}]"));
    assert!(
        warnings[0].contains("start: the schedule lasts 1d12h, but starts again"),
        "{warnings:?}"
    );

    let cron = |keys: &str, length: &str| {
        scenario(&format!("start: {{cron: {keys}}}\nschedule: [{{constant: 1/s, for: {length}}}]"))
    };
    let (nightly, warnings) = cron("\"0 2 * * *\", timezone: Asia/Shanghai", "24h");
    assert_eq!(nightly.start, Start::Cron(Cron::new("0 2 * * *", zone("Asia/Shanghai")).unwrap()));
    assert!(matches!(nightly.repeat, Repeat::Times(once) if once.get() == 1));
    assert!(warnings.is_empty(), "{warnings:?}");
    let (utc, _) = cron("\"@daily\"", "1h");
    assert_eq!(utc.start, Start::Cron(Cron::new("@daily", Zone::UTC).unwrap()));
    let (_, warnings) = cron("\"0 2 * * *\", timezone: Europe/Berlin", "24h");
    assert!(
        warnings[0].contains("start: the cron can fire while the schedule, which lasts 1d"),
        "{warnings:?}"
    );
    let twice = "start: {cron: '0 * * * *'}\nrepeat: 2\nschedule: [{constant: 1/s, for: 31m}]";
    let (twice, warnings) = scenario(twice);
    assert!(matches!(twice.repeat, Repeat::Times(times) if times.get() == 2));
    assert!(warnings[0].contains("which lasts 1h2m, still runs"), "{warnings:?}");

    let active =
        |keys: &str| scenario(&format!("rate: 1/s\nactive: {keys}")).0.active.unwrap().to_string();
    assert_eq!(
        active("{days: [mon-fri, sun], hours: \"08:00-20:00\", timezone: Europe/Berlin}"),
        "mon-fri,sun 08:00-20:00 Europe/Berlin"
    );
    assert_eq!(
        active("[{days: sat-sun}, {hours: 22:00-06:00}]"),
        "sat-sun all day UTC, daily 22:00-06:00 UTC"
    );
}

#[test]
fn the_long_form_has_the_documented_meaning() {
    let plan = config::load(&folder("valid/long_form.yml"), &environment).unwrap();
    assert_eq!(plan.seed, 7);
    let [baseline, other] = plan.scenarios.as_slice() else { panic!("not two scenarios") };
    let target = &baseline.target;
    let Location::Url(url) = &target.location else { panic!("not a URL") };
    assert_eq!(url.as_str(), "http://localhost:8000/v1");
    let Auth::Bearer(key) = &target.auth else { panic!("not bearer") };
    assert_eq!(key.value.expose_secret(), CANARY);
    assert_eq!(key.origin, SecretOrigin::Variable("STAGING_API_KEY".into()));
    assert_eq!(target.model.as_deref(), Some("Qwen/Qwen2.5-7B-Instruct"));
    assert_eq!(target.terminal, Terminal::FinishReason);
    let headers: Vec<_> =
        target.headers.iter().map(|(n, v)| (n.as_str(), v.expose_secret())).collect();
    assert_eq!(headers, [("x-team", "staging"), ("x-token", CANARY)]);
    let names: Vec<_> = baseline.schedule.phases().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        ["steady", "climb", "constant 5/s", "constant 5/s #2", "pause", "concurrency 10"]
    );
    let rate = |text: &str| -> Rate { text.parse().unwrap() };
    assert_eq!(
        baseline.schedule.phases()[1].load,
        Load::Ramp { from: rate("5/s"), to: rate("50/s") }
    );
    assert!(matches!(baseline.repeat, Repeat::Times(n) if n.get() == 3));
    assert_eq!(first_message(baseline, 0), "What is the tallest mountain in South America?");
    assert_eq!(baseline.max_concurrency.get(), 256);

    let Location::Simulator(settings) = &other.target.location else { panic!("not simulated") };
    assert_eq!((settings.slots, settings.faults.http_429, settings.seed), (16, 0.01, 7));
    assert_eq!(other.schedule.phases()[0].load, Load::Constant(rate("40/h")));
    assert_eq!(first_message(other, 9), "Only here.");
    // The warnings are about `few` and `long`, which no scenario uses.
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    assert!(
        plan.warnings[0].contains("long_form.yml:15:3: prompts.few: no scenario uses it"),
        "{}",
        plan.warnings[0]
    );
}

/// For each arrival of a replay: its due time in nanoseconds, and its prompt and response lengths.
fn replayed(file: &str, keys: &str) -> Vec<(u128, Option<u32>, Option<u32>)> {
    let text =
        format!("target: http://localhost:1/v1\nschedule: [{{replay: {{file: {file}}}{keys}}}]\n");
    let plan = config::parse(&text, "llmload.yml", Some(&folder("traces")), &environment).unwrap();
    let schedule = &plan.scenarios[0].schedule;
    let marks = (0..schedule.total().micro() / 1_000_000).map(|k| {
        let mark = Area::from_micro(u64::try_from(k).unwrap() * 1_000_000 + 500_000);
        let lengths = schedule.phase_and_lengths(mark).unwrap().1.unwrap();
        (
            schedule.due(mark).unwrap().as_nanos(),
            lengths.input.map(u32::from),
            lengths.output.map(u32::from),
        )
    });
    marks.collect()
}

#[test]
fn the_published_trace_formats_can_be_replayed() {
    let (ms, s) = (1_000_000, 1_000_000_000);
    // A file with times in steps of 100 ns, line ends of Windows, and a row for an empty response.
    assert_eq!(
        replayed("azure-2023.csv", ""),
        [
            (0, Some(4808), Some(10)),
            (52 * ms, Some(3180), Some(8)),
            (52 * ms, Some(110), Some(27)),
            (60 * s + 100, Some(7433), Some(1)),
        ]
    );
    // A file that crosses midnight, with offsets from UTC and a second without decimals.
    assert_eq!(
        replayed("azure-2024.csv", ""),
        [
            (0, Some(2162), Some(5)),
            (7_405_000, Some(2399), Some(6)),
            (990_070_000, Some(76), Some(15)),
            (s, Some(2376), Some(4)),
        ]
    );
    let mooncake =
        [(0, Some(6955), Some(52)), (0, Some(6472), Some(26)), (3053 * ms, Some(947), Some(1))];
    assert_eq!(replayed("mooncake.jsonl", ""), mooncake);
    let bailian =
        [(0, Some(42), Some(132)), (0, Some(20), Some(7)), (2386 * ms, Some(190), Some(1))];
    assert_eq!(replayed("bailian.jsonl", ""), bailian);
    // A file with a failed request, whose response is empty.
    let burstgpt = [
        (0, Some(472), Some(18)),
        (40_500 * ms, Some(1087), Some(230)),
        (113 * s, Some(417), Some(1)),
    ];
    assert_eq!(replayed("burstgpt.csv", ""), burstgpt);
    // A file with another order of columns, a byte order mark, quotes, blank lines and absent
    // lengths.
    let plain = [(0, Some(512), Some(64)), (0, None, None), (2750 * ms, Some(8), Some(32))];
    assert_eq!(replayed("plain.csv", ""), plain);
    let lines =
        [(0, Some(512), Some(64)), (125 * ms, None, Some(32)), (3600 * s, Some(8), Some(1))];
    assert_eq!(replayed("plain.jsonl", ""), lines);
    // With 3599 s, the phase ends before the last row.
    assert_eq!(replayed("plain.jsonl", ", for: 3599s"), lines[..2]);
    assert_eq!(replayed("plain.jsonl", ", for: 1h"), lines);
}

/// For each row of a trace: its hash ids, and the tokens of a block.
fn blocks(keys: &str) -> Vec<(Vec<u64>, u32)> {
    let text = format!("target: http://localhost:1/v1\nschedule: [{{replay: {{{keys}}}}}]\n");
    let plan = config::parse(&text, "llmload.yml", Some(&folder("traces")), &environment).unwrap();
    let schedule = &plan.scenarios[0].schedule;
    let rows = u64::try_from(schedule.total().arrivals()).unwrap();
    let marks = (0..rows).map(|k| Area::from_micro(k * 1_000_000 + 500_000));
    marks
        .map(|mark| {
            let (phase, lengths) = schedule.phase_and_lengths(mark).unwrap();
            let blocks = schedule.blocks(phase, lengths.unwrap());
            (blocks.ids.to_vec(), blocks.size)
        })
        .collect()
}

#[test]
fn the_hash_ids_of_a_trace_belong_to_their_rows() {
    let mooncake = blocks("file: mooncake.jsonl");
    assert_eq!(mooncake[0].0.last(), Some(&2354));
    assert_eq!((mooncake[1].0.len(), mooncake[2].clone()), (13, (vec![0, 2367], 512)));
    let bailian = blocks("file: bailian.jsonl");
    assert_eq!(bailian[..2], [(vec![1089, 1090, 1091], 16), (vec![1089], 16)]);
    let plain = blocks("file: plain-blocks.jsonl, block_size: 64");
    assert_eq!(plain, [(vec![u64::MAX, 1], 64), (vec![7, 8, 9], 64), (vec![], 64)]);
}

#[test]
fn the_speed_divides_the_length_of_a_replay_without_for() {
    let text = "target: http://localhost:1/v1
schedule:
  - {replay: {file: mooncake.jsonl}}
  - {replay: {file: mooncake.jsonl, speed: 2}}
  - {replay: {file: mooncake.jsonl, speed: 0.5}, for: 1m}
  - {repeat: 2, phases: [{name: again, replay: {file: mooncake.jsonl}, for: 2s}, {ramp: {from: 0/s, to: 1/s}, for: 2s}]}
";
    let plan = config::parse(text, "llmload.yml", Some(&folder("traces")), &environment).unwrap();
    let schedule = &plan.scenarios[0].schedule;
    let phases: Vec<_> = (0..schedule.phases().len())
        .map(|index| schedule.phase_span(index).unwrap())
        .map(|placed| {
            (placed.phase.name.as_str(), placed.phase.length.as_micros(), placed.total.arrivals())
        })
        .collect();
    assert_eq!(
        phases,
        [
            ("replay mooncake.jsonl", 3_053_000, 3),
            ("replay mooncake.jsonl #2", 1_526_500, 3),
            ("replay mooncake.jsonl #3", 60_000_000, 3),
            ("again", 2_000_000, 2),
            ("ramp 0/s to 1/s", 2_000_000, 1),
            ("again", 2_000_000, 2),
            ("ramp 0/s to 1/s", 2_000_000, 1),
        ]
    );
    // At half the speed, the trace takes twice the time.
    let eighth = Area::from_micro(8_500_000);
    assert_eq!(schedule.due(eighth).unwrap().as_micros(), 3_053_000 + 1_526_500 + 6_106_000);
}

/// A trace of a week can be too large, although its first hour is not.
#[test]
fn the_size_limit_of_a_trace_counts_only_the_rows_within_its_phase() {
    let folder = tempfile::tempdir().unwrap();
    let load = |keys: &str| {
        let text = format!("target: http://a/v1\nschedule: [{{replay: {{file: a.csv}}{keys}}}]\n");
        config::parse(&text, "x", Some(folder.path()), &environment)
            .map(|plan| plan.scenarios[0].schedule.clone())
    };
    let seconds = (0..1_000_001).map(|second: u32| second.to_string() + ",,\n");
    let mut rows =
        "offset_seconds,input_tokens,output_tokens\n".to_owned() + &seconds.collect::<String>();
    fs::write(folder.path().join("a.csv"), &rows).unwrap();
    let invalid = load("").unwrap_err().to_string();
    assert!(invalid.contains("a.csv` is larger than 1,000,000 rows; set `for`"), "{invalid}");
    assert_eq!(load(", for: 1h").unwrap().total().arrivals(), 3601);

    // A line that is too long is a problem only if it is within the phase.
    rows.truncate(rows.find("\n9,").unwrap() + 1);
    rows.push_str(&"9".repeat(1 << 21));
    fs::write(folder.path().join("a.csv"), &rows).unwrap();
    assert_eq!(load(", for: 7s").unwrap().total().arrivals(), 8);
    let invalid = load(", for: 1h").unwrap_err().to_string();
    assert!(invalid.contains("a.csv` line 11: the line is longer than 1 MiB"), "{invalid}");
}

#[test]
fn each_kind_of_source_sends_the_prompts_of_its_file() {
    let plan = config::load(&folder("valid/sources.yml"), &environment).unwrap();
    let [warning] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert!(
        warning.ends_with(
            "sources.yml:6:21: prompts.talks.sharegpt: 1 of 3 rows have no question, so llmload \
             skips them; add a message from a user, or remove these rows"
        ),
        "{warning}"
    );
    let body = |scenario: &str, k: u64| -> serde_json::Value {
        let scenario = plan.scenarios.iter().find(|s| s.name == scenario).unwrap();
        let prompt = scenario.prompts.prompt_for(plan.seed, &scenario.name, k, None).unwrap();
        serde_json::from_slice(&llmload::protocol::Dialect::default().encode(
            "m",
            &scenario.request,
            &prompt,
        ))
        .unwrap()
    };
    let text_of = |scenario: &str, k: u64| {
        body(scenario, k)["messages"][0]["content"].as_str().unwrap().to_owned()
    };

    let drawn: String = (0..32).map(|k| text_of("lines", k)).collect();
    assert!(drawn.contains("One.One.") && drawn.contains("Two.Two."), "{drawn}");
    let recorded = body("bodies", 9);
    assert_eq!((&recorded["seed"], &recorded["max_tokens"]), (&1.into(), &5.into()));
    assert_eq!((&recorded["model"], &recorded["stream"]), (&"m".into(), &true.into()));
    assert_eq!([0, 1, 2].map(|k| text_of("talks", k)), ["First.", "Second.", "First."]);
    let salts = [0, 1].map(|k| body("talks_by_line", k)["cache_salt"].as_str().unwrap().to_owned());
    assert_ne!(salts[0], salts[1]);
    let [first, second] = [0, 1].map(|k| text_of("messages", k));
    assert!(
        first != second && first.ends_with(". Be brief.") && first.starts_with("The "),
        "{first}"
    );
    assert_eq!(body("messages", 0)["messages"][1]["content"], "Hi.");

    let made_up = body("made_up", 3);
    assert_eq!((&made_up["max_tokens"], &made_up["ignore_eos"]), (&128.into(), &true.into()));
    let tokens = |text: &str| text.split_whitespace().count() + text.matches('.').count();
    assert!((0..200).all(|k| (280..=980).contains(&tokens(&text_of("made_up", k)))));
    // Each prompt begins with one of 4 shared prefixes of 256 tokens, which are 233 words and 23
    // punctuation marks.
    let starts = |words: usize| -> usize {
        let start = |k| text_of("made_up", k).split(' ').take(words).collect::<Vec<_>>().join(" ");
        (0..200).map(start).collect::<std::collections::HashSet<_>>().len()
    };
    assert_eq!((starts(233), starts(240)), (4, 200));
    let mixed: Vec<_> = (0..8).map(|k| text_of("mixed", k)).collect();
    assert_eq!(mixed, ["One.", "Two.", "How?", "One.", "Two.", "One.", "Who?", "Two."]);
    assert_eq!(
        (&body("mixed", 2)["max_tokens"], &body("mixed", 6)["max_tokens"]),
        (&7.into(), &256.into())
    );
}

#[test]
fn a_key_over_plain_http_to_a_public_address_is_warned_of() {
    let warnings = |url: &str, keys: &str| {
        parse(&format!("target: {{base_url: '{url}'{keys}}}\nrate: 1/s\n")).unwrap().warnings
    };
    let key = ", api_key_env: STAGING_API_KEY";
    for (url, keys) in [
        ("http://api.example.com/v1", key),
        ("http://198.51.100.7:8000/v1", key),
        ("http://user:word@api.example.com/v1", ""),
        ("http://api.example.com/v1", ", headers: {x-api-key: {env: STAGING_API_KEY}}"),
        ("http://api.example.com/v1", ", query: {api_key: {env: STAGING_API_KEY}}"),
    ] {
        let found = warnings(url, keys);
        let [warning] = found.as_slice() else { panic!("{url}{keys}: {found:?}") };
        assert!(
            warning.starts_with("llmload.yml:1:20: target.base_url: llmload sends"),
            "{warning}"
        );
        assert!(warning.ends_with("use https"), "{warning}");
    }
    for (url, keys) in [
        ("https://api.example.com/v1", key),
        ("http://api.example.com/v1", ""),
        ("http://api.example.com/v1", ", headers: {x-team: a}"),
        ("http://10.1.2.3:8000/v1", key),
        ("http://vllm.default.svc:8000/v1", key),
        ("unix:/run/vllm.sock:/v1", key),
    ] {
        assert_eq!(warnings(url, keys), [""; 0], "{url}{keys}");
    }
}

#[test]
fn no_message_and_no_masked_source_contains_a_secret() {
    let text = "targets:\n  a:\n    base_url: http://198.51.100.7/v1\n    api_key_env: STAGING_API_KEY\n    \
                headers:\n      x-literal: sk-canary-0123456789\n      x-token: {env: TEAM_TOKEN}\n      \
                authorization-token: Token ${SECRET_VALUE}\n    query: {q: sk-canary-0123456789}\n\
                scenarios:\n  s:\n    rate: 1/s\n    request: {extra: {vendor_key: sk-canary-0123456789}}\n";
    let plan = parse(text).unwrap();
    assert!(!plan.masked_source.contains("canary"), "{}", plan.masked_source);
    assert!(plan.masked_source.contains("x-literal: '***'"), "{}", plan.masked_source);
    assert!(plan.masked_source.contains("env: TEAM_TOKEN"), "{}", plan.masked_source);
    assert!(!format!("{:?}", plan.scenarios[0].target).contains("canary"));
    assert!(plan.warnings.iter().any(|w| w.contains("unencrypted")), "{:?}", plan.warnings);

    let extra = "request: {extra: {skip_special_tokens: true, min_tokens: 5, max_token_count: 7, token: 8, stop: [shown], \
                 bearer: canary, passwd: canary, userCredentials: {a: [canary, 3], b: {env: canary}}, \
                 nested: [{api_key: canary}]}}";
    let plan = parse(&format!(
        "target: {{base_url: 'http://a/v1', headers: {{x-tokenizer: b}}}}\nrate: 1/s\n{extra}\n"
    ));
    let shown = plan.unwrap().masked_source;
    assert!(!shown.contains("canary") && !shown.contains("x-tokenizer: b"), "{shown}");
    for line in [
        "skip_special_tokens: true",
        "min_tokens: 5",
        "max_token_count: 7",
        "token: '***'",
        "- shown",
        "      - '***'\n      - '***'\n",
        "bearer: '***'",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    // A URL can contain a user and a password, but nothing shows them.
    for url in ["http://canary:sk-canary@127.0.0.1:1/v1", "http://${SECRET_VALUE}@127.0.0.1:1/v1"] {
        for text in [
            format!("target: '{url}'\nrate: 1/s"),
            format!("target: {{base_url: '{url}', prices: 3}}\nrate: 1/s"),
            format!(
                "target: {{base_url: 'http://a/v1', proxy: '{}'}}\nrate: 1/s",
                &url[..url.len() - 3]
            ),
        ] {
            let shown = match parse(&text) {
                Ok(plan) => format!("{plan:?} {}", plan.masked_source),
                Err(invalid) => format!("{invalid} {invalid:?}"),
            };
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    // In each configuration, the value of `${SECRET_VALUE}` is invalid for its key. The message
    // must not contain the value.
    for place in [
        "target: ${SECRET_VALUE}\nrate: 1/s",
        "target: http://a/v1\nrate: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nmax_lag: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nrepeat: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nstart: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nstart: {cron: '${SECRET_VALUE}', timezone: '${SECRET_VALUE}'}",
        "target: http://a/v1\nrate: 1/s\nstart: {cron: '1 2 ${SECRET_VALUE} * *'}",
        "target: http://a/v1\nrate: 1/s\nactive: {days: '${SECRET_VALUE}', hours: '${SECRET_VALUE}'}",
        "target: http://a/v1\nrate: 1/s\nactive: {days: ['${SECRET_VALUE}'], timezone: '${SECRET_VALUE}'}",
        "target: http://a/v1\nrate: 1/s\nseed: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nrequest: ${SECRET_VALUE}",
        "target: http://a/v1\nrate: 1/s\nrequest: {temperature: '${SECRET_VALUE}', stream: '${SECRET_VALUE}'}",
        "target: {simulator: {jitter: '${SECRET_VALUE}'}}\nrate: 1/s",
        "target: {base_url: 'http://a', api_key_env: '${SECRET_VALUE}'}\nrate: 1/s",
        "target: {base_url: 'http://a', api_key_file: '${SECRET_VALUE}'}\nrate: 1/s",
        "target: {base_url: 'http://${SECRET_VALUE}@a?b'}\nrate: 1/s",
        "target: {base_url: 'http://a/v1', proxy: 'http://${SECRET_VALUE}@a/b'}\nrate: 1/s",
        "target: http://a/v1\nrate: 1/s\nprompts: {p: {lines: '${SECRET_VALUE}'}}",
        "target: http://a/v1\nschedule: [{replay: {file: '${SECRET_VALUE}'}}]",
        "target: http://a/v1\nschedule: [{replay: {file: '${SECRET_VALUE}.csv', speed: '${SECRET_VALUE}'}}]",
        "targets: {a: {simulator: {}}}\nscenarios: {s: {target: '${SECRET_VALUE}', rate: 1/s}}",
        "target: http://a/v1\nschedule: [{name: '${SECRET_VALUE}', constant: 1/s, for: 1m}, \
         {name: '${SECRET_VALUE}', constant: 1/s, for: 1m}]",
    ] {
        let invalid = parse(place).expect_err(place);
        assert!(!format!("{invalid} {invalid:?}").contains("canary"), "{place}: {invalid}");
    }
}

#[test]
fn a_variable_replaces_a_scalar_and_adds_no_keys() {
    let env = |name: &str| {
        let value = match name {
            "N" => "3",
            "R" => "2/s",
            "YES" => "false",
            "MAP" => "{a: 1}",
            _ => return None,
        };
        Some(value.into())
    };
    let text = "target: http://localhost:1/v1\nschedule: [{constant: '${R}', for: 1m}]\nrepeat: ${N}\nrequest: {max_tokens: '${N}', \
                stream: '${YES}', system: 'costs $$5, ${MAP} or $6', temperature: '${T:-0.5}'}\n";
    let plan = config::parse(text, "x", None, &env).unwrap();
    let request = &plan.scenarios[0].request;
    assert_eq!(
        (request.max_tokens.get(), request.stream, request.temperature),
        (3, false, Some(0.5))
    );
    assert_eq!(request.system.as_deref(), Some("costs $5, {a: 1} or $6"));
}

#[test]
fn a_dotenv_file_sets_variables_that_the_environment_lacks() {
    let folder = std::env::temp_dir().join(format!("llmload-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(".env"), "PORT=1234\nRATE=9/s\nMODEL='a$PORT'\n").unwrap();
    let file = folder.join("llmload.yml");
    fs::write(
        &file,
        "target: {base_url: 'http://localhost:${PORT}/v1', model: '${MODEL}'}\nrate: ${RATE}\n",
    )
    .unwrap();
    let plan = config::load(&file, &environment);
    fs::write(folder.join(".env"), "PORT=1234\nthis is sk-canary-0123456789\n").unwrap();
    let broken = config::load(&file, &environment);
    fs::remove_dir_all(&folder).unwrap();
    let plan = plan.unwrap();
    let Location::Url(url) = &plan.scenarios[0].target.location else { panic!("not a URL") };
    assert_eq!(url.port(), Some(1234));
    assert_eq!(
        plan.scenarios[0].target.model.as_deref(),
        Some("a$PORT"),
        "a value in a .env is literal"
    );
    assert_eq!(plan.scenarios[0].schedule.phases()[0].name, "constant 40/h");
    let broken = broken.unwrap_err().to_string();
    assert!(
        broken.contains(".env` cannot be read: line 2") && !broken.contains("canary"),
        "{broken}"
    );
}

#[test]
fn the_hash_covers_all_values_except_secrets() {
    let hash = |text: &str, team: &str, key: &str| {
        let env = |name: &str| match name {
            "TEAM" => Some(team.into()),
            "KEY" => Some(key.into()),
            _ => None,
        };
        config::parse(text, "x", None, &env).unwrap().source_hash
    };
    let text = "target: {base_url: 'http://localhost:1/v1', api_key_env: KEY,\n  headers: {x-team: '${TEAM}', \
                x-plain: one}, query: {v: a}}\nrate: 1/s\nrequest: {extra: {a: [x, y], b: 1}}\n";
    let first = hash(text, "blue", "secret-1");
    assert_eq!(
        first,
        hash(text, "blue", "secret-2"),
        "the hash does not contain the value of a key"
    );
    assert_ne!(first, hash(text, "green", "secret-1"), "the hash contains the value of a variable");
    assert_eq!(
        first,
        hash(&format!("# Hello\n{}", text.replace(", x-plain", ",   x-plain")), "blue", "k")
    );
    for (from, to) in [
        ("x-plain: one", "x-plain: two"),
        ("v: a", "v: b"),
        ("v: a", "w: a"),
        ("_env: KEY", "_env: TEAM"),
        ("[x, y]", "[xy]"),
        ("b: 1", "b: 1.0"),
        ("b: 1", "b: '1'"),
        ("b: 1", "b: null"),
    ] {
        assert_ne!(first, hash(&text.replace(from, to), "blue", "secret-1"), "{to}");
    }
}

/// Returns the value of the key `model`.
fn model(text: &str, env: config::Environment<'_>) -> Result<String, String> {
    let text =
        format!("target: {{base_url: 'http://localhost:1/v1', model: '{text}'}}\nrate: 1/s\n");
    let plan = config::parse(&text, "x", None, env).map_err(|invalid| invalid.to_string())?;
    Ok(plan.scenarios[0].target.model.clone().unwrap())
}

#[test]
fn a_default_can_contain_variables() {
    let env = |name: &str| match name {
        "B" => Some("b".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    };
    for (text, expanded) in [
        ("${A:-${B}}", "b"),
        ("${A:-${C:-y}}", "y"),
        ("${B:-${C:-y}}", "b"),
        ("${EMPTY:-x${A:-${B}$$z}}-${A:-}${B}", "xb$z-b"),
        ("${B:-${nothing is evaluated here}}", "b"),
        ("${A:-{}}", "{}"),
        ("$${A:-${B}}", "${A:-b}"),
    ] {
        assert_eq!(model(text, &env).as_deref(), Ok(expanded), "{text}");
    }
    let deep = format!("{}x{}", "${A:-".repeat(9), "}".repeat(9));
    for (text, message) in [
        ("${A:-${C}}", "the variable `C` is not set in the environment; set the variable"),
        ("${A:-${B}", "`${` has no closing `}`"),
        ("${A:-${a b}}", "`${a b}` does not name a variable"),
        (deep.as_str(), "more than 8 defaults contain each other; use fewer variables"),
    ] {
        let error = model(text, &env).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_variable_that_is_not_utf_8_is_reported_as_such() {
    use std::os::unix::ffi::OsStringExt as _;
    let env = |_: &str| Some(OsString::from_vec(b"a\xffb".to_vec()));
    let problem = "the value of the variable is not UTF-8; set the variable to a text in UTF-8";
    assert!(model("${A}", &env).unwrap_err().ends_with(problem));
    let key = "target: {base_url: 'http://localhost:1/v1', api_key_env: KEY}\nrate: 1/s\n";
    let invalid = config::parse(key, "x", None, &env).unwrap_err().to_string();
    assert_eq!(invalid, format!("x:1:58: target.api_key_env: {problem}"));
}

#[test]
fn a_document_can_end_with_a_marker() {
    let text = "target: http://localhost:1/v1\nrate: 1/s\n";
    for end in ["---\n", "...\n", "---\n...\n", "---\n---\n# Nothing\n", "...\n---\n"] {
        assert!(parse(&format!("{text}{end}")).is_ok(), "{end}");
    }
    let second = problems_of(&format!("{text}---\n---\nrate: 1/s\n"));
    assert!(second.contains("a second document begins here"), "{second}");
}

/// Each text would take the YAML parser minutes.
#[test]
fn a_text_that_the_parser_reads_in_quadratic_time_is_rejected_at_its_place() {
    let deep = "the file is nested too deeply; nest at most 32 levels";
    for (text, problem) in [
        (format!("a: {}", "{".repeat(200_000)), format!("llmload.yml:1:36: {deep}")),
        (format!("a:\n  - {}", "[{".repeat(100_000)), format!("llmload.yml:2:37: {deep}")),
        (format!("a: {}", "{\"a\":".repeat(100_000)), format!("llmload.yml:1:164: {deep}")),
        (
            format!("{}---\na: 1\n", "%TAG !a! x\n".repeat(50_000)),
            "llmload.yml:1:1: llmload does not support `%TAG` lines; remove the line".into(),
        ),
    ] {
        assert_eq!(problems_of(&text), problem);
    }
    let brackets = "[{".repeat(1000);
    let text = format!(
        "target: http://localhost:1/v1\nrate: 1/s\nprompts:\n  - |\n    {brackets}\n  - '{brackets}'\n"
    );
    assert_eq!(parse(&text).unwrap().scenarios[0].prompts.len(), Some(2));
}

#[test]
fn a_file_in_another_encoding_is_reported_with_its_line_or_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    let problem = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let message = config::load(&file, &environment).unwrap_err().to_string();
        message.replace(&file.display().to_string(), "llmload.yml")
    };
    let utf_16 = |bytes: fn(u16) -> [u8; 2], start: &str| -> Vec<u8> {
        format!("{start}target: x").encode_utf16().flat_map(bytes).collect()
    };
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        for start in ["", "\u{feff}"] {
            let message = problem(&utf_16(bytes, start));
            assert_eq!(message, "llmload.yml: the file is UTF-16; save it as UTF-8");
        }
    }
    let latin = problem(b"target: http://localhost:1/v1\n# \xc3\xbc gr\xfcn\n");
    assert_eq!(latin, "llmload.yml:2:7: the text is not UTF-8; save the file as UTF-8");
    assert!(problem("ü".repeat(600_000).as_bytes()).contains("larger than 1024 KiB"));

    for start in ["", "\u{feff}"] {
        fs::write(folder.path().join("p.jsonl"), utf_16(u16::to_le_bytes, start)).unwrap();
        let prompts =
            problem(b"target: http://localhost:1/v1\nrate: 1/s\nprompts: {a: {jsonl: p.jsonl}}\n");
        assert!(prompts.ends_with("is UTF-16; convert the file to UTF-8"), "{prompts}");
        assert_eq!(prompts.lines().count(), 1, "{prompts}");
    }
}

#[test]
fn a_secret_file_that_is_too_large_is_rejected_and_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let load = |size: usize| {
        fs::write(folder.path().join("key"), "k".repeat(size)).unwrap();
        let text = "target: {base_url: 'http://localhost:1/v1', api_key_file: key}\nrate: 1/s\n";
        config::parse(text, "x", Some(folder.path()), &environment)
    };
    assert!(load(64 << 10).is_ok());
    let invalid = load((64 << 10) + 1).unwrap_err().to_string();
    assert_eq!(
        invalid,
        "x:1:59: target.api_key_file: the file is larger than 64 KiB; make sure that it is the \
         right file"
    );
}

#[test]
fn numbers_and_texts_are_quoted_so_that_a_person_can_read_them() {
    for (line, problem) in [
        ("seed: 010", "`010` is not a whole number; write `10`, without a zero at the start"),
        ("seed: '10'", "`10` is not a whole number; remove the quotes"),
        ("seed: 1e300", "1e300 is not a whole number"),
        ("seed: 1.5", "1.5 is not a whole number"),
        ("request: {temperature: 1e300}", "1e300 is out of range; write a temperature from 0 to 2"),
        ("rate\u{a0}: 1/s", "unknown key `rate[no-break space]`"),
        ("\u{200b}seed: 1", "unknown key `[U+200B]seed`"),
        ("max_lag: 1h1h", "`1h1h` is not a duration"),
        ("prompts: mine", "found text, expected a list, a map or `builtin`"),
    ] {
        let text = format!("target: http://localhost:1/v1\n{line}\n");
        let problems = problems_of(&text);
        assert!(problems.contains(problem), "{line}: {problems}");
        assert!(problems.lines().all(|line| line.len() < 400), "{problems}");
    }
    let whole =
        parse("target: http://localhost:1/v1\nrate: 1/s\nseed: 7.0\nmax_concurrency: 1e2\n");
    let whole = whole.unwrap();
    assert_eq!((whole.seed, whole.scenarios[0].max_concurrency.get()), (7, 100));
}

#[test]
fn the_builtin_prompts_have_a_name() {
    let short = parse("target: http://localhost:1/v1\nrate: 1/s\nprompts: builtin\n").unwrap();
    let absent = parse("target: http://localhost:1/v1\nrate: 1/s\n").unwrap();
    assert!(short.scenarios[0].prompts == absent.scenarios[0].prompts);
    let long = |prompts: &str| {
        let text = format!(
            "targets: {{a: {{base_url: 'http://localhost:1/v1'}}}}\nprompts: {{{prompts}: [Hi]}}\n\
             scenarios: {{s: {{prompts: builtin, rate: 1/s}}, t: {{prompts: {prompts}, rate: 1/s}}}}"
        );
        parse(&text).unwrap().scenarios[0].prompts.len()
    };
    assert_eq!(long("mine"), absent.scenarios[0].prompts.len());
    assert_eq!(long("builtin"), Some(1), "a source of the file comes first");
}

#[test]
fn without_secrets_only_the_absence_of_secrets_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    let env = |name: &str| match name {
        "EMPTY" => Some("".into()),
        "TWO_LINES" => Some("a\nb".into()),
        _ => None,
    };
    let problems = |target: &str, secrets| {
        let text = format!("target: {{base_url: 'https://h/v1', {target}}}\nrate: 1/s\n");
        fs::write(&file, text).unwrap();
        let loaded = config::load_once(&file, &env, secrets);
        loaded.map_or_else(|invalid| invalid.problems.len(), |_| 0)
    };
    for target in [
        "api_key_env: NOWHERE",
        "api_key_env: EMPTY, auth: x-api-key",
        "api_key_file: nowhere",
        "headers: {x-token: {env: NOWHERE}, x-team: {file: nowhere}}",
        "headers: {authorization: 'Bearer ${NOWHERE}'}",
        "query: {sig: '${NOWHERE}', code: '${EMPTY}'}",
        "extra_body: {api_key: '${NOWHERE}'}",
    ] {
        assert!(
            problems(target, config::Secrets::Required) > 0 || target.contains("EMPTY"),
            "{target}"
        );
        assert_eq!(problems(target, config::Secrets::Optional), 0, "{target}");
    }
    for target in [
        "model: '${NOWHERE}'",
        "extra_body: {user: '${NOWHERE}'}",
        "api_key_env: TWO_LINES",
        "api_key_env: 'sk-literal'",
        "headers: {authorization: literal}",
        "tls: {ca_file: nowhere}",
        "unknown: 1",
    ] {
        assert_eq!(problems(target, config::Secrets::Optional), 1, "{target}");
    }
}

/// Any value of the file can be a secret, so the name of its key decides.
#[test]
fn the_masked_source_hides_texts_and_numbers_below_a_key_that_sounds_secret() {
    let text = "targets:\n  auth-gateway:\n    base_url: http://localhost:1/v1\n    timeouts: {first_token: 30s}\n    \
                auth: bearer\n    api_key_env: TEAM_TOKEN\n    query: {code: '${TEAM_TOKEN}', plain: canary}\n    \
                extra_body: {api_key: canary, auth: {a: [canary]}, tools: [{headers: {x-team: canary}}]}\n\
                prompts: {secret: [shown]}\nscenarios:\n  keys:\n    rate: 1/s\n    \
                request: {extra: {password: canary, pin_secret: 47110815, top_p: 0.5, user: shown, stop_token_ids: [151645]}}\n";
    let plan = parse(text).unwrap();
    let shown = &plan.masked_source;
    assert!(!shown.contains("canary") && !shown.contains("47110815"), "{shown}");
    for line in [
        "pin_secret: '***'",
        "top_p: 0.5",
        "- 151645",
        "first_token: 30s",
        "auth: bearer",
        "api_key_env: TEAM_TOKEN",
        "- shown",
        "user: shown",
        "http://localhost:1/v1",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let secrets = &plan.scenarios[0].target.body_secrets;
    let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(secrets, ["47110815", "canary"]);
    let message = problems_of(
        "target: {base_url: 'http://localhost:1/v1', auth: sk-canary-0123456789}\nrate: 1/s",
    );
    assert_eq!(
        message,
        "llmload.yml:1:51: target.auth: the value is not a valid choice; write `bearer`, `api-key`, \
         `x-api-key` or `none`"
    );
}

#[test]
fn a_missing_file_is_reported() {
    let message =
        config::load(Path::new("nowhere/llmload.yml"), &environment).unwrap_err().to_string();
    assert_eq!(message, "nowhere/llmload.yml: there is no such file");
}

#[test]
fn every_example_is_valid_without_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yml") {
            let plan = config::load(&path, &|_| None).unwrap_or_else(|invalid| panic!("{invalid}"));
            assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
            // /config shows `masked_source`, which is a valid configuration with masked secrets.
            let again = config::parse(&plan.masked_source, "/config", Some(&folder), &|_| None);
            assert_eq!(again.unwrap().scenarios.len(), plan.scenarios.len());
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn the_schema_in_the_repository_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/llmload.schema.json");
    let schema = serde_json::to_string_pretty(&config::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        schema,
        "UPDATE_EXPECTED=1 accepts it"
    );
}

#[test]
fn a_url_on_the_command_line_gives_the_same_plan_as_a_file() {
    let options = UrlOptions {
        rate: Some("5/s".parse().unwrap()),
        model: Some("a$b".into()),
        length: Some(Duration::from_secs(90)),
        ..UrlOptions::default()
    };
    let plan = config::plan_from_url("http://localhost:8000/v1/", &options, &|_| None).unwrap();
    let scenario = &plan.scenarios[0];
    assert_eq!(scenario.target.model.as_deref(), Some("a$b"));
    assert_eq!(scenario.schedule.phases()[0].length, Duration::from_secs(90));
    assert_eq!(scenario.schedule.phases()[0].name, "constant 5/s");

    let closed =
        UrlOptions { concurrency: std::num::NonZeroU32::new(1000), ..UrlOptions::default() };
    let plan = config::plan_from_url("http://localhost:8000/v1", &closed, &|_| None).unwrap();
    assert_eq!(plan.scenarios[0].max_concurrency.get(), 1000);

    let message = |url, options: &UrlOptions| {
        config::plan_from_url(url, options, &|_| None).unwrap_err().to_string()
    };
    assert_eq!(
        message("localhost:8000/v1", &options),
        "command line: URL: the URL has no scheme; write `http://localhost:8000/v1`"
    );
    assert!(message("http://a", &UrlOptions::default()).contains("--rate 5/s"));
    let key = UrlOptions { api_key_env: Some("KEY".into()), ..options.clone() };
    let env = |name: &str| (name == "KEY").then(|| "sk-0123456789".into());
    let plan = config::plan_from_url("http://localhost:8000/v1", &key, &env).unwrap();
    assert!(
        matches!(&plan.scenarios[0].target.auth, Auth::Bearer(key) if key.origin.to_string() == "the variable KEY")
    );
    let unset = "command line: --api-key-env: the variable `KEY` is not set";
    assert!(message("http://a/v1", &key).starts_with(unset), "{}", message("http://a/v1", &key));
    let pasted =
        message("http://a/v1", &UrlOptions { api_key_env: Some("sk-0123456789".into()), ..key });
    assert!(
        pasted.contains("write the name of the variable, never its value")
            && !pasted.contains("0123"),
        "{pasted}"
    );
    let zero = UrlOptions { rate: Some(Rate::ZERO), ..UrlOptions::default() };
    assert!(
        message("http://a", &zero).starts_with("command line: --rate: a rate of 0 sends nothing")
    );
}

#[test]
fn the_options_of_a_simulator_have_the_same_limits_as_the_keys_of_the_file() {
    let settings = |options: &[(&str, &str)], faults: &[(&str, &str)]| {
        let faults: Vec<_> =
            faults.iter().map(|(n, s)| ((*n).to_owned(), (*s).to_owned())).collect();
        config::simulator_from_options(options, &faults).map_err(|invalid| invalid.to_string())
    };
    let default = settings(&[], &[]).unwrap();
    assert_eq!(default, llmload::simulator::SimulatorOptions::default());
    let options =
        [("model", "8"), ("slots", "2"), ("jitter", "0.2"), ("loading", "1m30s"), ("seed", "7")];
    let given = settings(&options, &[("reset", "1%"), ("stall", "0.5")]).unwrap();
    assert_eq!((given.model.as_str(), given.slots, given.jitter, given.seed), ("8", 2, 0.2, 7));
    assert_eq!(
        (given.loading, given.faults.reset, given.faults.stall),
        (Duration::from_secs(90), 0.01, 0.5)
    );
    for (option, text, expected) in [
        ("slots", "0", "--slots: 0 is out of range; write a count from 1 to 10000"),
        ("slots", "-1", "--slots: -1 is not a whole number; write a whole number of 0 or more"),
        ("queue", "many", "--queue: `many` is not a whole number; write only digits"),
        (
            "decode_tokens_per_second",
            "inf",
            "--decode-tokens-per-second: `inf` is not a number; write only digits",
        ),
        ("full_load_speed", "0%", "--full-load-speed: with a speed of 0 no response ends"),
        ("jitter", "20", "--jitter: 20 is not between 0 and 1; for percent write `20%`"),
        ("loading", "1M", "--loading: `1M` is not a duration"),
        ("loading", "3d", "--loading: 3d is out of range; write a duration from 0s to 1d"),
        ("model", "", "--model: the model's name is blank"),
        ("seed", "x", "--seed: `x` is not a whole number"),
    ] {
        let message = settings(&[(option, text)], &[]).unwrap_err();
        assert!(message.starts_with(&format!("command line: {expected}")), "{message}");
    }
    for (faults, expected) in [
        (vec![("reset", "5")], "--fault reset: 5 is not between 0 and 1; for percent write `5%`"),
        (vec![("reste", "5%")], "--fault reste: unknown key `reste`; did you mean `reset`?"),
        (vec![("reset", "60%"), ("stall", "60%")], "--fault: the faults add up to 120%"),
        (vec![("reset", "1%"), ("reset", "2%")], "--fault reset: the fault appears twice"),
    ] {
        let message = settings(&[], &faults).unwrap_err();
        assert!(message.starts_with(&format!("command line: {expected}")), "{message}");
    }
}

#[test]
fn a_warning_about_the_command_line_names_the_option() {
    let options = UrlOptions { rate: Some("5/s".parse().unwrap()), ..UrlOptions::default() };
    let plan = config::plan_from_url("https://a.services.ai.azure.com/models", &options, &|_| None)
        .unwrap();
    assert!(
        plan.warnings[0].starts_with("command line: URL: only Azure AI expects `/models`"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn problems_beyond_the_first_hundred_are_only_counted() {
    let text = format!("target: http://a\nrate: 1/s\nprompts: {{p: [{}]}}\n", "5, ".repeat(150));
    let message = problems_of(&text);
    assert_eq!(message.lines().count(), 101);
    assert!(message.ends_with("and 50 more problems"), "{message}");
}

#[test]
fn files_above_the_size_limits_are_rejected() {
    assert!(problems_of(&"#".repeat((1 << 20) + 1)).contains("larger than 1024 KiB"));
    let many = format!("target: [{}]", "a,".repeat(20_001));
    assert!(problems_of(&many).contains("too many entries"), "{}", problems_of(&many));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn valid() -> String {
        fs::read_to_string(folder("valid/long_form.yml")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_loader_panic(text in any::<String>()) {
            let _ = parse(&text).map_err(|invalid| invalid.to_string());
        }

        #[test]
        fn no_yaml_like_text_makes_the_loader_panic(
            text in r"(?s)([ \-\[\]{}:,&*!|>'#%@`\n\t?0-9a-z$~]|target|rate|scenarios|schedule|: |\n  |- ){0,80}"
        ) {
            let _ = parse(&text).map_err(|invalid| invalid.to_string());
        }

        /// Changes a valid configuration at one place. The line of a problem must exist in the
        /// file.
        #[test]
        fn no_typing_error_makes_the_loader_panic(
            at in any::<prop::sample::Index>(),
            length in 0usize..12,
            put in r"[ \-\[\]{}:,&*!|>'#\n\t0-9a-z$]{0,6}",
        ) {
            let mut text = valid();
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.replace_range(start..end, &put);
            if let Err(invalid) = config::parse(&text, "x", Some(&folder("valid")), &environment) {
                let lines = text.lines().count() + 1;
                prop_assert!(!invalid.problems.is_empty());
                for problem in &invalid.problems {
                    prop_assert!((1..=lines).contains(&problem.line), "{problem:?}");
                    prop_assert!(problem.column >= 1, "{problem:?}");
                }
                prop_assert!(!invalid.to_string().contains("canary"));
            }
        }

        /// Puts random text into a trace. A message must name the file.
        #[test]
        fn no_trace_makes_the_loader_panic(
            text in r#"(?s)(offset_seconds,input_tokens,output_tokens\n|TIMESTAMP,ContextTokens,GeneratedTokens\n)?([0-9.,:"{}\n \-+eE]|2024-05-10 00:00:00|offset_seconds|timestamp|null|\PC){0,60}"#
        ) {
            let folder = tempfile::tempdir().unwrap();
            for file in ["a.csv", "a.jsonl"] {
                fs::write(folder.path().join(file), &text).unwrap();
                let yaml = format!("target: http://a/v1\nschedule: [{{replay: {{file: {file}}}, for: 1m}}]\n");
                if let Err(invalid) = config::parse(&yaml, "x", Some(folder.path()), &environment) {
                    prop_assert!(invalid.to_string().contains(file), "{invalid}");
                }
            }
        }

        #[test]
        fn printing_and_reading_preserves_a_rate(micro in 1u64..360_000_000_000_000) {
            let text = format!("{}.{:06}/h", micro / 1_000_000, micro % 1_000_000);
            let rate: Rate = text.parse().unwrap();
            prop_assert_eq!(rate.micro_per_hour(), micro);
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
            let plan = parse(&format!("target: http://a\nrate: {rate}\n")).unwrap();
            prop_assert_eq!(&plan.scenarios[0].schedule.phases()[0].load, &Load::Constant(rate));
        }

        #[test]
        fn printing_and_reading_preserves_a_duration(nanos in 1u64..31_622_400_000_000_000) {
            let length = Duration::from_nanos(nanos);
            let written = config::HumanDuration(length);
            let text = format!("target: http://a\nschedule: [{{constant: 1/s, for: {written}}}]\n");
            prop_assert_eq!(parse(&text).unwrap().scenarios[0].schedule.phases()[0].length, length);
        }
    }
}

#[test]
fn a_guard_without_its_key_is_off_and_each_of_its_keys_has_a_default() {
    let text =
        "targets: {a: {simulator: {}}, b: {simulator: {}, rate_limits: {tokens_per_minute: 9}}}
scenarios:
  off: {target: a, rate: 1/s}
  plain: {target: b, rate: 1/s, breaker: {}}
  slow: {target: b, rate: 1/s, breaker: {failures: 0.07, pause: 1h}}";
    let plan = parse(text).unwrap();
    let [off, plain, slow] = <[Scenario; 3]>::try_from(plan.scenarios).unwrap();
    assert_eq!((off.breaker, off.target.rate_limits), (None, None));
    let limits = RateLimits { tokens: NonZeroU32::new(9), ..RateLimits::default() };
    assert_eq!(plain.target.rate_limits, Some(limits));
    let minutes = Duration::from_mins;
    let defaults = Breaker {
        failures: Share::percent(50),
        over: minutes(1),
        at_least: NonZeroU32::new(20).unwrap(),
        pause: minutes(1),
        max_pause: minutes(15),
    };
    assert_eq!(plain.breaker, Some(defaults));
    let slow = slow.breaker.unwrap();
    assert_eq!((slow.failures, slow.max_pause), (Share::percent(7), minutes(60)));
}

/// The result of a phase with several levels is the behaviour at each level.
#[test]
fn only_searches_and_phases_with_several_levels_ignore_the_breaker() {
    let text = "target: {simulator: {}}
slo: {success_rate: 99%}
breaker: {}
schedule:
  - {constant: 1/s, for: 1m}
  - {steps: {from: 1/s, to: 2/s, by: 1/s}, for: 1m}
  - {steps: {from: 1/s, to: 1/s, by: 1/s}, for: 1m}
  - {concurrency: 3, for: 1m}
  - {concurrency: [1, 2], for: 1m}
  - {search: {rate: {from: 1/s, to: 9/s}}, for: 1m}";
    let [scenario] = <[Scenario; 1]>::try_from(parse(text).unwrap().scenarios).unwrap();
    let levels: Vec<bool> = scenario.phases.iter().map(|phase| phase.is_level).collect();
    assert_eq!(levels, [false, true, true, false, false, true, true, true]);
}

#[test]
fn shards_divide_the_rate_limits_of_a_target() {
    let text = |requests: u32| {
        format!(
            "targets: {{a: {{simulator: {{}}, rate_limits: {{requests_per_minute: {requests}, tokens_per_minute: 1000}}}}}}
scenarios:
  s: {{rate: 1/s, start: wall_clock}}
  t: {{rate: 1/s, start: wall_clock}}"
        )
    };
    let part = |index| {
        let shard = Shard::new(index, 3).unwrap();
        let plan = config::divide(parse(&text(8)).unwrap(), "f.yml", shard).unwrap();
        let limits = plan.scenarios[1].target.rate_limits.unwrap();
        assert_eq!(plan.scenarios[0].target, plan.scenarios[1].target);
        (limits.requests.unwrap().get(), limits.tokens.unwrap().get())
    };
    assert_eq!([0, 1, 2].map(part), [(3, 334), (3, 333), (2, 333)]);
    let shard = Shard::new(0, 3).unwrap();
    let refused = config::divide(parse(&text(2)).unwrap(), "f.yml", shard).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "f.yml: targets.a.rate_limits.requests_per_minute: 2 is too low for 3 shards; write at least 3"
    );
}
