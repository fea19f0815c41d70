//! Tests of the filler text.

use std::collections::HashSet;

use super::*;
use crate::random::{Purpose, seeded_rng};

/// Counts words and full stops, unlike the code under test.
pub(in crate::prompts) fn tokens(text: &str) -> usize {
    text.split_whitespace().count() + text.matches('.').count()
}

#[test]
fn a_text_has_exactly_the_requested_number_of_tokens() {
    let mut rng = seeded_rng(1, "s", Purpose::Prompts);
    for length in (0..100).chain([1000, 12_345]) {
        let mut text = String::new();
        write(&mut text, length, &mut rng);
        assert_eq!(tokens(&text), length as usize, "{text}");
        assert_eq!(text.trim(), text);
        assert!(!text.contains("  "));
    }
    let mut text = "Begun".to_owned();
    write(&mut text, 12, &mut rng);
    assert_eq!(tokens(&text), 13, "{text}");
}

#[test]
fn every_word_is_lower_case_and_unique() {
    for words in [&NOUNS[..], &ADJECTIVES, &VERBS, &PREPOSITIONS] {
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
        assert!(
            words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase()) && word.len() > 1)
        );
    }
}

#[test]
fn nonces_are_unique_and_have_a_fixed_number_of_tokens() {
    let nonces: HashSet<_> = (0..10_000).chain([u64::MAX]).map(nonce).collect();
    assert_eq!(nonces.len(), 10_001);
    assert!(
        nonces.iter().all(|nonce| tokens(nonce) == NONCE_TOKENS as usize && nonce.ends_with(". "))
    );
}
