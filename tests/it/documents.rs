//! Checks the documents: their configurations are valid, their links have targets, and the tests
//! that ARCHITECTURE.md names exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for folder in ["", "docs", "docs/decisions", "deploy/sidecar"] {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// Returns the text of each block that begins with ```` ```yaml ````.
fn yaml_blocks(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("\n```yaml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default())
}

/// Other YAML blocks are for Prometheus, Kubernetes or a CI.
fn is_configuration(block: &str) -> bool {
    let keys = ["target:", "targets:", "scenarios:"];
    block.lines().any(|line| keys.iter().any(|key| line.starts_with(key)))
}

#[test]
fn every_configuration_in_a_document_is_valid() {
    let secret = |name: &str| (name.ends_with("_KEY") || name.ends_with("_TOKEN")).then_some("k");
    let folder = repository().join("config");
    let mut checked = 0;
    // The reference shows single keys, which are no complete configurations.
    let is_page = |path: &Path| !path.ends_with("docs/configuration.md");
    for (path, text) in documents().into_iter().filter(|(path, _)| is_page(path)) {
        for block in yaml_blocks(&text).filter(|block| is_configuration(block)) {
            let environment = |name: &str| secret(name).map(Into::into);
            let read = llmload::config::parse(block, "block", Some(&folder), &environment);
            assert!(read.is_ok(), "{}: {:?}\n{block}", path.display(), read.err());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} configurations were found");
}

/// Returns the anchors of the headings, as on GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_in_a_document_points_to_an_existing_file_and_heading() {
    let link = regex_lite::Regex::new(r#"(?:\]\(|src=")([^)"\s]+)[)"]"#).unwrap();
    for (path, text) in documents() {
        // Every second part is a fenced block.
        let prose: String = text.split("\n```").step_by(2).collect();
        for found in link.captures_iter(&prose) {
            let target = &found[1];
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(place.exists(), "{}: {target} does not exist", path.display());
            if !anchor.is_empty() {
                let known = anchors(&std::fs::read_to_string(&place).unwrap());
                assert!(known.contains(anchor), "{}: {target} has no heading", path.display());
            }
        }
    }
}

/// Returns the names in backticks with `::` from the table of invariants.
fn named_tests(architecture: &str) -> Vec<String> {
    let table = architecture.split("## Invariants").nth(1).unwrap();
    let quoted = table.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains("::")).map(str::to_owned).collect()
}

#[test]
fn every_test_that_architecture_names_exists() {
    let mut sources = Vec::new();
    let mut folders = vec![repository().join("src"), repository().join("tests")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    let architecture = std::fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let named = named_tests(&architecture);
    assert!(named.len() > 40, "only {} tests were found", named.len());
    for name in named {
        let path: Vec<&str> = name.split("::").filter(|part| *part != "tests").collect();
        let (last, modules) = path.split_last().unwrap();
        let (function, module) = match *last {
            "*" => ("fn ".to_owned(), modules.last().unwrap()),
            test => (format!("fn {test}("), modules.last().unwrap()),
        };
        let in_module =
            |source: &&(String, String)| source.0.split(['/', '.']).any(|part| part == *module);
        let exists = sources.iter().filter(in_module).any(|(_, text)| text.contains(&function));
        assert!(exists, "ARCHITECTURE.md names {name}, which does not exist");
    }
}
