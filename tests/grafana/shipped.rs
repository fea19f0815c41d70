//! What is committed is what is made here.

use std::path::{Path, PathBuf};

use crate::dashboard::Dashboard;
use crate::{capacity, comparison, generator, overview, server, slo};

/// Every dashboard.
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

/// The names of the files in a folder that end so.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

/// Holds a file against what it should be, or writes it if that is asked for.
pub fn assert_committed(path: &str, expected: &str) {
    let file = repository().join(path);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == expected,
        "{path} is not what the table of metrics and tests/grafana make of it; \
         run `UPDATE_EXPECTED=1 cargo test --test grafana` and read the difference"
    );
}

#[test]
fn the_dashboards_are_those_that_are_made_here() {
    let mut made = Vec::new();
    for dashboard in dashboards() {
        let path = format!("grafana/dashboards/{}.json", dashboard.name);
        assert_committed(&path, &format!("{:#}\n", dashboard.json()));
        made.push(repository().join(path));
    }
    made.sort();
    assert_eq!(files("grafana/dashboards", ".json"), made, "one that nobody makes any more");
}
