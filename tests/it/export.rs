//! `llmload export`, `completions` and `man`: the files that the binary contains.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn llmload(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = llmload(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = llmload(folder, arguments);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

fn tool(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).current_dir(folder).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// The paths of all files in a folder, relative to the folder and sorted.
fn files_in(folder: &Path) -> Vec<String> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                files.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn exported_dashboards_and_rules_are_the_shipped_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (set, source) in [("dashboards", "grafana/dashboards"), ("rules", "grafana/rules")] {
        let printed = succeeds(path, &["export", set, set]);
        // A folder in it has the tests of the rules.
        let expected: Vec<String> = files_in(&repository().join(source))
            .into_iter()
            .filter(|name| !name.contains('/'))
            .collect();
        assert_eq!(files_in(&path.join(set)), expected);
        let lines: Vec<String> = expected.iter().map(|name| format!("{set}/{name}")).collect();
        assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
        for name in &expected {
            let exported = std::fs::read_to_string(path.join(set).join(name)).unwrap();
            assert_eq!(exported, shipped(&format!("{source}/{name}")), "{name}");
        }
    }
    let rules: Vec<String> =
        files_in(&path.join("rules")).iter().map(|name| format!("rules/{name}")).collect();
    let names: Vec<&str> = rules.iter().map(String::as_str).collect();
    tool(path, "promtool", &[&["check", "rules"][..], &names].concat());
}

#[test]
fn the_job_is_selected_in_each_dashboard_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["export", "dashboards", "--job", "load-1"]);
    for name in files_in(folder.path()) {
        let text = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        let mut exported: Value = serde_json::from_str(&text).unwrap();
        let variables = exported["templating"]["list"].as_array_mut().unwrap();
        let job = variables.iter_mut().find(|variable| variable["name"] == "job").unwrap();
        assert_eq!(job["current"]["text"], serde_json::json!(["load-1"]), "{name}");
        assert_eq!(job["current"]["value"], serde_json::json!(["load-1"]), "{name}");
        job["current"]["text"] = serde_json::json!(["All"]);
        job["current"]["value"] = serde_json::json!(["$__all"]);
        let original: Value =
            serde_json::from_str(&shipped(&format!("grafana/dashboards/{name}"))).unwrap();
        assert_eq!(exported, original, "{name}");
    }
}

#[test]
fn an_exported_compose_file_finds_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = "target: {simulator: {}}\nrate: 2/s\n";
    std::fs::write(path.join("mine.yml"), config).unwrap();
    succeeds(path, &["export", "compose", "out", "--job", "load", "--config", "mine.yml"]);
    let out = path.join("out");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("deploy/compose/llmload.yml"), config);
    // The export has no source code from which Docker could build an image.
    let compose = read("docker-compose.yml");
    let shipped = shipped("docker-compose.yml");
    let removed: Vec<&str> =
        shipped.lines().filter(|line| !compose.lines().any(|kept| kept == *line)).collect();
    assert_eq!(removed, ["  build:", "    context: .", "    args: {REVISION: \"${REVISION:-}\"}"]);
    let parsed: serde_yaml::Value = serde_yaml::from_str(&compose).unwrap();
    let mut mounts = 0;
    for service in parsed["services"].as_mapping().unwrap().values() {
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let source = volume.as_str().unwrap().replace("${CONFIG_DIR:-./", "./");
            let source = source.split([':', '}']).next().unwrap().to_owned();
            if source.starts_with("./") {
                mounts += 1;
                assert!(out.join(&source).exists(), "{source}");
            }
        }
    }
    assert!(mounts >= 6, "{mounts}");
    let scrape = read("grafana/prometheus.yml");
    assert!(scrape.contains("- job_name: \"load\"\n") && !scrape.contains("job_name: llmload"));
    tool(&out, "promtool", &["check", "config", "grafana/prometheus.yml"]);
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/overview.json")).unwrap();
    assert!(dashboard.to_string().contains("[\"load\"]"));
}

