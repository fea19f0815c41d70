//! The metrics of each program that llmload reads, and the quantities that follow from them.
//!
//! The set is closed: a metrics page can never add a quantity. The names are those of the
//! documentation of each program.

use crate::plan::MetricsSource;

/// A fact about a server, as a report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Requests that the engine works on.
    RequestsRunning,
    /// Requests in the queue of the engine.
    RequestsWaiting,
    /// The part of the KV cache that is in use. The mean is over all engines, and the maximum is of
    /// the fullest engine.
    KvCacheUse,
    /// Requests per second that the engine took out of the running batch, because the KV cache was
    /// full.
    Preemptions,
    /// The part of the prompt tokens that the engine found in its prefix cache.
    PrefixCacheHitRate,
    /// The part of the time in which a GPU was busy. The mean is over all GPUs, and the maximum is
    /// of the busiest GPU.
    GpuUse,
    /// The memory in use on all GPUs together.
    GpuMemoryUsed,
    /// The power of all GPUs together.
    GpuPower,
    /// The part of the time in which a CPU was busy, over all CPUs.
    CpuUse,
    /// The memory of the machine that is not available.
    MemoryUsed,
}

impl Quantity {
    pub const ALL: [Quantity; 10] = [
        Quantity::RequestsRunning,
        Quantity::RequestsWaiting,
        Quantity::KvCacheUse,
        Quantity::Preemptions,
        Quantity::PrefixCacheHitRate,
        Quantity::GpuUse,
        Quantity::GpuMemoryUsed,
        Quantity::GpuPower,
        Quantity::CpuUse,
        Quantity::MemoryUsed,
    ];

    /// Returns the name in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Quantity::RequestsRunning => "requests_running",
            Quantity::RequestsWaiting => "requests_waiting",
            Quantity::KvCacheUse => "kv_cache_use",
            Quantity::Preemptions => "preemptions",
            Quantity::PrefixCacheHitRate => "prefix_cache_hit_rate",
            Quantity::GpuUse => "gpu_use",
            Quantity::GpuMemoryUsed => "gpu_memory_used",
            Quantity::GpuPower => "gpu_power",
            Quantity::CpuUse => "cpu_use",
            Quantity::MemoryUsed => "memory_used",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Quantity::RequestsRunning | Quantity::RequestsWaiting => "requests",
            Quantity::Preemptions => "requests per second",
            Quantity::KvCacheUse
            | Quantity::PrefixCacheHitRate
            | Quantity::GpuUse
            | Quantity::CpuUse => "ratio",
            Quantity::GpuMemoryUsed | Quantity::MemoryUsed => "bytes",
            Quantity::GpuPower => "watts",
        }
    }
}

/// A value that llmload reads from a metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Running,
    Waiting,
    KvCache,
    Preemptions,
    PrefixHits,
    PrefixQueries,
    GpuUse,
    GpuMemory,
    GpuPower,
    IdleSeconds,
    CpuSeconds,
    TotalMemory,
    AvailableMemory,
}

impl Input {
    pub(super) const COUNT: usize = Input::AvailableMemory as usize + 1;
}

/// The rule that turns all time series with the same name into one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selection {
    /// All time series.
    All,
    /// Only the time series whose label of this name has one of these values.
    Where(&'static str, &'static [&'static str]),
    /// Time series that agree in these labels show the same fact. The highest value counts.
    Same(&'static [&'static str]),
}

/// A metric on a page.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) input: Input,
    pub(super) selection: Selection,
    /// The factor from the unit of the metric to the unit of the quantity.
    pub(super) scale: f64,
}

/// The computation of a quantity.
#[derive(Clone, Copy, Debug)]
pub(super) enum Formula {
    /// The sum of a gauge over all time series.
    Sum(Input),
    /// The mean and the maximum of a gauge over all time series.
    Mean(Input),
    /// The first gauge minus the second gauge.
    Difference(Input, Input),
    /// The increase of a counter per second.
    Rate(Input),
    /// The increase of the first counter per increase of the second counter.
    Ratio(Input, Input),
    /// One minus the ratio of the increases.
    Remainder(Input, Input),
}

/// All that llmload knows about a program.
#[derive(Debug)]
pub(super) struct Catalog {
    /// If several metrics have the same input, the first one that is on the page counts.
    pub(super) metrics: &'static [Metric],
    pub(super) quantities: &'static [(Quantity, Formula)],
}

const ENGINE: [(Quantity, Formula); 5] = [
    (Quantity::RequestsRunning, Formula::Sum(Input::Running)),
    (Quantity::RequestsWaiting, Formula::Sum(Input::Waiting)),
    (Quantity::KvCacheUse, Formula::Mean(Input::KvCache)),
    (Quantity::Preemptions, Formula::Rate(Input::Preemptions)),
    (Quantity::PrefixCacheHitRate, Formula::Ratio(Input::PrefixHits, Input::PrefixQueries)),
];

const fn metric(name: &'static str, input: Input) -> Metric {
    Metric { name, input, selection: Selection::All, scale: 1.0 }
}

