//! The rules for Prometheus: that they ask for what there is, that promtool has nothing to say, and that
//! every alert is seen to fire and to stay silent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::shipped::files;
use crate::vocabulary::Vocabulary;

fn read(file: &PathBuf) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Every rule of every file.
fn rules() -> Vec<Value> {
    let groups = files("grafana/rules", ".yml").into_iter().flat_map(|file| {
        let groups = read(&file)["groups"].as_array().unwrap().clone();
        groups.into_iter().flat_map(|group| group["rules"].as_array().unwrap().clone())
    });
    groups.collect()
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    assert!(!files.is_empty());
    let output = Command::new("promtool").args(arguments).args(files).output();
    let output = output.expect("promtool, which Debian's package prometheus has");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn rules_ask_for_what_there_is() {
    let mut vocabulary = Vocabulary::new();
    let rules = rules();
    for recorded in rules.iter().filter_map(|rule| rule["record"].as_str()) {
        // Level, metric, operations; the labels are those of a stream of load and what it is split by.
        assert_eq!(recorded.split(':').count(), 3, "{recorded}");
        let labels =
            ["target", "model", "scenario", "reason"].map(|label| (label.to_owned(), None));
        vocabulary.add(recorded, false, &BTreeMap::from(labels));
    }
    for rule in &rules {
        let lines = rule["expr"]
            .as_str()
            .unwrap()
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let expression = lines.collect::<Vec<_>>().join(" ");
        assert_eq!(vocabulary.unknown(&expression), Vec::<String>::new(), "{expression}");
        assert!(!expression.contains("job="), "it works with one name of a job only: {expression}");
        if rule["alert"].is_string() {
            for words in ["summary", "description"] {
                assert!(
                    rule["annotations"][words].as_str().is_some_and(|said| !said.is_empty()),
                    "{rule}"
                );
            }
            assert!(
                ["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()),
                "{rule}"
            );
        }
    }
}

#[test]
fn every_alert_is_seen_to_fire_and_to_stay_silent() {
    let rules = rules();
    let alerts: Vec<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), alerts.len(), "two of one name");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("grafana/rules/tests", ".yml") {
        for test in read(&file)["tests"].as_array().unwrap() {
            for check in test["promql_expr_test"].as_array().unwrap() {
                let asked = check["expr"].as_str().unwrap();
                let alert = asked
                    .split("alertname=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned();
                assert!(
                    alerts.contains(&alert.as_str()),
                    "{}: there is no {alert}",
                    file.display()
                );
                let samples = check["exp_samples"].as_array().unwrap();
                if samples.is_empty() {
                    silent.insert(alert)
                } else {
                    fires.insert(alert)
                };
            }
        }
    }
    for alert in alerts {
        assert!(fires.contains(alert), "{alert} is never seen to fire in grafana/rules/tests");
        // The one sample that is expected leaves the other streams of load silent.
        assert!(
            silent.contains(alert),
            "{alert} is never seen to stay silent in grafana/rules/tests"
        );
    }
}

#[test]
fn promtool_has_nothing_to_say_of_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("grafana/rules", ".yml"));
}

#[test]
fn the_tests_of_the_rules_pass() {
    promtool(&["test", "rules"], &files("grafana/rules/tests", ".yml"));
}
