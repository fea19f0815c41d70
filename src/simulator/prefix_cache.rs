//! The prefix cache: the blocks of recent prompts that the engine need not read again.
//!
//! As in vLLM, a block has 16 tokens, and its hash includes all tokens before it. So an equal hash
//! means an equal prefix. When the cache is full, the block that was used least recently makes
//! room.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::tokenizer;

/// In tokens.
pub(super) const BLOCK: u32 = 16;

/// The tokens of a prompt: their number, and the hash of each complete block.
#[derive(Clone, Debug)]
pub(super) struct PromptTokens {
    count: u32,
    /// Contains all tokens so far.
    hasher: DefaultHasher,
    blocks: Vec<u64>,
}

impl PromptTokens {
    /// Only prompts with the same salt share blocks.
    pub(super) fn new(salt: Option<&str>) -> PromptTokens {
        let mut hasher = DefaultHasher::new();
        if let Some(salt) = salt {
            hasher.write(salt.as_bytes());
            hasher.write_u8(0xff);
        }
        PromptTokens { count: 0, hasher, blocks: Vec::new() }
    }

    /// Starts a message. The role is a part of the prefix, but it is no token, because the
    /// simulator has no chat template.
    pub(super) fn begin_message(&mut self, role: &str) {
        self.hasher.write(role.as_bytes());
        self.hasher.write_u8(0xfe);
    }

    pub(super) fn push_text(&mut self, text: &str) {
        for token in tokenizer::tokens(text) {
            self.hasher.write(token.as_bytes());
            self.end_token();
        }
    }

    pub(super) fn push_id(&mut self, id: u32) {
        self.hasher.write_u32(id);
        self.end_token();
    }

    fn end_token(&mut self) {
        // The byte 0xff is in no UTF-8 text, so it separates tokens.
        self.hasher.write_u8(0xff);
        self.count = self.count.saturating_add(1);
        if self.count.is_multiple_of(BLOCK) {
            self.blocks.push(self.hasher.finish());
        }
    }

    /// At least 1, because a model reads at least one token.
    pub(super) fn count(&self) -> u32 {
        self.count.max(1)
    }
}

/// Two prompts are equal if they have the same tokens. The last block can be incomplete.
impl PartialEq for PromptTokens {
    fn eq(&self, other: &PromptTokens) -> bool {
        self.count == other.count && self.hasher.finish() == other.hasher.finish()
    }
}

impl Eq for PromptTokens {}

/// The cached blocks, as a list in the order of their last use.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    /// The highest number of blocks.
    capacity: usize,
    /// The entries by hash.
    indices: HashMap<u64, u32>,
    entries: Vec<Entry>,
    /// The least and the most recently used entry, if there are entries.
    ends: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// The neighbours in the list. At an end, an entry is its own neighbour.
    older: u32,
    newer: u32,
}

impl PrefixCache {
    /// A cache for this number of tokens. Without a complete block, nothing is ever cached.
    pub(super) fn new(tokens: u32) -> PrefixCache {
        PrefixCache { capacity: (tokens / BLOCK) as usize, ..PrefixCache::default() }
    }

    /// Returns the number of prompt tokens that the engine need not read. It reads at least the
    /// last token, because the first token of the response follows from it.
    pub(super) fn cached_tokens(&self, prompt: &PromptTokens) -> u32 {
        let cached = prompt.blocks.iter().take_while(|hash| self.indices.contains_key(hash));
        let blocks = u32::try_from(cached.count()).unwrap_or(u32::MAX);
        blocks.min((prompt.count() - 1) / BLOCK) * BLOCK
    }

    /// Caches all complete blocks of a prompt.
    pub(super) fn insert(&mut self, prompt: &PromptTokens) {
        // A block is useless without the blocks before it, so the last block must leave first.
        for hash in prompt.blocks.iter().take(self.capacity).rev() {
            match self.indices.get(hash) {
                Some(index) => self.move_to_newest(*index),
                None => self.add(*hash),
            }
        }
    }

    fn add(&mut self, hash: u64) {
        let Some((oldest, newest)) = self.ends else {
            self.entries.push(Entry { hash, older: 0, newer: 0 });
            self.indices.insert(hash, 0);
            self.ends = Some((0, 0));
            return;
        };
        let index = if self.entries.len() < self.capacity {
            let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            self.entries.push(Entry { hash, older: newest, newer: index });
            self.entries[newest as usize].newer = index;
            self.ends = Some((oldest, index));
            index
        } else {
            let entry = &mut self.entries[oldest as usize];
            self.indices.remove(&std::mem::replace(&mut entry.hash, hash));
            self.move_to_newest(oldest);
            oldest
        };
        self.indices.insert(hash, index);
    }

