//! Checks the dashboards by the rules of grafana/dashboard-linter, whose names are above each test,
//! and by rules of this project.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::shipped::{dashboards, files, repository};
use crate::vocabulary::{Vocabulary, families};

/// The metrics without a panel, each with the reason.
const WITHOUT_A_PANEL: &[(&str, &str)] = &[
    (
        "process_start_time_seconds",
        "the time since the start is in llmload_config_last_reload_success_timestamp_seconds",
    ),
    (
        "process_virtual_memory_bytes",
        "has no meaning: it includes memory that the allocator reserved and never touched",
    ),
];

fn all() -> Vec<(&'static str, Value)> {
    dashboards().into_iter().map(|dashboard| (dashboard.name, dashboard.json())).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Returns the panels of a dashboard, without the headings.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// Returns the queries of a dashboard, each with the title of its panel or the name of its
/// variable.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|v| v["type"] == "query") {
        all.push((
            text(&variable["name"]).to_owned(),
            text(&variable["query"]["query"]).to_owned(),
        ));
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        all.push((text(&annotation["name"]).to_owned(), text(&annotation["expr"]).to_owned()));
    }
    for panel in panels(dashboard) {
        for target in list(&panel["targets"]) {
            all.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    all
}

#[test]
fn every_name_label_and_value_in_a_query_exists() {
    let vocabulary = Vocabulary::new();
    let mut wrong = Vec::new();
    for (name, dashboard) in all() {
        for (place, expression) in expressions(&dashboard) {
            let unknown = vocabulary.unknown(&expression);
            wrong.extend(
                unknown
                    .iter()
                    .map(|problem| format!("{name} / {place}: {problem} in {expression}")),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_metric_is_on_a_panel_or_has_a_reason() {
    let mut shown = BTreeSet::new();
    for (_, dashboard) in all() {
        for panel in panels(&dashboard) {
            for target in list(&panel["targets"]) {
                shown.extend(Vocabulary::families(text(&target["expr"])));
            }
        }
    }
    let exposed: Vec<&str> = families().map(|family| family.name).collect();
    for name in &exposed {
        let excused =
            WITHOUT_A_PANEL.iter().any(|(excused, reason)| excused == name && !reason.is_empty());
        assert!(
            shown.contains(*name) || excused,
            "{name} is on no panel: add one in tests/grafana, or add a reason to WITHOUT_A_PANEL of \
             tests/grafana/lint.rs"
        );
        assert!(
            !(shown.contains(*name) && excused),
            "{name} is on a panel: remove it from WITHOUT_A_PANEL"
        );
    }
    for (name, _) in WITHOUT_A_PANEL {
        assert!(exposed.contains(name), "{name} no longer exists: remove it from WITHOUT_A_PANEL");
    }
}

/// panel-title-description, panel-units, panel-datasource, panel-no-targets.
#[test]
fn every_panel_has_a_title_a_unit_and_a_description_that_names_its_metric() {
    for (name, dashboard) in all() {
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = text(&panel["title"]);
            assert!(
                !title.is_empty() && titles.insert(title),
                "{name}: two panels have the title `{title}`, or it is empty"
            );
            let about = text(&panel["description"]);
            assert!(about.ends_with('.'), "{name} / {title}: {about}");
            // The description must name at least one metric of the queries.
            let named = list(&panel["targets"])
                .iter()
                .flat_map(|target| Vocabulary::families(text(&target["expr"])));
            let named: Vec<String> = named.filter(|metric| !metric.is_empty()).collect();
            assert!(
                named.is_empty() || named.iter().any(|metric| about.contains(metric.as_str())),
                "{name} / {title} names none of {named:?}"
            );
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(&defaults["unit"]).is_empty(), "{name} / {title} has no unit");
            assert!(
                !text(&defaults["noValue"]).is_empty(),
                "{name} / {title} has no text for missing data"
            );
            let targets = list(&panel["targets"]);
            assert!(!targets.is_empty(), "{name} / {title} has no query");
            for of in std::iter::once(panel).chain(targets) {
                assert_eq!(of["datasource"]["uid"], "${datasource}", "{name} / {title}");
            }
        }
    }
}

#[test]
fn panels_do_not_overlap_and_have_unique_ids() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in all() {
        let uid = text(&dashboard["uid"]).to_owned();
        assert!(uid.len() <= 40 && uids.insert(uid), "{name}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
        for panel in list(&dashboard["panels"]) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {}", panel["id"]);
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{name}: {}", panel["gridPos"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = taken.insert(cell, text(&panel["title"]));
                assert_eq!(other, None, "{name}: {} is in the same place", panel["title"]);
            }
            let letters: Vec<&str> =
                list(&panel["targets"]).iter().map(|target| text(&target["refId"])).collect();
            assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), letters.len(), "{name}");
            let legends: Vec<&str> = list(&panel["targets"])
                .iter()
                .map(|target| text(&target["legendFormat"]))
                .collect();
            for only in list(&panel["fieldConfig"]["overrides"]) {
                let matched = text(&only["matcher"]["options"]);
                assert!(
                    only["matcher"]["id"] == "byRegexp"
                        || panel["type"] == "table"
                        || legends.contains(&matched),
                    "{name} / {}: an override for `{matched}`, which it does not draw",
                    panel["title"]
                );
            }
        }
    }
}

