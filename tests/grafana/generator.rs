//! Is it us or them? What says whether llmload itself was the bottleneck.

use llmload::metrics::table;

use crate::dashboard::Dashboard;
use crate::overview::quantiles;
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, buckets, quantile, rate, rate_where, ratio, samples, series};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "generator",
        "Generator",
        "Is it us or them? While llmload itself is late, dropped arrivals or short of processor, its numbers speak of this machine and not of the endpoint.",
    )
    .row("Can it be believed?", verdicts())
    .row("Lateness", lateness())
    .row("The ledger", ledger())
    .row("The process", process_panels())
    .row("The scrape and the configuration", scrape())
}

/// `part` of arrivals dropped for one reason.
fn dropped(reason: &str) -> String {
    let dropped = rate_where(&table::ARRIVALS_DROPPED, &format!("reason=\"{reason}\""));
    ratio(&dropped, &rate(&table::ARRIVALS))
}

fn verdicts() -> [Panel; 7] {
    [
        Panel::states("Can the numbers be believed?")
            .about("llmload_measurement_valid: 0 while llmload itself distorts what it measures, and llmload_generator_distortion: by what.")
            .query("valid: {{instance}}", format!("min by (instance) ({})", series(&table::MEASUREMENT_VALID)))
            .query("not distorted by {{kind}}", format!("1 - max by (kind) ({})", series(&table::GENERATOR_DISTORTION)))
            .none("llmload is down")
            .word("0", "no", "red")
            .word("1", "yes", "green"),
        Panel::number("Lag p99", Unit::Seconds)
            .about("llmload_dispatch_lag_seconds: from the due instant to the hand-over. Above 0.1 s do not trust latencies.")
            .query("p99", quantile("0.99", &table::DISPATCH_LAG))
            .wide(4)
            .at_first("green")
            .from(0.1, "red"),
        Panel::number("Dropped late", Unit::Share)
            .about("llmload_arrivals_dropped_total{reason=\"late\"} of llmload_arrivals_total: llmload came too late to send them.")
            .query("late", dropped("late"))
            .wide(4)
            .at_first("green")
            .from(0.01, "red"),
        Panel::number("Dropped at the cap", Unit::Share)
            .about("llmload_arrivals_dropped_total{reason=\"max_concurrency\"} of llmload_arrivals_total: the endpoint did not keep up, and what is measured is a lighter load than the schedule's.")
            .query("at the cap", dropped("max_concurrency"))
            .wide(4)
            .at_first("green")
            .from(0.01, "orange"),
        Panel::number("Failures of our own", Unit::Share)
            .about("llmload_request_failures_total{blame=\"client\"} of llmload_requests_total: out of ports, files or memory, or a defect.")
            .query("client", ratio(&rate_where(&table::REQUEST_FAILURES, "blame=\"client\""), &rate(&table::REQUESTS)))
            .wide(4)
            .at_first("green")
            .from(0.001, "red"),
        Panel::number("Files open of allowed", Unit::Share)
            .about("process_open_fds of process_max_fds.")
            .query("files", format!("max({} / {})", series(&table::PROCESS_OPEN_FDS), series(&table::PROCESS_MAX_FDS)))
            .none("llmload is down")
            .wide(4)
            .at_first("green")
            .from(0.8, "red"),
        Panel::number("Requests in the window", Unit::Count)
            .about("llmload_dispatch_lag_seconds_count: requests that the numbers here are of.")
            .query("samples", samples(&table::DISPATCH_LAG))
            .wide(4),
    ]
}

fn lateness() -> [Panel; 5] {
    [
        quantiles("Dispatch lag", Unit::Seconds, &table::DISPATCH_LAG)
            .about("llmload_dispatch_lag_seconds: from the due instant to the hand-over: how late the generator itself is."),
        Panel::heatmap("Dispatch lag, all of it", Unit::Seconds)
            .about("llmload_dispatch_lag_seconds_bucket: requests by how late they were handed over.")
            .query("{{le}}", buckets(&table::DISPATCH_LAG)),
        quantiles("Delay of the event loop", Unit::Seconds, &table::EVENT_LOOP_DELAY)
            .about("llmload_event_loop_delay_seconds: how late the loop is that requests run on. What waits there is in every latency."),
        Panel::lines("Dropped for reasons of the generator", Unit::PerSecond)
            .about("llmload_arrivals_dropped_total: `late` is the generator's doing, `max_concurrency` the cap's.")
            .query("{{reason}}", format!("sum by (reason) (rate({}[{WINDOW}]))", crate::promql::select(&table::ARRIVALS_DROPPED, "", "reason=~\"late|max_concurrency\"")))
            .stacked(),
        Panel::lines("What waiting adds to TTFT, p90", Unit::Seconds)
            .about("llmload_time_to_first_token_from_schedule_seconds beside llmload_time_to_first_token_seconds: the distance is what the generator adds.")
            .query("from the due instant", quantile("0.9", &table::TIME_TO_FIRST_TOKEN_FROM_SCHEDULE))
            .query("from sending", quantile("0.9", &table::TIME_TO_FIRST_TOKEN)),
    ]
}

