//! The resources of this machine, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;

/// The resources of the machine of llmload that become metrics.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Resources {
    /// If `true`, metrics show the CPU time and the memory of the machine. In a container, they are
    /// the values of the host. Default: `false`.
    #[schemars(extend("default" = false))]
    pub host: Field<bool>,
    /// If `true`, metrics show the utilization, memory, power and temperature of each NVIDIA GPU of
    /// the machine. llmload runs the program `nvidia-smi` every 5 s. Without this program, no such
    /// metrics exist. Default: `false`.
    #[schemars(extend("default" = false))]
    pub gpu: Field<bool>,
}
