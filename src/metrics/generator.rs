//! The metric families about llmload itself, computed at scrape time: the process, its cgroups,
//! distortions, and steps of the wall clock.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::samples::{self, Samples};
use super::table::{self, Family};
use crate::generator::{Distortion, GeneratorMonitor};
use crate::stderr;

const FAMILIES: [&Family; 17] = [
    &table::MEASUREMENT_VALID,
    &table::GENERATOR_DISTORTION,
    &table::CLOCK_STEPS,
    &table::LOG_LINES_DROPPED,
    &table::CPUS_ALLOWED,
    &table::CGROUP_CPU_PERIODS,
    &table::CGROUP_CPU_THROTTLED_PERIODS,
    &table::CGROUP_CPU_THROTTLED_SECONDS,
    &table::CGROUP_MEMORY_USED,
    &table::CGROUP_MEMORY_LIMIT,
    &table::PROCESS_CPU_SECONDS,
    &table::PROCESS_OPEN_FDS,
    &table::PROCESS_MAX_FDS,
    &table::PROCESS_VIRTUAL_MEMORY,
    &table::PROCESS_RESIDENT_MEMORY,
    &table::PROCESS_START_TIME,
    &table::PROCESS_THREADS,
];

#[derive(Clone, Debug)]
pub(super) struct GeneratorCollector {
    descriptions: Arc<[Desc]>,
    generator: Arc<GeneratorMonitor>,
}

impl GeneratorCollector {
    pub(super) fn new(generator: Arc<GeneratorMonitor>) -> prometheus::Result<GeneratorCollector> {
        Ok(GeneratorCollector { descriptions: samples::describe(&FAMILIES)?, generator })
    }
}

impl Collector for GeneratorCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::new(&FAMILIES);
        // Both families use one snapshot, so `measurement_valid` is 0 exactly if a distortion is 1.
        let active = self.generator.active_distortions();
        samples.add(&table::MEASUREMENT_VALID, &[], f64::from(u8::from(active.is_empty())));
        for kind in Distortion::ALL {
            let is_active = active.iter().any(|distortion| distortion.kind == kind);
            let value = f64::from(u8::from(is_active));
            samples.add(&table::GENERATOR_DISTORTION, &[kind.as_str()], value);
        }
        for (direction, steps) in self.generator.clock_steps() {
            samples.add(&table::CLOCK_STEPS, &[direction.as_str()], steps as f64);
        }
        // A value that the kernel does not report has no series. A 0 would be wrong.
        let mut add = |family, value: Option<f64>| {
            if let Some(value) = value {
                samples.add(family, &[], value);
            }
        };
        let count = |number: Option<u64>| number.map(|number| number as f64);
        let usage = self.generator.resource_usage();
        let process = usage.process;
        add(&table::LOG_LINES_DROPPED, count(Some(stderr::lines_dropped())));
        add(&table::CPUS_ALLOWED, usage.cpus());
        let throttling = usage.cgroup.throttling;
        add(&table::CGROUP_CPU_PERIODS, count(throttling.map(|t| t.periods)));
        add(&table::CGROUP_CPU_THROTTLED_PERIODS, count(throttling.map(|t| t.throttled)));
        add(&table::CGROUP_CPU_THROTTLED_SECONDS, throttling.map(|t| t.time.as_secs_f64()));
        add(&table::CGROUP_MEMORY_USED, count(usage.cgroup.memory.map(|memory| memory.used)));
        add(&table::CGROUP_MEMORY_LIMIT, count(usage.cgroup.memory.map(|memory| memory.limit)));
        add(&table::PROCESS_CPU_SECONDS, process.cpu.map(|cpu| cpu.as_secs_f64()));
        add(&table::PROCESS_OPEN_FDS, count(process.open_files));
        add(&table::PROCESS_MAX_FDS, count(process.max_files));
        add(&table::PROCESS_VIRTUAL_MEMORY, count(process.virtual_memory));
        add(&table::PROCESS_RESIDENT_MEMORY, count(process.resident));
        add(&table::PROCESS_START_TIME, process.started);
        add(&table::PROCESS_THREADS, count(process.threads));
        samples.into_families()
    }
}
