//! What every source promises, whatever it is made of.

use std::collections::HashSet;
use std::num::NonZeroU32;

use super::*;
use crate::protocol::prompt::Content;

fn text(asked: &Prompt<'_>) -> String {
    let Content::Conversation(messages) = &asked.content else { panic!("{asked:?}") };
    messages[0].text.clone().into_owned()
}

fn picked(prompts: &Prompts, seed: u64, stream: &str, k: u64) -> String {
    text(&prompts.prompt_for(seed, stream, k, None).unwrap())
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
fn sequential_goes_round() {
    let prompts = three(PromptOrder::Sequential);
    let series: String = (0..7).map(|k| picked(&prompts, 9, "s", k)).collect();
    assert_eq!(series, "abcabca");
}

#[test]
fn random_is_a_function_of_seed_stream_and_k() {
    let prompts = three(PromptOrder::Random);
    let series =
        |seed, stream| -> String { (0..64).map(|k| picked(&prompts, seed, stream, k)).collect() };
    assert_eq!(series(7, "s"), series(7, "s"));
    assert_ne!(series(7, "s"), series(8, "s"));
    assert_ne!(series(7, "s"), series(7, "t"));
    // Held still: a new version must send what the old one sent.
    assert!(series(7, "s").starts_with("baabcccbbaca"), "{}", series(7, "s"));
    // Any place is reached without the ones before it.
    assert_eq!(picked(&prompts, 7, "s", u64::MAX), picked(&prompts, 7, "s", u64::MAX));
}

#[test]
fn random_draws_each_text_about_equally_often() {
    let prompts = three(PromptOrder::Random);
    let a = (0..3000).filter(|k| picked(&prompts, 1, "s", *k) == "a").count();
    assert!((850..1150).contains(&a), "{a}");
}

#[test]
fn what_is_made_up_is_a_function_of_seed_stream_and_k_too() {
    let prompts = synthetic();
    let ask = |seed, stream, k| prompts.prompt_for(seed, stream, k, None).unwrap();
    assert_eq!(ask(7, "s", 5), ask(7, "s", 5));
    let others = [ask(8, "s", 5), ask(7, "t", 5), ask(7, "s", 6)];
    assert!(others.iter().all(|other| *other != ask(7, "s", 5)));
    // Held still: a new version must send what the old one sent.
    assert!(text(&ask(7, "s", 5)).starts_with(STILL), "{}", text(&ask(7, "s", 5)));
    let asked = ask(7, "s", 5);
    assert_eq!(
        (asked.max_tokens, asked.ignore_eos, prompts.len()),
        (NonZeroU32::new(9), true, None)
    );
}

const STILL: &str = "The common room raised the leaf around the good ocean. The good sound brought the word for \
                     the wide The bright finger reached the coat outside the old fish.";

#[test]
fn a_trace_gives_lengths_to_what_is_made_up_and_bounds_to_the_rest() {
    let lengths = Some(Lengths { input: NonZeroU32::new(300), output: NonZeroU32::new(77) });
    let asked = synthetic();
    let asked = asked.prompt_for(7, "s", 5, lengths).unwrap();
    assert_eq!((tokens(&text(&asked)), asked.max_tokens), (300, NonZeroU32::new(77)));
    let prompts = three(PromptOrder::Sequential);
    let asked = prompts.prompt_for(7, "s", 1, lengths).unwrap();
    assert_eq!((text(&asked).as_str(), asked.max_tokens), ("b", NonZeroU32::new(77)));
}

#[test]
fn a_mix_takes_turns_by_weight_and_each_source_goes_on_where_it_was() {
    let pair = texts("pair", &["x", "y"], PromptOrder::Sequential);
    let members = || vec![(three(PromptOrder::Sequential), 4), (pair.clone(), 2)];
    let mix = Prompts::mixed("mix", members(), PromptOrder::Sequential).unwrap();
    let series: String = (0..12).map(|k| picked(&mix, 7, "s", k)).collect();
    assert_eq!(series, "axbcyabxcayb");
    assert_eq!(mix.len(), Some(5));

    let drawn = Prompts::mixed("mix", members(), PromptOrder::Random).unwrap();
    let of_pair = (0..6000).filter(|k| "xy".contains(&picked(&drawn, 7, "s", *k))).count();
    assert!((1850..2150).contains(&of_pair), "{of_pair}");

    assert!(Prompts::mixed("none", Vec::new(), PromptOrder::Sequential).is_none());
    assert!(Prompts::mixed("zero", vec![(pair.clone(), 0)], PromptOrder::Sequential).is_none());
    assert!(
        Prompts::mixed("many", vec![(pair, MAX_TOTAL_WEIGHT + 1)], PromptOrder::Sequential)
            .is_none()
    );
}

#[test]
fn cold_prompts_begin_like_no_other_and_are_no_longer_for_it() {
    let runs = [0, 1].map(|_| synthetic().with_prefix_cache(PrefixCache::Cold));
    let lengths = Some(Lengths { input: NonZeroU32::new(64), output: None });
    let asked = |(run, stream, k): (&'static usize, &'static &str, u64)| {
        let asked = runs[*run].prompt_for(7, stream, k, lengths).unwrap();
        let nonce = asked.nonce.clone().unwrap();
        assert_eq!(tokens(&nonce) + tokens(&text(&asked)), 64);
        nonce
    };
    let all = [0, 1]
        .iter()
        .flat_map(|run| ["s", "t"].iter().flat_map(move |s| (0..1000).map(move |k| (run, s, k))));
    assert_eq!(all.map(asked).collect::<HashSet<_>>().len(), 4000);
}

#[test]
fn salted_prompts_keep_their_words() {
    let salted = three(PromptOrder::Sequential).with_prefix_cache(PrefixCache::Salted);
    let asked: Vec<_> = (0..4).map(|k| salted.prompt_for(7, "s", k, None).unwrap()).collect();
    assert_eq!(asked.iter().map(text).collect::<String>(), "abca");
    assert!(asked.iter().all(|asked| asked.nonce.is_none()));
    assert_eq!(
        asked.iter().map(|asked| asked.cache_salt.clone().unwrap()).collect::<HashSet<_>>().len(),
        4
    );
}

#[test]
fn the_built_in_source_varies() {
    let count = Prompts::builtin().len().unwrap();
    let all: Vec<_> = (0..count).map(|k| picked(&Prompts::builtin(), 0, "s", k)).collect();
    let words = |text: &String| text.split_whitespace().count();
    assert!(count >= 40);
    assert!(all.iter().any(|text| words(text) < 10));
    assert!(all.iter().filter(|text| words(text) >= 150).count() >= 4);
    assert!(all.iter().all(|text| words(text) <= 320 && text.trim() == text));
}
