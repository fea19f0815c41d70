//! Compares the committed dashboards with the generated ones.

use std::path::{Path, PathBuf};

use crate::dashboard::Dashboard;
use crate::{capacity, comparison, generator, overview, server, slo};

pub fn dashboards() -> Vec<Dashboard> {
    vec![
        overview::dashboard(),
        generator::dashboard(),
        comparison::dashboard(),
        slo::dashboard(),
        capacity::dashboard(),
        server::dashboard(),
    ]
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files in a folder with this ending, sorted by name.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

/// Compares a file with its expected text, or writes it if `UPDATE_EXPECTED` is set.
pub fn assert_committed(path: &str, expected: &str) {
    let file = repository().join(path);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == expected,
        "{path} is out of date; run `UPDATE_EXPECTED=1 cargo test --test grafana` and read the diff"
    );
}

#[test]
fn the_committed_dashboards_equal_the_generated_dashboards() {
    let mut made = Vec::new();
    for dashboard in dashboards() {
        let path = format!("grafana/dashboards/{}.json", dashboard.name);
        assert_committed(&path, &format!("{:#}\n", dashboard.json()));
        made.push(repository().join(path));
    }
    made.sort();
    assert_eq!(
        files("grafana/dashboards", ".json"),
        made,
        "a committed dashboard is no longer generated; delete it"
    );
}
