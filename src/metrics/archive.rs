//! The metric families about the archive of failed requests, computed at scrape time.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::samples::{self, Samples};
use super::table::{self, Family};
use crate::archive::ArchiveCounts;

const FAMILIES: [&Family; 2] = [&table::FAILURES_ARCHIVED, &table::FAILURES_NOT_ARCHIVED];

#[derive(Clone, Debug)]
pub(super) struct ArchiveCollector {
    descriptions: Arc<[Desc]>,
    counts: Arc<ArchiveCounts>,
}

impl ArchiveCollector {
    pub(super) fn new(counts: Arc<ArchiveCounts>) -> prometheus::Result<ArchiveCollector> {
        Ok(ArchiveCollector { descriptions: samples::describe(&FAMILIES)?, counts })
    }
}

impl Collector for ArchiveCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::new(&FAMILIES);
        samples.add(&table::FAILURES_ARCHIVED, &[], self.counts.archived() as f64);
        for (reason, count) in self.counts.lost() {
            samples.add(&table::FAILURES_NOT_ARCHIVED, &[reason.as_str()], count as f64);
        }
        samples.into_families()
    }
}
