//! The series of targets: readiness and server version.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::Gauge;

use super::series::{Registrar, SeriesSet, SeriesVec};
use super::table;

/// The version before the server reports one.
const UNKNOWN: &str = "unknown";

/// The series of all targets. A late report, about a target that a reload has removed or moved to
/// another address, is ignored.
#[derive(Debug)]
pub struct TargetMetrics {
    ready: SeriesVec<Gauge>,
    info: SeriesVec<Gauge>,
    by_name: Mutex<HashMap<String, TargetSeries>>,
}

#[derive(Debug)]
struct TargetSeries {
    address: String,
    ready: Gauge,
    _ready: SeriesSet,
    version: String,
    info: SeriesSet,
}

impl TargetMetrics {
    pub(super) fn register(registrar: &Registrar<'_>) -> prometheus::Result<TargetMetrics> {
        Ok(TargetMetrics {
            ready: registrar.register(&table::TARGET_READY)?,
            info: registrar.register(&table::TARGET_INFO)?,
            by_name: Mutex::default(),
        })
    }

    /// Creates the series of a target: not ready, version unknown. A known target keeps its series
    /// at the same address. At a new address, they are reset.
    pub fn add(&self, target: &str, address: &str) {
        let mut targets = self.lock();
        if targets.get(target).is_some_and(|known| known.address == address) {
            return;
        }
        let mut series = SeriesSet::default();
        let ready = series.add(&self.ready, &[target]);
        ready.set(0.0);
        let added = TargetSeries {
            address: address.to_owned(),
            ready,
            _ready: series,
            version: UNKNOWN.to_owned(),
            info: self.info(target, UNKNOWN),
        };
        targets.insert(target.to_owned(), added);
    }

    /// Reports a response below status 500 from this address.
    pub fn set_ready(&self, target: &str, address: &str) {
        if let Some(known) = self.lock().get(target)
            && known.address == address
        {
            known.ready.set(1.0);
        }
    }

    pub fn set_version(&self, target: &str, address: &str, version: &str) {
        if let Some(known) = self.lock().get_mut(target)
            && known.address == address
            && known.version != version
        {
            known.info = self.info(target, version);
            version.clone_into(&mut known.version);
        }
    }

    pub fn remove(&self, target: &str) {
        self.lock().remove(target);
    }

    /// Returns `None` after a reload has removed the target.
    pub(super) fn readiness(&self, target: &str) -> Option<Gauge> {
        self.lock().get(target).map(|known| known.ready.clone())
    }

    fn info(&self, target: &str, version: &str) -> SeriesSet {
        let mut series = SeriesSet::default();
        series.add(&self.info, &[target, version]).set(1.0);
        series
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TargetSeries>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::buckets::Buckets;
    use crate::generator::GeneratorMonitor;
    use crate::metrics::Metrics;

    #[test]
    fn a_report_about_a_removed_or_moved_target_is_ignored() {
        let metrics = Metrics::new(
            GeneratorMonitor::new(),
            std::sync::Arc::default(),
            std::sync::Arc::default(),
            Buckets::default(),
        )
        .unwrap();
        let targets = &metrics.targets;
        let exposed = || {
            let mut text = Vec::new();
            metrics.expose(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("llmload_target_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let both = |version: &str, ready: u8| {
            [
                format!("llmload_target_info{{target=\"t\",version=\"{version}\"}} 1"),
                format!("llmload_target_ready{{target=\"t\"}} {ready}"),
            ]
        };
        targets.add("t", "http://a/v1");
        targets.set_ready("t", "http://a/v1");
        targets.set_version("t", "http://a/v1", "1.0");
        assert_eq!(exposed(), both("1.0", 1));
        targets.add("t", "http://a/v1");
        assert_eq!(exposed(), both("1.0", 1));
        targets.add("t", "http://b/v1");
        assert_eq!(exposed(), both("unknown", 0));
        targets.set_ready("t", "http://a/v1");
        targets.set_version("t", "http://a/v1", "1.0");
        assert_eq!(exposed(), both("unknown", 0));
        targets.remove("t");
        targets.set_ready("t", "http://b/v1");
        targets.set_version("t", "http://b/v1", "2.0");
        assert!(targets.readiness("t").is_none());
        assert_eq!(exposed(), [""; 0]);
    }
}
