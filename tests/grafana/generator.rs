//! The dashboard about the load generator, which is llmload itself. It shows whether llmload is the
//! bottleneck.

use llmload::metrics::table;

use crate::dashboard::Dashboard;
use crate::overview::quantiles;
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, buckets, quantile, rate, rate_where, ratio, samples, select, series};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "generator",
        "Generator",
        "Is llmload itself the bottleneck? If it sends late, drops arrivals or lacks CPU, its \
                numbers describe its own machine and not the endpoint.",
    )
    .row("Measurement validity", validity())
    .row("Dispatch lag", dispatch_lag())
    .row("Ledger", ledger())
    .row("Process", process_panels())
    .row("Machine", machine_panels())
    .row("Log and archive", output_panels())
    .row("Scrapes and configuration", scrape())
}

/// The fraction of arrivals that llmload dropped for one reason.
fn dropped(reason: &str) -> String {
    let dropped = rate_where(&table::ARRIVALS_DROPPED, &format!("reason=\"{reason}\""));
    ratio(&dropped, &rate(&table::ARRIVALS))
}

fn validity() -> [Panel; 7] {
    [
        Panel::states("Measurement valid")
            .about(
                "llmload_measurement_valid: 0 while llmload itself distorts the measurement. \
                llmload_generator_distortion names the cause.",
            )
            .query(
                "valid: {{instance}}",
                format!("min by (instance) ({})", series(&table::MEASUREMENT_VALID)),
            )
            .query(
                "free of {{kind}} distortion",
                format!("1 - max by (kind) ({})", series(&table::GENERATOR_DISTORTION)),
            )
            .empty_text("llmload is down")
            .map_value("0", "no", "red")
            .map_value("1", "yes", "green"),
        Panel::number("Dispatch lag p99", Unit::Seconds)
            .about(
                "llmload_dispatch_lag_seconds: the time from the due instant to the sending. Above \
                0.1 s, do not trust the latencies.",
            )
            .query("p99", quantile("0.99", &table::DISPATCH_LAG))
            .with_width(4)
            .base_colour("green")
            .colour_from(0.1, "red"),
        Panel::number("Arrivals dropped as late", Unit::Percent)
            .about(
                "llmload_arrivals_dropped_total{reason=\"late\"} / llmload_arrivals_total: \
                arrivals that llmload dropped because it was later than max_lag.",
            )
            .query("late", dropped("late"))
            .with_width(4)
            .base_colour("green")
            .colour_from(0.01, "red"),
        Panel::number("Arrivals dropped at max_concurrency", Unit::Percent)
            .about(
                "llmload_arrivals_dropped_total{reason=\"max_concurrency\"} / \
                llmload_arrivals_total: the endpoint did not keep up, so it got less load than \
                the schedule demands.",
            )
            .query("at max_concurrency", dropped("max_concurrency"))
            .with_width(4)
            .base_colour("green")
            .colour_from(0.01, "orange"),
        Panel::number("Client-side failures", Unit::Percent)
            .about(
                "llmload_request_failures_total{blame=\"client\"} / llmload_requests_total: \
                llmload ran out of ports, files or memory, or has a defect.",
            )
            .query(
                "client",
                ratio(
                    &rate_where(&table::REQUEST_FAILURES, "blame=\"client\""),
                    &rate(&table::REQUESTS),
                ),
            )
            .with_width(4)
            .base_colour("green")
            .colour_from(0.001, "red"),
        Panel::number("Open file descriptors (% of limit)", Unit::Percent)
            .about("process_open_fds / process_max_fds. Above 80 %, raise the limit.")
            .query(
                "open",
                format!(
                    "max({} / {})",
                    series(&table::PROCESS_OPEN_FDS),
                    series(&table::PROCESS_MAX_FDS)
                ),
            )
            .empty_text("llmload is down")
            .with_width(4)
            .base_colour("green")
            .colour_from(0.8, "red"),
        Panel::number("Samples", Unit::Count)
            .about(
                "llmload_dispatch_lag_seconds_count: the number of requests sent in the window. The \
                other numbers in this row are computed from these requests.",
            )
            .query("samples", samples(&table::DISPATCH_LAG))
            .with_width(4),
    ]
}