/// template-datasource, template-job, template-instance, template-label-promql,
/// template-on-time-change-reload; uneditable-dashboard.
#[test]
fn each_variable_depends_only_on_earlier_variables() {
    for (name, dashboard) in all() {
        let variables = list(&dashboard["templating"]["list"]);
        let names: Vec<&str> = variables.iter().map(|variable| text(&variable["name"])).collect();
        assert_eq!(
            names[..7],
            ["datasource", "job", "instance", "target", "model", "scenario", "window"],
            "{name}"
        );
        assert_eq!(variables[0]["query"], "prometheus");
        for (at, variable) in variables.iter().enumerate().filter(|(_, v)| v["type"] == "query") {
            assert_eq!(
                variable["refresh"], 2,
                "{name}: {} must refresh when the time range changes",
                names[at]
            );
            assert_eq!(variable["allValue"], ".+");
            assert_eq!((&variable["multi"], &variable["includeAll"]), (&true.into(), &true.into()));
            let query = text(&variable["query"]["query"]);
            assert!(query.starts_with("label_values("), "{query}");
            for used in query.match_indices('$').map(|(at, _)| &query[at + 1..]) {
                let used = used.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                assert!(
                    names[..at].contains(&used),
                    "{name}: {} uses ${used}, which is a later variable",
                    names[at]
                );
            }
        }
        let written = dashboard.to_string();
        for variable in &names[..] {
            let used = [format!("${variable}"), format!("${{{variable}}}")];
            assert!(
                used.iter().any(|used| written.contains(used.as_str())),
                "{name} has ${variable} and does not use it"
            );
        }
        assert_eq!(dashboard["editable"], false);
        assert_eq!(dashboard["id"], Value::Null);
        assert_eq!(dashboard["tags"][0], dashboard["links"][0]["tags"][0], "{name} is not linked");
        assert_eq!(
            (&dashboard["links"][0]["includeVars"], &dashboard["links"][0]["keepTime"]),
            (&true.into(), &true.into())
        );
        assert!(
            !written.contains("__inputs") && !written.contains("DS_PROMETHEUS"),
            "{name}: provisioning does not fill in such inputs"
        );
    }
}

