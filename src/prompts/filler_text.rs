//! The text of synthetic prompts, with a known number of tokens.
//!
//! llmload does not know the tokenizer of the target. So the text uses only common words. Each of
//! these words, together with the space before it, is one token for GPT-3, GPT-4, GPT-4o, Llama 2,
//! Llama 3 and Mistral. A full stop is also one token.

use rand::Rng;

/// The number of tokens of one sentence.
const SENTENCE_TOKENS: u32 = 11;

/// The number of tokens of a [`nonce`].
pub(super) const NONCE_TOKENS: u32 = 10;

/// Appends text with exactly this number of tokens. The last sentence can be incomplete.
pub(super) fn write(text: &mut String, tokens: u32, rng: &mut impl Rng) {
    let mut rest = tokens;
    while rest > 0 {
        // A sentence depends on 46 random bits, so it is very unlikely that two prompts begin with
        // the same sentence.
        let mut bits = rng.next_u64();
        let mut draw = |words: &[&'static str]| {
            let count = words.len() as u64;
            let word = usize::try_from(bits % count).ok().and_then(|at| words.get(at));
            bits /= count;
            word.copied().unwrap_or_default()
        };
        let sentence = [
            "The",
            draw(&ADJECTIVES),
            draw(&NOUNS),
            draw(&VERBS),
            "the",
            draw(&NOUNS),
            draw(&PREPOSITIONS),
            "the",
            draw(&ADJECTIVES),
            draw(&NOUNS),
        ];
        for word in sentence.iter().take(usize::try_from(rest).unwrap_or(usize::MAX)) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        if rest >= SENTENCE_TOKENS {
            text.push('.');
        }
        rest = rest.saturating_sub(SENTENCE_TOKENS);
    }
}

/// Returns a sentence that is different for each number. It is placed before a text.
pub(super) fn nonce(number: u64) -> String {
    let words = number.to_be_bytes().map(|byte| NOUNS[usize::from(byte)]);
    format!("The {}. ", words.join(" "))
}

/// Nouns for people, places and things.
pub(super) const NOUNS: [&str; 256] = [
    "time",
    "year",
    "day",
    "night",
    "morning",
    "evening",
    "week",
    "month",
    "hour",
    "minute",
    "man",
    "woman",
    "child",
    "boy",
    "girl",
    "friend",
    "family",
    "mother",
    "father",
    "brother",
    "sister",
    "son",
    "daughter",
    "king",
    "queen",
    "doctor",
    "teacher",
    "student",
    "driver",
    "soldier",
    "captain",
    "lawyer",
    "judge",
    "artist",
    "writer",
    "reader",
    "singer",
    "actor",
    "player",
    "worker",
    "manager",
    "officer",
    "leader",
    "member",
    "guest",
    "neighbor",
    "stranger",
    "house",
    "home",
    "room",
    "door",
    "window",
    "wall",
    "floor",
    "roof",
    "garden",
    "yard",
    "street",
    "road",
    "path",
    "bridge",
    "river",
    "lake",
    "sea",
    "ocean",
    "beach",
    "island",
    "mountain",
    "hill",
    "valley",
    "forest",
    "field",
    "tree",
    "flower",
    "grass",
    "leaf",
    "seed",
    "fruit",
    "apple",
    "bread",
    "milk",
    "water",
    "wine",
    "coffee",
    "tea",
    "sugar",
    "salt",
    "meat",
    "fish",
    "egg",
    "bird",
    "dog",
    "cat",
    "horse",
    "cow",
    "sheep",
    "mouse",
    "bear",
    "book",
    "page",
    "letter",
    "word",
    "story",
    "song",
    "poem",
    "paper",
    "pen",
    "map",
    "picture",
    "photo",
    "film",
    "movie",
    "game",
    "ball",
    "box",
    "bag",
    "cup",
    "glass",
    "plate",
    "table",
    "chair",
    "bed",
    "lamp",
    "fire",
    "smoke",
    "stone",
    "rock",
    "sand",
    "dust",
    "wood",
    "metal",
    "gold",
    "silver",
    "iron",
    "steel",
    "oil",
    "gas",
    "wind",
    "rain",
    "snow",
    "storm",
    "cloud",
    "sky",
    "sun",
    "moon",
    "star",
    "city",
    "town",
    "village",
    "country",
    "world",
    "church",
    "school",
    "office",
    "bank",
    "shop",
    "store",
    "market",
    "hospital",
    "hotel",
    "restaurant",
    "station",
    "train",
    "car",
    "bus",
    "boat",
    "ship",
    "plane",
    "wheel",
    "engine",
    "machine",
    "tool",
    "key",
    "lock",
    "wire",
    "coat",
    "hat",
    "hand",
    "foot",
    "head",
    "face",
    "eye",
    "ear",
    "nose",
    "mouth",
    "hair",
    "heart",
    "arm",
    "leg",
    "finger",
    "voice",
    "sound",
    "noise",
    "music",
    "dream",
    "idea",
    "question",
    "answer",
    "problem",
    "reason",
    "name",
    "number",
    "price",
    "money",
    "job",
    "work",
    "farm",
    "factory",
    "mine",
    "port",
    "gate",
    "tower",
    "castle",
    "palace",
    "temple",
    "court",
    "hall",
    "kitchen",
    "bath",
    "corner",
    "edge",
    "circle",
    "square",
    "sign",
    "flag",
    "shield",
    "tent",
    "camp",
    "pool",
    "well",
    "spring",
    "stream",
    "wave",
    "shore",
    "coast",
    "desert",
    "park",
    "museum",
    "library",
    "studio",
    "lab",
    "tunnel",
    "highway",
    "board",
    "card",
    "coin",
    "stamp",
    "gift",
    "prize",
    "party",
    "dance",
    "dinner",
    "breakfast",
    "soup",
    "rice",
    "corn",
];

