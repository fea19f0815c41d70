//! Tests of the sources of sessions.

use std::num::NonZeroU32;

use super::*;
use crate::prompts::{MAX_TOKENS, RowFormat, load_rows};

fn synthetic(turns: LengthDistribution, stddev: Duration) -> Prompts {
    let prompts = Synthetic {
        input: LengthDistribution { mean: 60.0, stddev: 10.0, min: 20, max: MAX_TOKENS },
        output: Some(LengthDistribution { mean: 30.0, stddev: 5.0, min: 1, max: MAX_TOKENS }),
        shared_prefix: 12,
        shared_prefixes: NonZeroU32::MIN,
        template: 0,
        ignore_eos: true,
    };
    let think_time = ThinkTime { mean: Duration::from_secs(2), stddev };
    Prompts::synthetic_sessions("s", prompts, turns, think_time)
}

fn all(prompts: &Prompts, k: u64) -> Vec<Turn> {
    (0..).map_while(|turn| prompts.turn(7, "scenario", k, turn).unwrap()).collect()
}

#[test]
fn a_session_is_a_function_of_the_seed_and_its_number() {
    let turns = LengthDistribution { mean: 4.0, stddev: 2.0, min: 1, max: 9 };
    let prompts = synthetic(turns, Duration::from_secs(1));
    let mut counts = Vec::new();
    for k in 0..200 {
        let session = all(&prompts, k);
        // The turns can be requested in any order.
        for (turn, expected) in session.iter().enumerate().rev() {
            let turn = u32::try_from(turn).unwrap();
            assert_eq!(prompts.turn(7, "scenario", k, turn).unwrap().as_ref(), Some(expected));
        }
        assert!((1..=9).contains(&session.len()));
        let (last, others) = session.split_last().unwrap();
        assert_eq!(last.think_time, None);
        assert!(others.iter().all(|turn| turn.think_time.is_some()));
        counts.push(session.len());
    }
    #[allow(clippy::cast_precision_loss)]
    let mean = counts.iter().sum::<usize>() as f64 / 200.0;
    assert!((3.6..5.0).contains(&mean), "{mean}");
    assert_ne!(all(&prompts, 3), all(&prompts, 4));
}

#[test]
fn only_the_first_turn_has_the_shared_prefix_and_think_times_are_drawn() {
    let prompts = synthetic(LengthDistribution::fixed(5), Duration::from_secs(1));
    let start = |turn: &Turn| -> String { turn.messages[0].text.chars().take(40).collect() };
    let (first, second) = (all(&prompts, 0), all(&prompts, 1));
    assert_eq!(start(&first[0]), start(&second[0]));
    assert_ne!(start(&first[1]), start(&second[1]));
    let times: Vec<_> = first[..4].iter().map(|turn| turn.think_time.unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] != pair[1]), "{times:?}");
    let fixed = all(&synthetic(LengthDistribution::fixed(2), Duration::ZERO), 9);
    assert_eq!(fixed[0].think_time, Some(Duration::from_secs(2)));
}

#[test]
fn no_turn_needs_more_than_its_bound() {
    let prompts = synthetic(LengthDistribution::fixed(4), Duration::ZERO);
    for (number, turn) in (0..).zip(all(&prompts, 5)) {
        let most = prompts.most_tokens_of_turn(7, "scenario", (5, number), 400, Some(9));
        let text = &turn.messages[0].text;
        let tokens = text.split_whitespace().count() + text.matches('.').count();
        assert_eq!(most.input, 100 + tokens as u64, "turn {number}");
        assert_eq!(most.output, turn.max_tokens.map(|limit| limit.get().into()));
    }
}

#[test]
fn a_file_of_conversations_has_sessions_with_recorded_delays() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rows = concat!(
        r#"{"messages": [{"role": "user", "content": "aaaa"}, {"role": "assistant", "content": "bbbb"}, "#,
        r#"{"role": "user", "content": "cccc", "delay": 250}, {"role": "assistant", "content": "d"}, "#,
        r#"{"role": "user", "content": "e"}]}"#,
        "\n",
        r#"{"conversations": [{"from": "human", "value": "f"}]}"#,
        "\n",
    );
    std::fs::write(file.path(), rows).unwrap();
    let rows = load_rows(file.path(), RowFormat::Conversations).unwrap();
    let think_time = ThinkTime { mean: Duration::from_secs(3), stddev: Duration::ZERO };
    let prompts = Prompts::conversations("talks", rows, think_time, PromptOrder::Sequential);
    assert_eq!((prompts.len(), prompts.has_sessions()), (Some(2), true));
    let talk = all(&prompts, 2);
    let times: Vec<_> = talk.iter().map(|turn| turn.think_time).collect();
    assert_eq!(times, [Some(Duration::from_millis(250)), Some(Duration::from_secs(3)), None]);
    assert_eq!(talk[0].recorded[0].text, "bbbb");
    assert_eq!(all(&prompts, 1).len(), 1);
    let means = prompts.session_means(50.0).unwrap();
    // The turns send 4, 12, 14 and 1 bytes.
    assert_eq!((means.turns, means.input, means.output), (2.0, 31.0 / 2.0 / 2.0 / 4.0, 50.0));
    let prompt = prompts.prompt_for(7, "scenario", 0, None).unwrap();
    assert_eq!(prompt, Prompt::from("aaaa"), "a warm-up request is a first turn");
}
