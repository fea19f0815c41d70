//! An approximate tokenizer. As in most tokenizers, a common English word is one token, together
//! with the space before it.

/// The longest part of a word that is one token, in characters.
const WORD: usize = 12;
/// The longest part of a number that is one token, in digits.
const DIGITS: usize = 3;
/// From this character on, scripts write words without spaces, so each character is a token. The
/// emoji are above it too.
const IDEOGRAPHS: char = '\u{2e80}';

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Other,
}

impl Class {
    fn of(character: char) -> Class {
        match character {
            _ if character.is_whitespace() => Class::Space,
            '0'..='9' => Class::Digit,
            _ if character.is_alphabetic() && character < IDEOGRAPHS => Class::Letter,
            _ => Class::Other,
        }
    }

    /// The highest number of characters of this class in one token.
    fn limit(self) -> usize {
        match self {
            Class::Letter => WORD,
            Class::Digit => DIGITS,
            Class::Space => usize::MAX,
            Class::Other => 1,
        }
    }
}

/// Splits a text into tokens. Together they are the complete text.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (token, after) = rest.split_at(first_token(rest));
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}

/// Returns the length of the first token in bytes, and 0 for an empty text.
fn first_token(text: &str) -> usize {
    // The last space before a word is a part of the word.
    let word = text.strip_prefix(' ').unwrap_or(text);
    let class = word.chars().next().map(Class::of);
    let (start, class) = match class {
        Some(class) if class != Class::Space => (text.len() - word.len(), class),
        _ => (0, Class::Space),
    };
    let run = text[start..].char_indices().take_while(|(_, c)| Class::of(*c) == class);
    let (count, last) =
        run.take(class.limit()).fold((0, None), |(count, _), at| (count + 1, Some(at)));
    let end = last.map_or(0, |(at, last)| start + at + last.len_utf8());
    let word_follows = end < text.len() && class == Class::Space;
    match last {
        Some((at, ' ')) if word_follows && count > 1 => at,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_numbers_and_punctuation_are_tokens() {
        for (text, expected) in [
            ("", &[][..]),
            (" ", &[" "]),
            ("The old man.", &["The", " old", " man", "."]),
            (" The", &[" The"]),
            ("a  b\n\nc ", &["a", " ", " b", "\n\n", "c", " "]),
            ("\n a", &["\n", " a"]),
            ("in 12345 ms", &["in", " 123", "45", " ms"]),
            ("incomprehensibilities", &["incomprehens", "ibilities"]),
            ("¿qué? 時間🙂", &["¿", "qué", "?", " 時", "間", "🙂"]),
        ] {
            assert_eq!(tokens(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_tokens_of_a_text_add_up_to_the_text(text in ".*") {
            prop_assert!(tokens(&text).all(|token| !token.is_empty()));
            prop_assert_eq!(tokens(&text).collect::<String>(), text);
        }

        #[test]
        fn a_text_has_the_tokens_of_its_parts_if_each_part_begins_with_a_space(
            parts in proptest::collection::vec(" [a-z]{1,9}[.,]?", 0..20),
        ) {
            let separate: Vec<&str> = parts.iter().flat_map(|part| tokens(part)).collect();
            let text = parts.concat();
            prop_assert_eq!(tokens(&text).collect::<Vec<_>>(), separate);
        }
    }
}