#[test]
fn an_exported_sidecar_is_a_complete_kustomization() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeeds(path, &["export", "sidecar", "a", "--job", "on"]);
    let out = path.join("a");
    for name in ["container.yaml", "pod.yaml", "kustomization.yaml", "README.md"] {
        let exported = std::fs::read_to_string(out.join("sidecar").join(name)).unwrap();
        assert_eq!(exported, shipped(&format!("deploy/sidecar/{name}")));
    }
    let checked = succeeds(&out, &["check", "llmload.yml"]);
    assert!(checked.contains("localhost:8000"), "{checked}");
    let read = |name: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&std::fs::read_to_string(out.join(name)).unwrap()).unwrap()
    };
    for component in read("kustomization.yaml")["components"].as_sequence().unwrap() {
        assert!(out.join(component.as_str().unwrap()).join("kustomization.yaml").exists());
    }
    let monitor = read("sidecar/podmonitor.yaml");
    let job = &monitor["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["replacement"];
    assert_eq!(job.as_str(), Some("on"), "a text, and not a truth value");
    // `deploy/validate` builds the same files where kubectl is absent.
    if Command::new("kubectl").arg("version").arg("--client").output().is_ok() {
        let built = tool(&out, "kubectl", &["kustomize", "."]);
        assert!(built.contains("name: llmload") && built.contains("kind: PodMonitor"), "{built}");
    }
}

#[test]
fn an_export_replaces_no_file_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("llmload-slo.yml"), "mine").unwrap();
    let refused = refusal(path, &["export", "rules"]);
    assert!(refused.contains(". already contains llmload-slo.yml; "), "{refused}");
    assert!(refused.contains("--force"), "{refused}");
    assert_eq!(files_in(path), ["llmload-slo.yml"], "no other file is written either");
    assert_eq!(std::fs::read_to_string(path.join("llmload-slo.yml")).unwrap(), "mine");
    succeeds(path, &["export", "rules", "--force"]);
    let replaced = std::fs::read_to_string(path.join("llmload-slo.yml")).unwrap();
    assert_eq!(replaced, shipped("grafana/rules/llmload-slo.yml"));
}

#[test]
fn an_option_without_an_effect_on_the_exported_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(refusal(path, &["export", "rules", "--job", "a"]).contains("--job has no effect"));
    let config = refusal(path, &["export", "dashboards", "--config", "a.yml"]);
    assert!(config.contains("--config has no effect"), "{config}");
    let missing = refusal(path, &["export", "compose", "--config", "a.yml"]);
    assert!(missing.contains("--config a.yml: "), "{missing}");
    for name in ["", "a b", "a\"b", "1", "-a", "${x}"] {
        let refused = refusal(path, &["export", "compose", &format!("--job={name}")]);
        assert!(refused.contains("--job"), "{name}: {refused}");
    }
    assert_eq!(files_in(path), Vec::<String>::new());
}

/// bash completes the names of the commands.
#[test]
fn completions_and_manual_pages_have_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let help = succeeds(path, &["--help"]);
    let commands = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("    "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.contains(&"merge") && commands.contains(&"completions"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(path, &["completions", shell]);
        for command in &commands {
            assert!(script.contains(command), "{shell} {command}");
        }
    }
    std::fs::write(path.join("llmload.bash"), succeeds(path, &["completions", "bash"])).unwrap();
    let completed = tool(
        path,
        "bash",
        &[
            "-c",
            "source llmload.bash; COMP_WORDS=(llmload mer); COMP_CWORD=1; \
             _llmload llmload mer llmload; echo ${COMPREPLY[@]}",
        ],
    );
    assert_eq!(completed.trim(), "merge");
    succeeds(path, &["man", "pages"]);
    let pages = files_in(&path.join("pages"));
    for command in commands.iter().filter(|command| **command != "help") {
        let name = format!("llmload-{command}.1");
        assert!(pages.contains(&name), "{name}: {pages:?}");
        let page = std::fs::read_to_string(path.join("pages").join(&name)).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
    }
    let main = std::fs::read_to_string(path.join("pages/llmload.1")).unwrap();
    assert!(main.contains("config.file"), "{main}");
}
