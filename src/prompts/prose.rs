//! The words of synthetic prompts, and what is written with them.
//!
//! A length is asked for in tokens, and only the target knows its tokenizer. So the text is made of
//! words that are one token each, with the space before them, in every tokenizer they were tried on:
//! those of GPT-3, GPT-4, GPT-4o, Llama 2, Llama 3 and Mistral. So is the full stop. Hence the rule
//! that lengths go by: one token a word and a mark.

use rand::Rng;

/// What one sentence takes.
const SENTENCE: u32 = 11;

/// How many tokens [`nonce`] takes.
pub(super) const NONCE: u32 = 10;

/// Adds text of exactly so many tokens: whole sentences, the last one cut where it has to be.
pub(super) fn write(text: &mut String, tokens: u32, series: &mut impl Rng) {
    let mut rest = tokens;
    while rest > 0 {
        // 46 bits of it make a sentence: two prompts do not begin alike.
        let mut bits = series.next_u64();
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
        if rest >= SENTENCE {
            text.push('.');
        }
        rest = rest.saturating_sub(SENTENCE);
    }
}

/// A sentence that no other number has, to stand before a text.
pub(super) fn nonce(number: u64) -> String {
    let words = number.to_be_bytes().map(|byte| NOUNS[usize::from(byte)]);
    format!("The {}. ", words.join(" "))
}

/// People, places and things.
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

/// What they are like.
pub(super) const ADJECTIVES: [&str; 64] = [
    "old", "new", "young", "small", "big", "little", "large", "great", "long", "short", "high",
    "low", "good", "bad", "early", "late", "dark", "bright", "red", "blue", "green", "black",
    "white", "brown", "yellow", "grey", "warm", "cold", "hot", "cool", "dry", "wet", "clean",
    "dirty", "quiet", "loud", "soft", "hard", "heavy", "strong", "weak", "happy", "sad", "angry",
    "proud", "brave", "calm", "kind", "clever", "strange", "common", "rare", "simple", "plain",
    "rough", "smooth", "sharp", "round", "wide", "narrow", "deep", "thin", "thick", "full",
];

/// What they did.
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

/// Where.
pub(super) const PREPOSITIONS: [&str; 16] = [
    "near", "behind", "beside", "before", "after", "under", "over", "above", "below", "inside",
    "outside", "against", "around", "with", "without", "for",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::{Purpose, seeded_rng};

    /// The rule, counted on its own: words, and the marks that end them.
    pub(in crate::prompts) fn tokens(text: &str) -> usize {
        text.split_whitespace().count() + text.matches('.').count()
    }

    #[test]
    fn a_text_has_exactly_as_many_tokens_as_asked_for() {
        let mut series = seeded_rng(1, "s", Purpose::Prompts);
        for length in (0..100).chain([1000, 12_345]) {
            let mut text = String::new();
            write(&mut text, length, &mut series);
            assert_eq!(tokens(&text), length as usize, "{text}");
            assert_eq!(text.trim(), text);
            assert!(!text.contains("  "));
        }
        let mut text = "Begun".to_owned();
        write(&mut text, 12, &mut series);
        assert_eq!(tokens(&text), 13, "{text}");
    }

    #[test]
    fn every_word_is_there_once_and_whole() {
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
    fn nonces_differ_and_are_as_long_as_they_say() {
        let nonces: HashSet<_> = (0..10_000).chain([u64::MAX]).map(nonce).collect();
        assert_eq!(nonces.len(), 10_001);
        assert!(
            nonces.iter().all(|nonce| tokens(nonce) == NONCE as usize && nonce.ends_with(". "))
        );
    }
}
