//! Checks the Prometheus rules: they query only exposed metrics, promtool accepts them, and every
//! alert fires in one test and is silent in another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::shipped::files;
use crate::vocabulary::Vocabulary;

fn read(file: &PathBuf) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

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
    let output = output.expect("promtool must be installed; it is in Debian's package prometheus");
    let output_text =
        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output_text}");
}

#[test]
fn rules_query_only_exposed_metrics() {
    let mut vocabulary = Vocabulary::new();
    let rules = rules();
    for recorded in rules.iter().filter_map(|rule| rule["record"].as_str()) {
        // The convention for names is level:metric:operations.
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
        assert!(!expression.contains("job="), "a rule must work with every job name: {expression}");
        if rule["alert"].is_string() {
            for key in ["summary", "description"] {
                assert!(
                    rule["annotations"][key].as_str().is_some_and(|text| !text.is_empty()),
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
fn every_alert_fires_in_one_test_and_stays_silent_in_another() {
    let rules = rules();
    let alerts: Vec<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(
        alerts.iter().collect::<BTreeSet<_>>().len(),
        alerts.len(),
        "two alerts have the same name"
    );
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("grafana/rules/tests", ".yml") {
        for test in read(&file)["tests"].as_array().unwrap() {
            for check in test["promql_expr_test"].as_array().unwrap() {
                let query = check["expr"].as_str().unwrap();
                let alert = query
                    .split("alertname=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned();
                assert!(
                    alerts.contains(&alert.as_str()),
                    "{}: no alert is named {alert}",
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
        assert!(fires.contains(alert), "no test in grafana/rules/tests fires {alert}");
        assert!(silent.contains(alert), "no test in grafana/rules/tests keeps {alert} silent");
    }
}

#[test]
fn promtool_accepts_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("grafana/rules", ".yml"));
}

#[test]
fn the_rule_tests_pass() {
    promtool(&["test", "rules"], &files("grafana/rules/tests", ".yml"));
}