fn dispatch_lag() -> [Panel; 6] {
    [
        quantiles("Dispatch lag", Unit::Seconds, &table::DISPATCH_LAG).about(
            "llmload_dispatch_lag_seconds: the time from the due instant to the sending. llmload \
                itself causes this lag, not the endpoint.",
        ),
        Panel::heatmap("Dispatch lag distribution", Unit::Seconds)
            .about("llmload_dispatch_lag_seconds_bucket: requests by dispatch lag.")
            .query("{{le}}", buckets(&table::DISPATCH_LAG)),
        quantiles("Replay lag", Unit::Seconds, &table::REPLAY_LAG)
            .about(
                "llmload_replay_lag_seconds: the time from the recorded instant of a row of a trace \
                to its sending. If it grows, the target or llmload is slower than the trace.",
            )
            .empty_text("no replay"),
        quantiles("Event-loop delay", Unit::Seconds, &table::EVENT_LOOP_DELAY).about(
            "llmload_event_loop_delay_seconds: the delay of the event loop that sends and \
                reads all requests. It is added to every measured latency.",
        ),
        Panel::lines("Arrivals dropped as late or at max_concurrency", Unit::PerSecond)
            .about(
                "llmload_arrivals_dropped_total per second. `late`: llmload was too slow. \
                `max_concurrency`: the endpoint was too slow, so the limit was reached.",
            )
            .query(
                "{{reason}}",
                format!(
                    "sum by (reason) (rate({}[{WINDOW}]))",
                    crate::promql::select(
                        &table::ARRIVALS_DROPPED,
                        "",
                        "reason=~\"late|max_concurrency\""
                    )
                ),
            )
            .stacked(),
        Panel::lines("Dispatch lag in TTFT, p90", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_from_schedule_seconds and \
                llmload_time_to_first_token_seconds. The difference is the dispatch lag of llmload.",
            )
            .query(
                "from the due instant",
                quantile("0.9", &table::TIME_TO_FIRST_TOKEN_FROM_SCHEDULE),
            )
            .query("from sending", quantile("0.9", &table::TIME_TO_FIRST_TOKEN)),
    ]
}

fn ledger() -> [Panel; 2] {
    let total = |family| format!("sum({})", series(family));
    [
        Panel::lines("Unaccounted requests", Unit::Count)
            .about(
                "llmload_arrivals_total - llmload_arrivals_dropped_total - \
                llmload_requests_started_total, and llmload_requests_started_total - \
                llmload_requests_total - llmload_requests_aborted_total - \
                llmload_requests_in_flight. Both are always 0. Any other value is a defect of \
                llmload.",
            )
            .query(
                "arrivals",
                format!(
                    "{} - {} - {}",
                    total(&table::ARRIVALS),
                    total(&table::ARRIVALS_DROPPED),
                    total(&table::REQUESTS_STARTED)
                ),
            )
            .query(
                "requests",
                format!(
                    "{} - {} - {} - {}",
                    total(&table::REQUESTS_STARTED),
                    total(&table::REQUESTS),
                    total(&table::REQUESTS_ABORTED),
                    total(&table::REQUESTS_IN_FLIGHT)
                ),
            )
            .allow_negative(),
        Panel::lines("Arrivals and requests since the start", Unit::Count)
            .about(
                "llmload_arrivals_total, llmload_requests_started_total and \
                llmload_requests_total since the start of llmload.",
            )
            .query("offered", total(&table::ARRIVALS))
            .query("started", total(&table::REQUESTS_STARTED))
            .query("finished", total(&table::REQUESTS)),
    ]
}

