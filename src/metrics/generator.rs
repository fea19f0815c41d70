//! What the generator tells of itself, read at the scrape: its process, its control groups, and
//! whether what it measures can be believed.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::page::{self, Page};
use super::table::{self, Family};
use crate::generator::{Distortion, Generator};

const FAMILIES: [&Family; 13] = [
    &table::MEASUREMENT_VALID,
    &table::GENERATOR_DISTORTION,
    &table::CPUS_ALLOWED,
    &table::CGROUP_CPU_PERIODS,
    &table::CGROUP_CPU_THROTTLED_PERIODS,
    &table::CGROUP_CPU_THROTTLED_SECONDS,
    &table::PROCESS_CPU_SECONDS,
    &table::PROCESS_OPEN_FDS,
    &table::PROCESS_MAX_FDS,
    &table::PROCESS_VIRTUAL_MEMORY,
    &table::PROCESS_RESIDENT_MEMORY,
    &table::PROCESS_START_TIME,
    &table::PROCESS_THREADS,
];

/// The collector of them.
#[derive(Clone, Debug)]
pub(super) struct GeneratorCollector {
    descriptions: Arc<[Desc]>,
    generator: Arc<Generator>,
}

impl GeneratorCollector {
    pub(super) fn of(generator: Arc<Generator>) -> prometheus::Result<GeneratorCollector> {
        Ok(GeneratorCollector { descriptions: page::describe(&FAMILIES)?, generator })
    }
}

impl Collector for GeneratorCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut page = Page::of(&FAMILIES);
        // One copy, so that the verdict and its reasons agree.
        let claims = self.generator.active_distortions();
        page.add(&table::MEASUREMENT_VALID, &[], f64::from(u8::from(claims.is_empty())));
        for kind in Distortion::ALL {
            let stands = claims.iter().any(|claim| claim.kind == kind);
            page.add(&table::GENERATOR_DISTORTION, &[kind.as_str()], f64::from(u8::from(stands)));
        }
        // What the kernel does not tell is absent, not 0.
        let mut told = |family, value: Option<f64>| {
            if let Some(value) = value {
                page.add(family, &[], value);
            }
        };
        let count = |number: Option<u64>| number.map(|number| number as f64);
        let vitals = self.generator.resource_usage();
        let process = vitals.process;
        told(&table::CPUS_ALLOWED, vitals.cpus());
        let throttling = vitals.cgroup.throttling;
        told(&table::CGROUP_CPU_PERIODS, count(throttling.map(|t| t.periods)));
        told(&table::CGROUP_CPU_THROTTLED_PERIODS, count(throttling.map(|t| t.throttled)));
        told(&table::CGROUP_CPU_THROTTLED_SECONDS, throttling.map(|t| t.time.as_secs_f64()));
        told(&table::PROCESS_CPU_SECONDS, process.cpu.map(|cpu| cpu.as_secs_f64()));
        told(&table::PROCESS_OPEN_FDS, count(process.open_files));
        told(&table::PROCESS_MAX_FDS, count(process.max_files));
        told(&table::PROCESS_VIRTUAL_MEMORY, count(process.addresses));
        told(&table::PROCESS_RESIDENT_MEMORY, count(process.resident));
        told(&table::PROCESS_START_TIME, process.started);
        told(&table::PROCESS_THREADS, count(process.threads));
        page.families()
    }
}
