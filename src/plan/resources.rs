//! The resources of this machine that become metrics, as a configuration defines them.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU time and memory.
    pub host: bool,
    /// NVIDIA GPUs.
    pub gpu: bool,
}
