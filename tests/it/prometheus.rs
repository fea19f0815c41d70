//! Starts a real Prometheus for other tests.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{TEST_TIMEOUT, pause, request};

/// A running Prometheus, which scrapes its targets and evaluates the shipped rules each second.
/// Dropping it kills the process.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Each address is a separate job.
    pub fn scraping(jobs: &[(&str, SocketAddr)]) -> Prometheus {
        let job = |(job, address): &(&str, SocketAddr)| {
            format!("{{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}")
        };
        Prometheus::with_jobs(&jobs.iter().map(job).collect::<Vec<_>>())
    }

    /// Each text is an entry of `scrape_configs`, on one line.
    pub fn with_jobs(jobs: &[String]) -> Prometheus {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/rules/*.yml");
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n",
            rules.display()
        );
        config.extend(jobs.iter().map(|job| format!("  - {job}\n")));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        // Prometheus cannot report a port that the system chose, so this loop chooses a free port.
        // If another process takes the port first, Prometheus exits, and the loop tries again.
        loop {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let mut child = Command::new("prometheus")
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("prometheus must be installed");
            loop {
                if request(address, "GET", "/-/ready").is_ok_and(|answer| answer.0 == 200) {
                    return Prometheus { child, address, _folder: folder };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                pause();
            }
        }
    }

    pub fn values(&self, query: &str) -> Result<Vec<f64>, String> {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let (status, answer) = self.get(&format!("/api/v1/query?query={encoded}"));
        if status != 200 {
            return Err(answer["error"].to_string());
        }
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return Ok(result[1]
                .as_str()
                .and_then(|value| value.parse().ok())
                .into_iter()
                .collect());
        }
        let series = result.as_array().ok_or("no result")?;
        Ok(series.iter().map(|one| one["value"][1].as_str().unwrap().parse().unwrap()).collect())
    }

    /// Returns the HTTP status and the JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = request(self.address, "GET", path).unwrap();
        // In a chunked body, every other line is the length of a chunk.
        let text =
            if body.starts_with('{') { body } else { body.lines().skip(1).step_by(2).collect() };
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")),
        )
    }

    /// Repeats a query until its value is a finite number.
    pub fn wait_for_value(&self, query: &str) -> f64 {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < TEST_TIMEOUT, "no number for {query}");
            let values = self.values(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            if let Some(value) = values.first().filter(|value| value.is_finite()) {
                return *value;
            }
            pause();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
