//! Tests for every kind of source.

use std::collections::HashSet;
use std::num::NonZeroU32;

use super::*;
use crate::protocol::prompt::Content;

fn text(prompt: &Prompt<'_>) -> String {
    let Content::Conversation(messages) = &prompt.content else { panic!("{prompt:?}") };
    messages[0].text.clone().into_owned()
}

fn prompt(prompts: &Prompts, seed: u64, scenario: &str, k: u64) -> String {
    text(&prompts.prompt_for(seed, scenario, k, None).unwrap())
}

fn texts(name: &str, texts: &[&str], order: PromptOrder) -> Prompts {
    Prompts::new(name, texts.iter().map(|text| (*text).to_owned()).collect(), order).unwrap()
}

fn three(order: PromptOrder) -> Prompts {
    texts("three", &["a", "b", "c"], order)
}

fn synthetic() -> Prompts {
    let input = LengthDistribution { mean: 60.0, stddev: 10.0, min: 1, max: MAX_TOKENS };
    Prompts::synthetic(
        "made up",
        Synthetic {
            input,
            output: Some(LengthDistribution::fixed(9)),
            shared_prefix: 20,
            shared_prefixes: NonZeroU32::MIN,
            template: 0,
            ignore_eos: true,
        },
    )
}

fn tokens(text: &str) -> usize {
    text.split_whitespace().count() + text.matches('.').count()
}

#[test]
fn sequential_order_starts_again_after_the_last_prompt() {
    let prompts = three(PromptOrder::Sequential);
    let sent: String = (0..7).map(|k| prompt(&prompts, 9, "s", k)).collect();
    assert_eq!(sent, "abcabca");
}

#[test]
fn a_prompt_in_random_order_depends_only_on_seed_scenario_and_k() {
    let prompts = three(PromptOrder::Random);
    let sequence = |seed, scenario| -> String {
        (0..64).map(|k| prompt(&prompts, seed, scenario, k)).collect()
    };
    assert_eq!(sequence(7, "s"), sequence(7, "s"));
    assert_ne!(sequence(7, "s"), sequence(8, "s"));
    assert_ne!(sequence(7, "s"), sequence(7, "t"));
    // This sequence must stay the same in every version.
    assert!(sequence(7, "s").starts_with("baabcccbbaca"), "{}", sequence(7, "s"));
    // A prompt does not depend on calls for earlier prompts.
    assert_eq!(prompt(&prompts, 7, "s", u64::MAX), prompt(&prompts, 7, "s", u64::MAX));
}

#[test]
fn random_order_draws_each_text_about_equally_often() {
    let prompts = three(PromptOrder::Random);
    let a = (0..3000).filter(|k| prompt(&prompts, 1, "s", *k) == "a").count();
    assert!((850..1150).contains(&a), "{a}");
}

#[test]
fn a_synthetic_prompt_depends_only_on_seed_scenario_and_k() {
    let prompts = synthetic();
    let generate = |seed, scenario, k| prompts.prompt_for(seed, scenario, k, None).unwrap();
    assert_eq!(generate(7, "s", 5), generate(7, "s", 5));
    let others = [generate(8, "s", 5), generate(7, "t", 5), generate(7, "s", 6)];
    assert!(others.iter().all(|other| *other != generate(7, "s", 5)));
    // This text must stay the same in every version.
    assert!(text(&generate(7, "s", 5)).starts_with(EXPECTED), "{}", text(&generate(7, "s", 5)));
    let prompt = generate(7, "s", 5);
    assert_eq!(
        (prompt.max_tokens, prompt.ignore_eos, prompts.len()),
        (NonZeroU32::new(9), true, None)
    );
}

const EXPECTED: &str = "The common room raised the leaf around the good ocean. The good sound brought the word for \
                     the wide The bright finger reached the coat outside the old fish.";

