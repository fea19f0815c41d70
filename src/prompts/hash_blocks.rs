//! The text of the blocks that a trace names by hash ids.
//!
//! The seed, the size of the blocks and the id determine the text of a block. So every daemon and
//! every shard sends the same text for the same id, and a prefix cache finds the same blocks as the
//! recorded server.

use rand::Rng;

use super::filler_text;
use crate::random::{self, Purpose};
use crate::schedule::HashBlocks;

/// Appends at most `tokens` tokens, and returns their number. The text of an incomplete block is
/// the start of the text of the complete block.
pub(super) fn write(text: &mut String, tokens: u32, seed: u64, blocks: HashBlocks<'_>) -> u32 {
    let mut rest = tokens;
    for id in blocks.ids {
        let block = rest.min(blocks.size);
        write_block(text, block, seed, (blocks.size, *id));
        rest -= block;
    }
    tokens - rest
}

fn write_block(text: &mut String, tokens: u32, seed: u64, (size, id): (u32, u64)) {
    let mut rng = random::seeded_rng(seed, &size.to_string(), Purpose::Blocks);
    let key = rng.next_u64();
    // The first sentence contains the id, so two blocks with different ids are never equal.
    let written = filler_text::write_nonce(text, tokens, random::scatter(id ^ key));
    rng.set_stream(id);
    filler_text::write(text, tokens - written, &mut rng);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prompts::filler_text::tests::tokens;

    fn text(seed: u64, length: u32, size: u32, ids: &[u64]) -> String {
        let mut text = String::new();
        let written = write(&mut text, length, seed, HashBlocks { ids, size });
        assert_eq!(tokens(&text), written as usize);
        text
    }

    #[test]
    fn the_text_of_an_id_never_changes() {
        // Daemons of different versions must send the same text for the same id.
        let expected =
            "The tower doctor arm wall name party gas father. The full pool tested the forest";
        assert_eq!(text(7, 16, 16, &[3]), expected);
    }

    proptest! {
        #[test]
        fn equal_ids_have_equal_texts_and_different_ids_have_different_texts(
            seed in any::<u64>(), size in 10_u32..600, ids in proptest::collection::vec(0_u64..4, 1..9),
        ) {
            let count = u32::try_from(ids.len()).unwrap();
            let all = text(seed, size * count, size, &ids);
            prop_assert_eq!(tokens(&all), (size * count) as usize);
            let blocks: Vec<String> = ids.iter().map(|id| text(seed, size, size, &[*id])).collect();
            prop_assert_eq!(&all, &blocks.join(" "));
            for (at, id) in ids.iter().enumerate() {
                let same_id: Vec<bool> = ids.iter().map(|other| other == id).collect();
                let same_text: Vec<bool> = blocks.iter().map(|other| *other == blocks[at]).collect();
                prop_assert_eq!(same_id, same_text);
            }
        }

        #[test]
        fn seed_size_and_id_change_the_text(
            seed in any::<u64>(), size in 16_u32..600, one in any::<u64>(), other in any::<u64>(),
        ) {
            let block = text(seed, 16, size, &[one]);
            prop_assert_ne!(&block, &text(seed.wrapping_add(1), 16, size, &[one]));
            prop_assert_ne!(&block, &text(seed, 16, size + 1, &[one]));
            prop_assert_eq!(one == other, block == text(seed, 16, size, &[other]));
        }

        #[test]
        fn a_shorter_prompt_is_the_start_of_a_longer_prompt(
            length in 1_u32..200, size in 1_u32..64, ids in proptest::collection::vec(any::<u64>(), 1..9),
        ) {
            let count = u32::try_from(ids.len()).unwrap();
            let short = text(1, length, size, &ids);
            prop_assert_eq!(tokens(&short), length.min(size * count) as usize);
            prop_assert!(text(1, size * count, size, &ids).starts_with(&short));
        }
    }
}