const fn same(name: &'static str, input: Input, labels: &'static [&'static str]) -> Metric {
    Metric { name, input, selection: Selection::Same(labels), scale: 1.0 }
}

/// Each tensor-parallel rank can report the values of its whole group, and each priority a part of
/// the value without a priority.
const SCHEDULER: &[&str] = &["model_name", "engine_type", "dp_rank"];
/// On a GPU with several instances (MIG), each instance reports the values of its GPU. With
/// containers that share a GPU, each container does.
const GPU: &[&str] = &["UUID", "gpu"];
const GPU_INSTANCE: &[&str] = &["UUID", "gpu", "GPU_I_ID"];

const VLLM: Catalog = Catalog {
    metrics: &[
        metric("vllm:num_requests_running", Input::Running),
        metric("vllm:num_requests_waiting", Input::Waiting),
        metric("vllm:kv_cache_usage_perc", Input::KvCache),
        // The name before version 0.10.
        metric("vllm:gpu_cache_usage_perc", Input::KvCache),
        metric("vllm:num_preemptions_total", Input::Preemptions),
        metric("vllm:prefix_cache_hits_total", Input::PrefixHits),
        metric("vllm:prefix_cache_queries_total", Input::PrefixQueries),
    ],
    quantities: &ENGINE,
};

const SGLANG: Catalog = Catalog {
    metrics: &[
        same("sglang:num_running_reqs", Input::Running, SCHEDULER),
        same("sglang:num_queue_reqs", Input::Waiting, SCHEDULER),
        same("sglang:token_usage", Input::KvCache, SCHEDULER),
        same("sglang:num_retracted_requests_total", Input::Preemptions, SCHEDULER),
        metric("sglang:cached_tokens_total", Input::PrefixHits),
        metric("sglang:prompt_tokens_total", Input::PrefixQueries),
    ],
    quantities: &ENGINE,
};

const LLAMACPP: Catalog = Catalog {
    metrics: &[
        metric("llamacpp:requests_processing", Input::Running),
        metric("llamacpp:requests_deferred", Input::Waiting),
        // Only older versions have this metric.
        metric("llamacpp:kv_cache_usage_ratio", Input::KvCache),
    ],
    quantities: &[ENGINE[0], ENGINE[1], ENGINE[2]],
};

const TGI: Catalog = Catalog {
    metrics: &[
        metric("tgi_batch_current_size", Input::Running),
        metric("tgi_queue_size", Input::Waiting),
    ],
    quantities: &[ENGINE[0], ENGINE[1]],
};

const DCGM: Catalog = Catalog {
    metrics: &[
        Metric { scale: 0.01, ..same("DCGM_FI_DEV_GPU_UTIL", Input::GpuUse, GPU) },
        // GPUs with several instances do not have the metric above.
        same("DCGM_FI_PROF_GR_ENGINE_ACTIVE", Input::GpuUse, GPU_INSTANCE),
        Metric {
            scale: 1_048_576.0,
            ..same("DCGM_FI_DEV_FB_USED", Input::GpuMemory, GPU_INSTANCE)
        },
        same("DCGM_FI_DEV_POWER_USAGE", Input::GpuPower, GPU),
    ],
    quantities: &[
        (Quantity::GpuUse, Formula::Mean(Input::GpuUse)),
        (Quantity::GpuMemoryUsed, Formula::Sum(Input::GpuMemory)),
        (Quantity::GpuPower, Formula::Sum(Input::GpuPower)),
    ],
};

const NODE: Catalog = Catalog {
    metrics: &[
        Metric {
            selection: Selection::Where("mode", &["idle", "iowait"]),
            ..metric("node_cpu_seconds_total", Input::IdleSeconds)
        },
        metric("node_cpu_seconds_total", Input::CpuSeconds),
        metric("node_memory_MemTotal_bytes", Input::TotalMemory),
        metric("node_memory_MemAvailable_bytes", Input::AvailableMemory),
    ],
    quantities: &[
        (Quantity::CpuUse, Formula::Remainder(Input::IdleSeconds, Input::CpuSeconds)),
        (Quantity::MemoryUsed, Formula::Difference(Input::TotalMemory, Input::AvailableMemory)),
    ],
};

/// Returns the catalog of a program.
pub(super) fn catalog(source: MetricsSource) -> &'static Catalog {
    match source {
        MetricsSource::Vllm => &VLLM,
        MetricsSource::Sglang => &SGLANG,
        MetricsSource::Llamacpp => &LLAMACPP,
        MetricsSource::Tgi => &TGI,
        MetricsSource::Dcgm => &DCGM,
        MetricsSource::Node => &NODE,
    }
}

/// Returns true if a name on a page is the name of a metric. Some programs and proxies write an
/// underscore for each colon, because Prometheus reserves the colon for recording rules.
pub(super) fn is_name(name: &[u8], metric: &str) -> bool {
    let same = |(a, b): (&u8, u8)| *a == b || (b == b':' && *a == b'_');
    name.len() == metric.len() && name.iter().zip(metric.bytes()).all(same)
}
