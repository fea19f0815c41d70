//! Shortened names. Two different names never become the same text, because a reader could not
//! distinguish the rows of a table.

use super::style::cut;

/// Shortens names to a number of columns, so that different names stay different. If the starts of
/// two names are equal, the shortened names begin with the word in which they differ:
/// `…warehouse`. If this is not enough, they begin with the number of the name: `2 …warehouse`.
pub(crate) fn cut_apart(names: &[&str], columns: usize) -> Vec<String> {
    shortened_apart(names, |_, name| cut(name, columns))
}

/// Shortens names with a function that keeps the start of a name, so that different names stay
/// different. The function receives the index of the name and a text.
pub(crate) fn shortened_apart(
    names: &[&str],
    shorten: impl Fn(usize, &str) -> String,
) -> Vec<String> {
    let short: Vec<String> =
        names.iter().enumerate().map(|(index, name)| shorten(index, name)).collect();
    let differing = |(index, name): (usize, &&str)| {
        let alike = names.iter().zip(&short).filter(|(other, cut)| {
            **other != *name && short.get(index).is_some_and(|short| *cut == short)
        });
        // The start that this name shares with another name, in bytes.
        let shared: Vec<usize> = alike.map(|(other, _)| shared_start(name, other)).collect();
        let fewest = shared.iter().copied().min()?;
        let most = shared.iter().copied().max()?;
        let from_word = |end: usize| {
            let start = name.get(..end)?;
            let word = start.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| {
                at + start.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
            });
            Some(format!("…{}", name.get(word..)?))
        };
        let readable = from_word(fewest)?;
        // The start of the last word can be too long for the place.
        let is_complete = shorten(index, &readable) == readable;
        let shortest = || Some(shorten(index, &format!("…{}", name.get(most..)?)));
        if is_complete { Some(readable) } else { shortest() }
    };
    let all = names.iter().enumerate().zip(&short);
    let texts: Vec<String> =
        all.map(|(name, short)| differing(name).unwrap_or_else(|| short.clone())).collect();
    let is_ambiguous = |texts: &[String], index: usize| {
        let mut others = names.iter().zip(texts);
        others.any(|(other, text)| *other != names[index] && *text == texts[index])
    };
    let numbered = |index: usize| {
        // The same name in two places has one number.
        let number = names.iter().position(|name| *name == names[index]).unwrap_or(index) + 1;
        shorten(index, &format!("{number} {}", texts[index]))
    };
    let indices = 0..names.len();
    let some: Vec<String> = indices
        .clone()
        .map(
            |index| {
                if is_ambiguous(&texts, index) { numbered(index) } else { texts[index].clone() }
            },
        )
        .collect();
    // A name can begin with a number too.
    if indices.clone().any(|index| is_ambiguous(&some, index)) {
        indices.map(numbered).collect()
    } else {
        some
    }
}

/// The number of bytes at the start of two names that are equal.
fn shared_start(one: &str, other: &str) -> usize {
    let equal = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    equal.map(|(character, _)| character.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::text::style::width;

    #[test]
    fn shortened_names_stay_different() {
        let shortened = |names: &[&str], columns| cut_apart(names, columns).join(" ");
        let names = ["load-of-the-office", "load-of-the-warehouse", "peak"];
        assert_eq!(shortened(&names, 30), names.join(" "));
        assert_eq!(shortened(&names, 18), "load-of-the-office load-of-the-wareh… peak");
        assert_eq!(shortened(&names, 12), "…office …warehouse peak");
        assert_eq!(shortened(&names, 6), "…offi… …ware… peak");
        // The same name in two rows is no other name.
        assert_eq!(shortened(&["load-of-all", "load-of-all"], 6), "load-… load-…");
        let words = ["phase 1 of the ramp", "phase 1 of the sine", "phase 2 of the ramp"];
        assert_eq!(shortened(&words, 9), "…ramp …sine phase 2…");
        let four = ["production", "playground"].map(|cluster| {
            ["short", "longer"]
                .map(|length| format!("conversation-of-the-{cluster}-cluster-evening-{length}"))
        });
        let four: Vec<&str> = four.iter().flatten().map(String::as_str).collect();
        assert_eq!(shortened(&four, 12), "1 …short 2 …longer 3 …short 4 …longer");
        assert_eq!(shortened(&["并发并发并发-a", "并发并发并发-b"], 6), "…a …b");
    }

    proptest! {
        #[test]
        fn two_different_names_never_become_the_same_text(
            names in prop::collection::vec("[ab1-3 -]{0,12}(-evening)?(-short|-longer)?", 2..20),
            columns in 4_usize..24,
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let short = cut_apart(&names, columns);
            for (name, text) in names.iter().zip(&short) {
                prop_assert!(width(text) <= columns, "{text:?}");
                for (other, same) in names.iter().zip(&short) {
                    prop_assert_eq!(name == other, text == same, "{} {}", name, other);
                }
            }
        }
    }
}
