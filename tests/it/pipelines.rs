//! The example pipelines in `deploy/ci`: their scripts run with a program that takes the place of
//! llmload and returns given exit codes. `deploy/validate` checks the files by the schemas of
//! GitHub and GitLab.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_yaml::Value;

/// Records its arguments and returns the next exit code. `run` writes a report, as llmload does
/// with each of these codes.
const RECORDER: &str = r#"#!/bin/sh
echo "$*" >> calls
code=$(head -n 1 codes)
sed -i 1d codes
case $1 in
  run) mkdir -p out && echo "$code" > out/report.json;;
  compare) echo "result $code";;
esac
exit "$code"
"#;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pipeline(name: &str) -> Value {
    let path = repository().join("deploy/ci").join(name);
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the script of a step of the GitHub workflow.
fn github(step: &str) -> String {
    let steps = pipeline("github-actions.yml")["jobs"]["load"]["steps"].clone();
    let steps = steps.as_sequence().unwrap().clone();
    let found = steps.iter().find(|one| one["name"].as_str() == Some(step));
    found.unwrap_or_else(|| panic!("no step {step}"))["run"].as_str().unwrap().to_owned()
}

/// Returns the script of the GitLab job.
fn gitlab() -> String {
    let job = pipeline("gitlab-ci.yml")["load"].clone();
    let lines = job["script"].as_sequence().unwrap();
    let lines: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    lines.join("\n")
}

/// A checkout in which a script runs.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Checkout {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("llmload");
        std::fs::write(&program, RECORDER).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Checkout(folder)
    }

    /// Runs a script as a CI does. Returns its exit code and the commands of llmload.
    fn run(&self, script: &str, codes: &[i32], variables: &[(&str, &str)]) -> (i32, Vec<String>) {
        let folder = self.0.path();
        let codes: Vec<String> = codes.iter().map(|code| format!("{code}\n")).collect();
        std::fs::write(folder.join("codes"), codes.concat()).unwrap();
        std::fs::write(folder.join("calls"), "").unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-e", "-o", "pipefail", "-c", script]).current_dir(folder);
        let output = command.env("PATH", path).envs(variables.iter().copied()).output().unwrap();
        let calls = std::fs::read_to_string(folder.join("calls")).unwrap();
        (output.status.code().unwrap(), calls.lines().map(str::to_owned).collect())
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).unwrap_or_default().trim().to_owned()
    }

    fn add_base_report(&self) {
        std::fs::create_dir(self.0.path().join("base")).unwrap();
        std::fs::write(self.0.path().join("base/report.json"), "{}").unwrap();
    }
}

#[test]
fn a_run_that_proves_nothing_is_repeated_once_and_a_missed_objective_blocks() {
    let script = github("Load test");
    for (codes, expected) in
        [(&[0][..], 0), (&[3], 3), (&[1], 1), (&[2], 2), (&[4, 0], 0), (&[4, 3], 3), (&[4, 4], 4)]
    {
        let (code, calls) = Checkout::new().run(&script, codes, &[]);
        assert_eq!((code, calls.len()), (expected, codes.len()), "{codes:?} {calls:?}");
    }
    // GitLab repeats the job itself.
    let retry = pipeline("gitlab-ci.yml")["load"]["retry"].clone();
    assert_eq!((retry["max"].as_u64(), retry["exit_codes"][0].as_u64()), (Some(1), Some(4)));
    assert!(retry["exit_codes"].as_sequence().unwrap().len() == 1);
    for code in [1, 2, 3, 4] {
        assert_eq!(Checkout::new().run(&gitlab(), &[code], &[("CACHE_POLICY", "pull")]).0, code);
    }
}

#[test]
fn a_worse_run_blocks_and_a_run_on_the_main_branch_becomes_the_base_run() {
    let compare = github("Compare with the base run");
    let merge_request = [("CACHE_POLICY", "pull")];
    for (of_compare, expected) in [(0, 0), (3, 3), (4, 0), (2, 0)] {
        let checkout = Checkout::new();
        checkout.add_base_report();
        checkout.run("llmload run", &[0], &[]);
        let (code, calls) = checkout.run(&compare, &[of_compare], &[]);
        assert_eq!((code, calls.len()), (expected, 1), "{calls:?}");
        assert_eq!(checkout.read("comparison.md"), format!("result {of_compare}"));
        let checkout = Checkout::new();
        checkout.add_base_report();
        let (code, calls) = checkout.run(&gitlab(), &[0, of_compare], &merge_request);
        assert_eq!((code, calls.len()), (expected, 2), "{calls:?}");
        assert_eq!(checkout.read("comparison.md"), format!("result {of_compare}"));
    }
    // The first run of a repository has no base run.
    let checkout = Checkout::new();
    checkout.run("llmload run", &[0], &[]);
    assert_eq!(checkout.run(&compare, &[], &[]), (0, Vec::new()));
    assert_eq!(Checkout::new().run(&gitlab(), &[0], &merge_request).0, 0);
    // A run on the main branch replaces the base run.
    for script in [gitlab(), format!("llmload run\n{}", github("Keep the base report"))] {
        let checkout = Checkout::new();
        checkout.add_base_report();
        assert_eq!(checkout.run(&script, &[0], &[("CACHE_POLICY", "push")]).0, 0);
        assert_eq!(checkout.read("base/report.json"), "0");
    }
}

#[test]
fn the_pipelines_use_only_options_of_llmload_and_files_of_a_report() {
    let mut calls = BTreeSet::new();
    for script in [github("Load test"), github("Compare with the base run"), gitlab()] {
        let checkout = Checkout::new();
        checkout.add_base_report();
        checkout.run("llmload run", &[0], &[]);
        calls.extend(checkout.run(&script, &[0, 0], &[("CACHE_POLICY", "pull")]).1);
    }
    assert_eq!(calls.len(), 2, "{calls:?}");
    for call in calls {
        let command = call.split(' ').next().unwrap();
        let (_, help, _) = crate::binary::llmload(&[command, "--help"]);
        for option in call.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!(" {option} ")), "{call}: {option}");
        }
    }
    let report = pipeline("gitlab-ci.yml")["load"]["artifacts"]["reports"]["junit"].clone();
    assert_eq!(report.as_str(), Some("out/junit.xml"));
    let file = std::fs::read_to_string(repository().join("deploy/ci/llmload.yml")).unwrap();
    assert!(llmload::config::parse(&file, "deploy/ci/llmload.yml", None, &|_| None).is_ok());
}