fn ledger() -> [Panel; 2] {
    let total = |family| format!("sum({})", series(family));
    [
        Panel::lines("What the ledger has lost", Unit::Count)
            .about("llmload_arrivals_total - llmload_arrivals_dropped_total - llmload_requests_started_total, and llmload_requests_started_total - llmload_requests_total - llmload_requests_aborted_total - llmload_requests_in_flight: always exactly 0, or llmload has a defect.")
            .query("arrivals", format!("{} - {} - {}", total(&table::ARRIVALS), total(&table::ARRIVALS_DROPPED), total(&table::REQUESTS_STARTED)))
            .query("requests", format!("{} - {} - {} - {}", total(&table::REQUESTS_STARTED), total(&table::REQUESTS), total(&table::REQUESTS_ABORTED), total(&table::REQUESTS_IN_FLIGHT)))
            .signed(),
        Panel::lines("Arrivals and requests so far", Unit::Count)
            .about("llmload_arrivals_total, llmload_requests_started_total and llmload_requests_total since the start.")
            .query("offered", total(&table::ARRIVALS))
            .query("started", total(&table::REQUESTS_STARTED))
            .query("finished", total(&table::REQUESTS)),
    ]
}

fn process_panels() -> [Panel; 6] {
    [
        Panel::lines("Processors in use", Unit::Count)
            .about("process_cpu_seconds_total per second: 1 is one processor; and llmload_cpus_allowed.")
            .query("allowed: {{instance}}", format!("sum by (instance) ({})", series(&table::CPUS_ALLOWED)))
            .query("in use: {{instance}}", format!("sum by (instance) (rate({}[{WINDOW}]))", series(&table::PROCESS_CPU_SECONDS)))
            .none("llmload is down"),
        Panel::lines("Periods stopped for its quota", Unit::Share)
            .about("llmload_cgroup_cpu_throttled_periods_total of llmload_cgroup_cpu_periods_total: a stop is a tenth of a second in which nothing is sent or read. A limit on processors does this.")
            .query("stopped", ratio(&rate(&table::CGROUP_CPU_THROTTLED_PERIODS), &rate(&table::CGROUP_CPU_PERIODS)))
            .none("No quota")
            .at_most_one(),
        Panel::lines("Time stopped for its quota, each second", Unit::Seconds)
            .about("llmload_cgroup_cpu_throttled_seconds_total per second, over all processors.")
            .query("stopped", rate(&table::CGROUP_CPU_THROTTLED_SECONDS))
            .none("No quota"),
        Panel::lines("Memory", Unit::Bytes)
            .about("process_resident_memory_bytes: level over weeks, for nothing in llmload grows with what it has sent.")
            .query("{{instance}}", format!("sum by (instance) ({})", series(&table::PROCESS_RESIDENT_MEMORY)))
            .none("llmload is down"),
        Panel::lines("Files open", Unit::Count)
            .about("process_open_fds and process_max_fds: each request in flight holds one.")
            .query("open: {{instance}}", format!("sum by (instance) ({})", series(&table::PROCESS_OPEN_FDS)))
            .query("allowed: {{instance}}", format!("sum by (instance) ({})", series(&table::PROCESS_MAX_FDS)))
            .none("llmload is down"),
        Panel::lines("Threads", Unit::Count)
            .about("process_threads.")
            .query("{{instance}}", format!("sum by (instance) ({})", series(&table::PROCESS_THREADS)))
            .none("llmload is down"),
    ]
}

fn scrape() -> [Panel; 6] {
    let here = "{job=~\"$job\",instance=~\"$instance\"}";
    [
        Panel::lines("Time of a scrape", Unit::Seconds)
            .about("scrape_duration_seconds: how long Prometheus waited for /metrics.")
            .query("{{instance}}", format!("max by (instance) (scrape_duration_seconds{here})"))
            .none("llmload is not scraped"),
        Panel::lines("Samples of a scrape", Unit::Count)
            .about("scrape_samples_scraped: grows only with the configuration.")
            .query("{{instance}}", format!("max by (instance) (scrape_samples_scraped{here})"))
            .none("llmload is not scraped"),
        Panel::states("Up, and the last reload")
            .about("up, and llmload_config_last_reload_successful: 0 means that the file is wrong and the configuration before goes on.")
            .query("up: {{instance}}", format!("max by (instance) (up{here})"))
            .query("reload: {{instance}}", format!("max by (instance) ({})", series(&table::CONFIG_LAST_RELOAD_SUCCESSFUL)))
            .word("0", "no", "red")
            .word("1", "yes", "green"),
        Panel::table("Builds", Unit::Plain)
            .about("llmload_build_info: which llmload runs where.")
            .query("", format!("max by (instance, version, revision, rustc_version) ({})", series(&table::BUILD_INFO)))
            .none("llmload is down")
            .wide(12)
            .columns(&[("instance", "instance"), ("version", "version"), ("revision", "revision"), ("rustc_version", "rustc")]),
        Panel::table("Shards", Unit::Plain)
            .about("llmload_shard_info: which part of the schedule each instance sends. Every number from 0 up to the count has to be there once.")
            .query("", format!("max by (instance, shard, shards) ({})", series(&table::SHARD_INFO)))
            .none("llmload is down")
            .wide(12)
            .columns(&[("instance", "instance"), ("shard", "shard"), ("shards", "of")]),
        Panel::table("Configurations", Unit::When)
            .about("llmload_config_last_reload_success_timestamp_seconds and llmload_config_hash: which configuration runs, and since when. Shards of one schedule have the same hash.")
            .query("", format!("max by (instance) ({}) * 1000", series(&table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP)))
            .query("", format!("max by (instance) ({})", series(&table::CONFIG_HASH)))
            .none("llmload is down")
            .columns(&[("instance", "instance"), ("Value #A", "loaded"), ("Value #B", "hash")])
            .column_unit("hash", Unit::Plain),
    ]
}
