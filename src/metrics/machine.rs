//! The metric families about the resources of this machine, computed at scrape time.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::samples::{self, Samples};
use super::table::{self, Family};
use crate::machine::MachineMonitor;

const FAMILIES: [&Family; 8] = [
    &table::HOST_CPU_SECONDS,
    &table::HOST_MEMORY,
    &table::HOST_MEMORY_AVAILABLE,
    &table::GPU_UTILIZATION,
    &table::GPU_MEMORY_USED,
    &table::GPU_MEMORY,
    &table::GPU_POWER,
    &table::GPU_TEMPERATURE,
];

#[derive(Clone, Debug)]
pub(super) struct MachineCollector {
    descriptions: Arc<[Desc]>,
    machine: Arc<MachineMonitor>,
}

impl MachineCollector {
    pub(super) fn new(machine: Arc<MachineMonitor>) -> prometheus::Result<MachineCollector> {
        Ok(MachineCollector { descriptions: samples::describe(&FAMILIES)?, machine })
    }
}

impl Collector for MachineCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::new(&FAMILIES);
        let snapshot = self.machine.snapshot();
        if let Some(host) = snapshot.host {
            for (mode, time) in host.cpu() {
                samples.add(&table::HOST_CPU_SECONDS, &[mode.as_str()], time.as_secs_f64());
            }
            samples.add(&table::HOST_MEMORY, &[], host.memory as f64);
            samples.add(&table::HOST_MEMORY_AVAILABLE, &[], host.available as f64);
        }
        for gpu in snapshot.gpus {
            let index = gpu.index.to_string();
            for (family, value) in [
                (&table::GPU_UTILIZATION, gpu.utilization),
                (&table::GPU_MEMORY_USED, gpu.memory_used),
                (&table::GPU_MEMORY, gpu.memory),
                (&table::GPU_POWER, gpu.power),
                (&table::GPU_TEMPERATURE, gpu.temperature),
            ] {
                // A value that the GPU does not report has no series. A 0 would be wrong.
                if let Some(value) = value {
                    samples.add(family, &[&index], value);
                }
            }
        }
        samples.into_families()
    }
}