    fn move_to_newest(&mut self, index: u32) {
        let Some((oldest, newest)) = self.ends else { return };
        if index == newest {
            return;
        }
        let Entry { older, newer, .. } = self.entries[index as usize];
        let oldest = if index == oldest {
            self.entries[newer as usize].older = newer;
            newer
        } else {
            self.entries[older as usize].newer = newer;
            self.entries[newer as usize].older = older;
            oldest
        };
        self.entries[newest as usize].newer = index;
        let entry = &mut self.entries[index as usize];
        (entry.older, entry.newer) = (newest, index);
        self.ends = Some((oldest, index));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A prompt of blocks that differ by their number.
    fn prompt(blocks: impl IntoIterator<Item = u32>, more_tokens: u32) -> PromptTokens {
        let mut prompt = PromptTokens::new(None);
        let ids = blocks.into_iter().flat_map(|block| [block; BLOCK as usize]);
        ids.chain(std::iter::repeat_n(0, more_tokens as usize)).for_each(|id| prompt.push_id(id));
        prompt
    }

    #[test]
    fn the_complete_blocks_of_a_shared_prefix_are_cached() {
        let mut cache = PrefixCache::new(1600);
        let first = prompt([1, 2, 3], 5);
        assert_eq!(cache.cached_tokens(&first), 0);
        cache.insert(&first);
        assert_eq!(cache.cached_tokens(&first), 48);
        assert_eq!(cache.cached_tokens(&prompt([1, 2, 4], 5)), 32);
        assert_eq!(cache.cached_tokens(&prompt([2, 3], 5)), 0, "the prefix differs");
        assert_eq!(cache.cached_tokens(&prompt([1, 2, 3], 0)), 32, "the last token is not cached");
    }

    #[test]
    fn messages_roles_and_salts_divide_prefixes() {
        let of = |salt, messages: &[(&str, &str)]| {
            let mut prompt = PromptTokens::new(salt);
            for (role, text) in messages {
                prompt.begin_message(role);
                prompt.push_text(text);
            }
            prompt
        };
        let text = "one two three four five six seven eight nine ten";
        let both = of(None, &[("system", text), ("user", text)]);
        assert_eq!(both.count(), 20);
        let mut cache = PrefixCache::new(1600);
        cache.insert(&both);
        assert_eq!(cache.cached_tokens(&both), 16);
        for other in [
            of(Some("salt"), &[("system", text), ("user", text)]),
            of(None, &[("user", text), ("user", text)]),
            of(None, &[("system", &format!("{text}{text}"))]),
        ] {
            assert_eq!(cache.cached_tokens(&other), 0);
        }
    }

    #[test]
    fn a_cache_without_room_for_a_block_caches_nothing() {
        let mut cache = PrefixCache::new(BLOCK - 1);
        cache.insert(&prompt([1, 2], 1));
        assert_eq!(cache.cached_tokens(&prompt([1, 2], 1)), 0);
    }

    proptest! {
        /// Compares the linked list with a vector in the order of use.
        #[test]
        fn the_least_recently_used_block_leaves_first(
            capacity in 1_usize..8,
            prompts in proptest::collection::vec(proptest::collection::vec(0_u32..3, 0..6), 0..40),
        ) {
            let mut cache = PrefixCache::new(u32::try_from(capacity).unwrap() * BLOCK);
            let mut used: Vec<u64> = Vec::new();
            for blocks in prompts {
                let prompt = prompt(blocks, 1);
                let expected = prompt.blocks.iter().take_while(|hash| used.contains(hash)).count();
                prop_assert_eq!(cache.cached_tokens(&prompt) as usize, expected * BLOCK as usize);
                cache.insert(&prompt);
                for hash in prompt.blocks.iter().take(capacity).rev() {
                    used.retain(|other| other != hash);
                    used.push(*hash);
                }
                let surplus = used.len().saturating_sub(capacity);
                used.drain(..surplus);
                prop_assert_eq!(cache.entries.len(), used.len());
                prop_assert_eq!(cache.indices.len(), used.len());
            }
        }
    }
}