fn process_panels() -> [Panel; 7] {
    [
        Panel::lines("CPU usage (cores)", Unit::Count)
            .about(
                "In use: process_cpu_seconds_total per second, where 1 is one full core. Allowed: \
                llmload_cpus_allowed.",
            )
            .query(
                "allowed: {{instance}}",
                format!("sum by (instance) ({})", series(&table::CPUS_ALLOWED)),
            )
            .query(
                "in use: {{instance}}",
                format!(
                    "sum by (instance) (rate({}[{WINDOW}]))",
                    series(&table::PROCESS_CPU_SECONDS)
                ),
            )
            .empty_text("llmload is down"),
        Panel::lines("CPU throttling (% of periods)", Unit::Percent)
            .about(
                "llmload_cgroup_cpu_throttled_periods_total / llmload_cgroup_cpu_periods_total. A \
                CPU limit of the container causes throttling: llmload then neither sends nor \
                reads for up to 0.1 s.",
            )
            .query(
                "throttled",
                ratio(
                    &rate(&table::CGROUP_CPU_THROTTLED_PERIODS),
                    &rate(&table::CGROUP_CPU_PERIODS),
                ),
            )
            .empty_text("No CPU quota")
            .at_most_one(),
        Panel::lines("CPU throttling (seconds per second)", Unit::Seconds)
            .about("llmload_cgroup_cpu_throttled_seconds_total per second, over all cores.")
            .query("throttled", rate(&table::CGROUP_CPU_THROTTLED_SECONDS))
            .empty_text("No CPU quota"),
        Panel::lines("Resident memory", Unit::Bytes)
            .about(
                "process_resident_memory_bytes. It does not grow with the number of requests, because \
                llmload keeps no record per request. llmload_cgroup_memory_used_bytes and \
                llmload_cgroup_memory_limit_bytes: at this limit, the kernel kills llmload.",
            )
            .query(
                "{{instance}}",
                format!("sum by (instance) ({})", series(&table::PROCESS_RESIDENT_MEMORY)),
            )
            .query(
                "control group: {{instance}}",
                format!("sum by (instance) ({})", series(&table::CGROUP_MEMORY_USED)),
            )
            .query(
                "limit: {{instance}}",
                format!("sum by (instance) ({})", series(&table::CGROUP_MEMORY_LIMIT)),
            )
            .empty_text("llmload is down"),
        Panel::lines("Open file descriptors", Unit::Count)
            .about("process_open_fds and process_max_fds. Each connection needs one file descriptor.")
            .query(
                "open: {{instance}}",
                format!("sum by (instance) ({})", series(&table::PROCESS_OPEN_FDS)),
            )
            .query(
                "allowed: {{instance}}",
                format!("sum by (instance) ({})", series(&table::PROCESS_MAX_FDS)),
            )
            .empty_text("llmload is down"),
        Panel::lines("Steps of the wall clock", Unit::Count)
            .about(
                "llmload_clock_steps_total in the window: somebody set the clock, or the machine was \
                suspended. Schedules with wall_clock, cron or active then continue at the new time.",
            )
            .query(
                "{{instance}}: {{direction}}",
                format!(
                    "sum by (instance, direction) (increase({}[{WINDOW}]))",
                    series(&table::CLOCK_STEPS)
                ),
            ),
        Panel::lines("Threads", Unit::Count)
            .about("process_threads: threads of the llmload process.")
            .query(
                "{{instance}}",
                format!("sum by (instance) ({})", series(&table::PROCESS_THREADS)),
            )
            .empty_text("llmload is down"),
    ]
}

/// Panels about the machine of llmload. They need `resources` in the configuration.
fn machine_panels() -> [Panel; 6] {
    let no_host = "Off: write resources: {host: true}";
    let no_gpu = "Off: write resources: {gpu: true}";
    let gpu = |family| format!("max by (instance, gpu) ({})", series(family));
    let name = "{{instance}} GPU {{gpu}}";
    let busy = select(&table::HOST_CPU_SECONDS, "", "mode!=\"idle\"");
    let all = format!("sum by (instance) (rate({}[{WINDOW}]))", series(&table::HOST_CPU_SECONDS));
    [
        Panel::lines("CPU usage of the machine (% of all CPUs)", Unit::Percent)
            .about(
                "llmload_host_cpu_seconds_total by mode, as a fraction of the time of all CPUs. If \
                other programs use the CPUs, or a hypervisor takes them (steal), llmload measures \
                latencies that are too high.",
            )
            .query(
                "{{instance}}: {{mode}}",
                format!(
                    "sum by (instance, mode) (rate({busy}[{WINDOW}])) / on (instance) group_left () \
                     ({all} > 0)"
                ),
            )
            .empty_text(no_host),
        Panel::lines("Memory of the machine", Unit::Bytes)
            .about(
                "In use: llmload_host_memory_bytes - llmload_host_memory_available_bytes. Total: \
                llmload_host_memory_bytes.",
            )
            .query(
                "in use: {{instance}}",
                format!(
                    "sum by (instance) ({} - {})",
                    series(&table::HOST_MEMORY),
                    series(&table::HOST_MEMORY_AVAILABLE)
                ),
            )
            .query(
                "total: {{instance}}",
                format!("sum by (instance) ({})", series(&table::HOST_MEMORY)),
            )
            .empty_text(no_host),
        Panel::lines("GPU utilization", Unit::Percent)
            .about(
                "llmload_gpu_utilization_ratio: the fraction of the time in which the GPU worked. A \
                GPU with a utilization of 100 % can still have unused throughput.",
            )
            .query(name, gpu(&table::GPU_UTILIZATION))
            .empty_text(no_gpu),
        Panel::lines("GPU memory", Unit::Bytes)
            .about("llmload_gpu_memory_used_bytes and llmload_gpu_memory_bytes.")
            .query(&format!("{name}: in use"), gpu(&table::GPU_MEMORY_USED))
            .query(&format!("{name}: total"), gpu(&table::GPU_MEMORY))
            .empty_text(no_gpu),
        Panel::lines("GPU power (W)", Unit::Plain)
            .about("llmload_gpu_power_watts.")
            .query(name, gpu(&table::GPU_POWER))
            .empty_text(no_gpu),
        Panel::lines("GPU temperature (°C)", Unit::Plain)
            .about("llmload_gpu_temperature_celsius. A hot GPU lowers its clock.")
            .query(name, gpu(&table::GPU_TEMPERATURE))
            .empty_text(no_gpu),
    ]
}