#[test]
fn a_trace_sets_the_lengths_of_prompts_and_outputs() {
    let lengths =
        Some(Lengths { input: NonZeroU32::new(300), output: NonZeroU32::new(77), row: None });
    let generated = synthetic();
    let prompt = generated.prompt_for(7, "s", 5, lengths).unwrap();
    assert_eq!((tokens(&text(&prompt)), prompt.max_tokens), (300, NonZeroU32::new(77)));
    let prompts = three(PromptOrder::Sequential);
    let prompt = prompts.prompt_for(7, "s", 1, lengths).unwrap();
    assert_eq!((text(&prompt).as_str(), prompt.max_tokens), ("b", NonZeroU32::new(77)));
}

#[test]
fn the_sources_of_a_mix_take_turns_by_weight() {
    let pair = texts("pair", &["x", "y"], PromptOrder::Sequential);
    let members = || vec![(three(PromptOrder::Sequential), 4), (pair.clone(), 2)];
    let mix = Prompts::mixed("mix", members(), PromptOrder::Sequential).unwrap();
    let sent: String = (0..12).map(|k| prompt(&mix, 7, "s", k)).collect();
    assert_eq!(sent, "axbcyabxcayb");
    assert_eq!(mix.len(), Some(5));

    let random_mix = Prompts::mixed("mix", members(), PromptOrder::Random).unwrap();
    let of_pair = (0..6000).filter(|k| "xy".contains(&prompt(&random_mix, 7, "s", *k))).count();
    assert!((1850..2150).contains(&of_pair), "{of_pair}");

    assert!(Prompts::mixed("none", Vec::new(), PromptOrder::Sequential).is_none());
    assert!(Prompts::mixed("zero", vec![(pair.clone(), 0)], PromptOrder::Sequential).is_none());
    assert!(
        Prompts::mixed("many", vec![(pair, MAX_TOTAL_WEIGHT + 1)], PromptOrder::Sequential)
            .is_none()
    );
}

#[test]
fn cold_prompts_begin_with_a_unique_nonce_and_keep_their_length() {
    let runs = [0, 1].map(|_| synthetic().with_prefix_cache(PrefixCache::Cold));
    let lengths = Some(Lengths { input: NonZeroU32::new(64), ..Lengths::default() });
    let nonce_of = |(run, scenario, k): (&'static usize, &'static &str, u64)| {
        let prompt = runs[*run].prompt_for(7, scenario, k, lengths).unwrap();
        let nonce = prompt.nonce.clone().unwrap();
        assert_eq!(tokens(&nonce) + tokens(&text(&prompt)), 64);
        nonce
    };
    let all = [0, 1]
        .iter()
        .flat_map(|run| ["s", "t"].iter().flat_map(move |s| (0..1000).map(move |k| (run, s, k))));
    assert_eq!(all.map(nonce_of).collect::<HashSet<_>>().len(), 4000);
}

#[test]
fn salted_prompts_keep_their_text() {
    let salted = three(PromptOrder::Sequential).with_prefix_cache(PrefixCache::Salted);
    let prompts: Vec<_> = (0..4).map(|k| salted.prompt_for(7, "s", k, None).unwrap()).collect();
    assert_eq!(prompts.iter().map(text).collect::<String>(), "abca");
    assert!(prompts.iter().all(|prompt| prompt.nonce.is_none()));
    assert_eq!(
        prompts
            .iter()
            .map(|prompt| prompt.cache_salt.clone().unwrap())
            .collect::<HashSet<_>>()
            .len(),
        4
    );
}

#[test]
fn the_built_in_prompts_have_various_lengths() {
    let count = Prompts::builtin().len().unwrap();
    let all: Vec<_> = (0..count).map(|k| prompt(&Prompts::builtin(), 0, "s", k)).collect();
    let words = |text: &String| text.split_whitespace().count();
    assert!(count >= 40);
    assert!(all.iter().any(|text| words(text) < 10));
    assert!(all.iter().filter(|text| words(text) >= 150).count() >= 4);
    assert!(all.iter().all(|text| words(text) <= 320 && text.trim() == text));
}