/// Adjectives that fit the nouns.
pub(super) const ADJECTIVES: [&str; 64] = [
    "old", "new", "young", "small", "big", "little", "large", "great", "long", "short", "high",
    "low", "good", "bad", "early", "late", "dark", "bright", "red", "blue", "green", "black",
    "white", "brown", "yellow", "grey", "warm", "cold", "hot", "cool", "dry", "wet", "clean",
    "dirty", "quiet", "loud", "soft", "hard", "heavy", "strong", "weak", "happy", "sad", "angry",
    "proud", "brave", "calm", "kind", "clever", "strange", "common", "rare", "simple", "plain",
    "rough", "smooth", "sharp", "round", "wide", "narrow", "deep", "thin", "thick", "full",
];

/// Verbs in the past tense.
pub(super) const VERBS: [&str; 64] = [
    "saw",
    "found",
    "took",
    "left",
    "lost",
    "held",
    "kept",
    "gave",
    "sent",
    "brought",
    "carried",
    "moved",
    "pushed",
    "pulled",
    "opened",
    "closed",
    "passed",
    "crossed",
    "followed",
    "watched",
    "heard",
    "called",
    "asked",
    "told",
    "knew",
    "met",
    "joined",
    "helped",
    "loved",
    "wanted",
    "built",
    "broke",
    "painted",
    "covered",
    "filled",
    "counted",
    "measured",
    "bought",
    "sold",
    "paid",
    "showed",
    "drew",
    "wrote",
    "read",
    "sang",
    "played",
    "won",
    "fought",
    "saved",
    "raised",
    "dropped",
    "threw",
    "caught",
    "touched",
    "felt",
    "reached",
    "entered",
    "visited",
    "searched",
    "checked",
    "tested",
    "fixed",
    "turned",
    "described",
];

/// Prepositions of place.
pub(super) const PREPOSITIONS: [&str; 16] = [
    "near", "behind", "beside", "before", "after", "under", "over", "above", "below", "inside",
    "outside", "against", "around", "with", "without", "for",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::{Purpose, seeded_rng};

    /// Counts the tokens of a text in another way than the code under test: as words and full
    /// stops.
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
                words
                    .iter()
                    .all(|word| word.bytes().all(|b| b.is_ascii_lowercase()) && word.len() > 1)
            );
        }
    }

    #[test]
    fn nonces_are_unique_and_have_a_fixed_number_of_tokens() {
        let nonces: HashSet<_> = (0..10_000).chain([u64::MAX]).map(nonce).collect();
        assert_eq!(nonces.len(), 10_001);
        assert!(
            nonces
                .iter()
                .all(|nonce| tokens(nonce) == NONCE_TOKENS as usize && nonce.ends_with(". "))
        );
    }
}