/// Panels about output that the load does not wait for.
fn output_panels() -> [Panel; 2] {
    [
        Panel::lines("Log lines dropped", Unit::PerSecond)
            .about(
                "llmload_log_lines_dropped_total per second: log lines that were lost, because \
                nobody reads the log or its disk is full. The load is not affected.",
            )
            .query(
                "{{instance}}",
                format!(
                    "sum by (instance) (rate({}[{WINDOW}]))",
                    series(&table::LOG_LINES_DROPPED)
                ),
            )
            .empty_text("llmload is down"),
        Panel::lines("Failures archived", Unit::PerSecond)
            .about(
                "llmload_failures_archived_total and llmload_failures_not_archived_total per \
                second: failed requests that the archive has, and failed requests that it lacks, \
                by reason. `share` is normal if one class fails often. `disk` means that the disk \
                is full or read-only, and `queue_full` that it is too slow. The load is not \
                affected.",
            )
            .query(
                "{{instance}}: archived",
                format!(
                    "sum by (instance) (rate({}[{WINDOW}]))",
                    series(&table::FAILURES_ARCHIVED)
                ),
            )
            .query(
                "{{instance}}: {{reason}}",
                format!(
                    "sum by (instance, reason) (rate({}[{WINDOW}]))",
                    series(&table::FAILURES_NOT_ARCHIVED)
                ),
            )
            .empty_text("llmload is down"),
    ]
}

fn scrape() -> [Panel; 6] {
    let here = "{job=~\"$job\",instance=~\"$instance\"}";
    [
        Panel::lines("Scrape duration", Unit::Seconds)
            .about("scrape_duration_seconds: the time that Prometheus waited for /metrics.")
            .query("{{instance}}", format!("max by (instance) (scrape_duration_seconds{here})"))
            .empty_text("Prometheus does not scrape llmload"),
        Panel::lines("Samples per scrape", Unit::Count)
            .about("scrape_samples_scraped. It depends on the configuration, not on the load.")
            .query("{{instance}}", format!("max by (instance) (scrape_samples_scraped{here})"))
            .empty_text("Prometheus does not scrape llmload"),
        Panel::states("Up and last reload")
            .about(
                "up, and llmload_config_last_reload_successful: 0 means that llmload rejected the \
                new configuration and still runs the previous one.",
            )
            .query("up: {{instance}}", format!("max by (instance) (up{here})"))
            .query(
                "reload: {{instance}}",
                format!("max by (instance) ({})", series(&table::CONFIG_LAST_RELOAD_SUCCESSFUL)),
            )
            .map_value("0", "no", "red")
            .map_value("1", "yes", "green"),
        Panel::table("Builds", Unit::Plain)
            .about("llmload_build_info: the version of each instance.")
            .query(
                "",
                format!(
                    "max by (instance, version, revision, rustc_version) ({})",
                    series(&table::BUILD_INFO)
                ),
            )
            .empty_text("llmload is down")
            .with_width(12)
            .columns(&[
                ("instance", "instance"),
                ("version", "version"),
                ("revision", "revision"),
                ("rustc_version", "rustc"),
            ]),
        Panel::table("Shards", Unit::Plain)
            .about(
                "llmload_shard_info: the shard of each instance. With N shards, each number from 0 \
                to N - 1 must appear once.",
            )
            .query("", format!("max by (instance, shard, shards) ({})", series(&table::SHARD_INFO)))
            .empty_text("llmload is down")
            .with_width(12)
            .columns(&[("instance", "instance"), ("shard", "shard"), ("shards", "of")]),
        Panel::table("Configurations", Unit::TimeAgo)
            .about(
                "llmload_config_last_reload_success_timestamp_seconds and llmload_config_hash: \
                the time at which the running configuration was loaded, and its hash. All shards \
                of a schedule must have the same hash.",
            )
            .query(
                "",
                format!(
                    "max by (instance) ({}) * 1000",
                    series(&table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP)
                ),
            )
            .query("", format!("max by (instance) ({})", series(&table::CONFIG_HASH)))
            .empty_text("llmload is down")
            .columns(&[("instance", "instance"), ("Value #A", "loaded"), ("Value #B", "hash")])
            .column_unit("hash", Unit::Plain),
    ]
}
