//! Tests of prompts in complete drivers and daemons: a prompt file that changes during the run, and
//! output lengths that the simulator counts.

use std::io::Write as _;
use std::time::Duration;

use llmload::measurement::Failure;
use llmload::prompts::{PromptOrder, Prompts, RowFormat, load_rows};

use crate::binary::{Daemon, assert_balanced, sample};
use crate::open_loop::{Bench, constant};
use crate::upstream::InMemory;

/// llmload does not keep a file of 65 MiB in memory, so it reads each row from the disk.
#[tokio::test(start_paused = true)]
async fn no_request_is_sent_with_a_prompt_from_a_changed_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let line = [vec![b'a'; 1 << 20], vec![b'\n']].concat();
    for _ in 0..65 {
        file.write_all(&line).unwrap();
    }
    let rows = load_rows(file.path(), RowFormat::Lines).unwrap();
    let prompts = Prompts::from_rows("large", rows, PromptOrder::Sequential);
    assert_eq!(prompts.len(), Some(65));
    let mut bench =
        Bench::with_prompts(InMemory::responding_after(Duration::from_millis(1)), 10, prompts);
    let counts = bench.run(vec![constant("1/s", 3)]).await;
    assert_eq!((counts.started, counts.succeeded), (3, 3));

    file.write_all(b"one more\n").unwrap();
    bench.route.state.tasks.reopen();
    bench.schedule_start = tokio::time::Instant::now();
    let counts = bench.run(vec![constant("1/s", 2)]).await;
    assert_eq!((counts.started, counts.succeeded, counts.in_flight), (5, 3, 0));
    assert_eq!(bench.sent().len(), 3, "no request is sent after the change");
    let failed = bench.recorder.failed.lock().unwrap();
    assert_eq!(failed.len(), 2);
    for detail in failed.iter() {
        assert_eq!(detail.failure, Failure::ClientResource);
        assert!(detail.message.contains("has changed since it was loaded"), "{}", detail.message);
    }
}

/// The simulator counts the tokens of its responses.
#[test]
fn responses_have_the_output_length_of_the_synthetic_prompts() {
    let mut daemon = Daemon::start(
        "
targets: {sim: {simulator: {decode_tokens_per_second: 2000, prefill_tokens_per_second: 1000000}}}
prompts:
  made_up: {synthetic: {input_tokens: 300, output_tokens: 5, shared_prefix_tokens: 100, ignore_eos: true}}
scenarios:
  s: {target: sim, prompts: made_up, prefix_cache: cold, repeat: 1, schedule: [{constant: 20/s, for: 1s}]}
",
    );
    let exposition = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) == 20.0).then(|| text.to_owned())
    });
    assert_balanced(&exposition);
    assert_eq!(sample(&exposition, "llmload_request_failures_total", &[]), 0.0);
    assert_eq!(sample(&exposition, "llmload_output_tokens_total", &[]), 100.0);
}