/// target-job, target-instance, target-counter-agg. Also, no query shows missing data as 0.
#[test]
fn queries_use_the_selected_instances_and_aggregate() {
    for (name, dashboard) in all() {
        for panel in panels(&dashboard) {
            for target in list(&panel["targets"]) {
                let expression = text(&target["expr"]);
                let place = format!("{name} / {}: {expression}", panel["title"]);
                assert!(!expression.contains("or vector(0)"), "{place}");
                let of_a_choice = |matcher: &str| expression.matches(matcher).count();
                let selectors = expression.matches('{').count();
                let jobs = of_a_choice("job=~\"$job\"") + of_a_choice("job=~\"$server_job\"");
                let instances = of_a_choice("instance=~\"$instance\"")
                    + of_a_choice("instance=~\"$server_instance\"");
                assert_eq!((jobs, instances), (selectors, selectors), "{place}");
                // A query without an aggregation would draw one line for each instance.
                let starts = [
                    "sum",
                    "min",
                    "max",
                    "count",
                    "histogram_quantile",
                    "max_over_time((",
                    "1 - ",
                    "(",
                    "vector(",
                ];
                assert!(starts.iter().any(|start| expression.starts_with(start)), "{place}");
                for counter in families().filter(|family| family.name.ends_with("_total")) {
                    let total = ["Unaccounted requests", "Arrivals and requests since the start"]
                        .contains(&text(&panel["title"]));
                    for (at, _) in expression.match_indices(&format!("{}{{", counter.name)) {
                        let before = &expression[..at];
                        assert!(
                            before.ends_with("rate(") || before.ends_with("increase(") || total,
                            "{place}: a counter without a rate"
                        );
                    }
                }
                // Only heatmaps follow the rule target-rate-interval. Rates use $window instead of
                // $__rate_interval, like the number of samples on the same panel.
                let without_alternatives = expression.replace("([.]0)?", "");
                let mut ranges = without_alternatives
                    .split('[')
                    .skip(1)
                    .map(|rest| rest.split(']').next().unwrap());
                let expected: &[&str] = match text(&panel["type"]) {
                    "heatmap" => &["$__rate_interval"],
                    _ if text(&panel["title"]).ends_with(": error budget burn rate") => {
                        &["5m", "30m", "1h", "6h"]
                    }
                    _ => &["$window", "$__range:$__interval"],
                };
                assert!(ranges.all(|range| expected.contains(&range)), "{place}");
                // A divisor must not be 0.
                for (at, _) in expression.match_indices(" / ") {
                    let divisor = expression[at + 3..]
                        .trim_start_matches("on () group_left () ")
                        .trim_start_matches("on (instance) group_left () ");
                    let guarded = divisor.starts_with("(sum") && divisor.contains("> 0)")
                        || divisor.starts_with("((")
                        || divisor.starts_with("sqrt(")
                        || divisor.starts_with("(1 - $slo_objective)")
                        || divisor.starts_with("$slo_objective")
                        || divisor.starts_with("process_max_fds");
                    assert!(guarded, "{place}: the divisor can be 0");
                }
            }
        }
    }
}

/// With too few samples, a quantile is noise.
#[test]
fn dashboards_with_quantiles_show_their_sample_counts() {
    for (name, dashboard) in all() {
        let all = expressions(&dashboard);
        let quantiles =
            all.iter().any(|(_, expression)| expression.contains("histogram_quantile("));
        let samples = all.iter().any(|(_, expression)| {
            expression.contains("_count{") && expression.contains("increase(")
        });
        assert!(!quantiles || samples || name == "server", "{name}");
    }
}

#[test]
fn provisioning_finds_the_datasource_and_the_dashboards() {
    let read = |path: &std::path::Path| -> Value {
        serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let datasources = files("grafana/provisioning/datasources", ".yml");
    let [file] = datasources.as_slice() else { panic!("{datasources:?}") };
    let source = &read(file)["datasources"][0];
    assert_eq!((&source["uid"], &source["type"]), (&"prometheus".into(), &"prometheus".into()));
    assert_eq!(source["isDefault"], true, "the dashboard variable selects the default data source");
    assert!(
        !text(&source["jsonData"]["timeInterval"]).is_empty(),
        "without it $__rate_interval is wrong"
    );
    let providers = files("grafana/provisioning/dashboards", ".yml");
    let [file] = providers.as_slice() else { panic!("{providers:?}") };
    let provider = &read(file)["providers"][0];
    assert_eq!((&provider["type"], &provider["allowUiUpdates"]), (&"file".into(), &false.into()));
    assert!(text(&provider["options"]["path"]).starts_with('/'));
    assert!(
        repository().join("grafana/dashboards/overview.json").is_file(),
        "the home page of docker-compose.yml"
    );
}
