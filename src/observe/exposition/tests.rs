//! Tests of the reader of metrics pages.

#![allow(clippy::float_cmp)]

use proptest::prelude::*;

use super::*;

fn read(source: MetricsSource, text: &str) -> Page {
    let mut reader = PageReader::new(source);
    reader.push(text.as_bytes());
    reader.finish()
}

fn sum(page: &Page, input: Input) -> Option<f64> {
    page.get(input).map(|reading| reading.sum)
}

#[test]
fn a_page_of_two_vllm_engines_is_added_up_and_the_fullest_cache_is_the_maximum() {
    let page = read(
        MetricsSource::Vllm,
        r#"# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}\"b,c\\"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0 1700000000000
  vllm:num_requests_waiting{engine="0"}  2
vllm:num_requests_waiting_by_reason{engine="0"} 50
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:gpu_cache_usage_perc{engine="1"} 0.99
vllm:num_preemptions_total{engine="0"} NaN
vllm:prefix_cache_hits_total{engine="0"} -1
vllm:prefix_cache_queries_total{engine="0"} 1e3"#,
    );
    assert_eq!(sum(&page, Input::Running), Some(7.0));
    assert_eq!(sum(&page, Input::Waiting), Some(2.0));
    let cache = Reading { count: 2, sum: 1.0, max: 0.75 };
    assert_eq!(page.get(Input::KvCache), Some(cache), "the new name is preferred");
    assert_eq!(sum(&page, Input::Preemptions), None, "NaN is no value");
    assert_eq!(sum(&page, Input::PrefixHits), None, "no counter is negative");
    assert_eq!(sum(&page, Input::PrefixQueries), Some(1000.0));
}

#[test]
fn values_that_several_ranks_priorities_or_instances_repeat_count_once() {
    let page = read(
        MetricsSource::Sglang,
        r#"sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="0",priority=""} 5
sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="0",priority="1"} 2
sglang:num_running_reqs{tp_rank="1",dp_rank="0",model_name="m",priority=""} 5
sglang:num_running_reqs{model_name="m",tp_rank="2",dp_rank="1",priority=""} 7
sglang_token_usage{model_name="m"} 0.5
sglang:cached_tokens_total{cache_source="device"} 10
sglang:cached_tokens_total{cache_source="host"} 5"#,
    );
    assert_eq!(sum(&page, Input::Running), Some(12.0));
    assert_eq!(sum(&page, Input::KvCache), Some(0.5), "an underscore stands for the colon");
    assert_eq!(sum(&page, Input::PrefixHits), Some(15.0));
    let page = read(
        MetricsSource::Dcgm,
        r#"DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",GPU_I_ID="1"} 300
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",GPU_I_ID="2"} 300
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-b"} 100
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",GPU_I_ID="1"} 1
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",GPU_I_ID="2"} 2
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b"} 50"#,
    );
    assert_eq!(sum(&page, Input::GpuPower), Some(400.0));
    assert_eq!(sum(&page, Input::GpuMemory), Some(3.0 * 1_048_576.0));
    assert_eq!(sum(&page, Input::GpuUse), Some(0.5));
}

#[test]
fn idle_cpu_seconds_are_a_part_of_all_cpu_seconds() {
    let page = read(
        MetricsSource::Node,
        r#"node_cpu_seconds_total{cpu="0",mode="idle"} 60
node_cpu_seconds_total{cpu="0",mode="iowait"} 10
node_cpu_seconds_total{cpu="0",mode="user"} 30
node_cpu_guest_seconds_total{cpu="0",mode="user"} 1
node_memory_MemTotal_bytes 8e+09
node_memory_MemAvailable_bytes 2e+09"#,
    );
    assert_eq!(sum(&page, Input::IdleSeconds), Some(70.0));
    assert_eq!(sum(&page, Input::CpuSeconds), Some(100.0));
    assert_eq!(sum(&page, Input::TotalMemory), Some(8e9));
}

#[test]
fn a_line_that_is_too_long_or_not_valid_is_skipped_and_the_next_line_counts() {
    let long = format!("tgi_queue_size{{a=\"{}\"}} 5\n", "x".repeat(MAX_LINE));
    for broken in [
        &long,
        "tgi_queue_size\n",
        "tgi_queue_size{a=\"b\" 5\n",
        "tgi_queue_size five\n",
        "tgi_queue_size 1e999\n",
        "tgi_queue_size_other 5\n",
        "<html>\n",
    ] {
        let page = read(MetricsSource::Tgi, &format!("{broken}tgi_queue_size 3"));
        assert_eq!(sum(&page, Input::Waiting), Some(3.0), "{broken}");
    }
    assert!(read(MetricsSource::Tgi, "<html>").is_empty());
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn the_number_of_groups_of_a_metric_is_limited() {
    let mut reader = PageReader::new(MetricsSource::Dcgm);
    for gpu in 0..2 * MAX_SERIES {
        reader.push(format!("DCGM_FI_DEV_POWER_USAGE{{gpu=\"{gpu}\"}} 1\n").as_bytes());
    }
    assert!(reader.values.iter().all(|values| values.groups.len() <= MAX_SERIES));
    assert_eq!(sum(&reader.finish(), Input::GpuPower), Some(MAX_SERIES as f64));
}

/// Lines that are nearly valid.
fn line() -> impl Strategy<Value = String> {
    const NAMES: &[&str] =
        &["sglang:num_running_reqs", "sglang_num_running_reqs", "sglang:token_usage", "up"];
    let labels = r#"(\{(dp_rank="[0-2a\\}]{0,3}",?){0,2}\}?)?"#;
    let parts = ("[ \t#]{0,1}", prop::sample::select(NAMES), labels, "[ \t]{0,2}[0-9.eE+-]{0,4}");
    parts.prop_map(|(space, name, labels, value)| format!("{space}{name}{labels}{value}\n"))
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_split_of_the_page(
        lines in prop::collection::vec(line(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text = lines.concat();
        let unsplit = read(MetricsSource::Sglang, &text);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let (mut reader, mut start) = (PageReader::new(MetricsSource::Sglang), 0);
        for end in cuts {
            reader.push(&text.as_bytes()[start..end]);
            start = end;
        }
        prop_assert_eq!(reader.finish(), unsplit);
    }
}
