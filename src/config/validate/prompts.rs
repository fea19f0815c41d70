//! Validates the sources of prompts, and selects the source of each scenario.

use super::{Definitions, Validator};
use crate::config::document::{self, Scenario, ScenarioPrompts, Source, SourceKeys};
use crate::config::field::{Field, FieldList, FieldMap, Located};
use crate::config::problem::Mistake;
use crate::config::scalar::Count;
use crate::config::tree::NodeId;
use crate::prompts::{
    self, LoadError, MAX_TOTAL_WEIGHT, PrefixCache, PromptOrder, Prompts, RowFormat,
};

/// The keys that define the prompts of a source, for messages.
const PROMPT_KEYS: &str = "`inline: […]`, `lines: FILE`, `pairs: FILE`, `payloads: FILE`, `sharegpt: FILE`, \
                       `jsonl: FILE`, `conversations: FILE`, `synthetic: {…}`, `mix: {…}`";

impl Validator<'_> {
    /// Reads all sources. Mixes are last, because they refer to other sources.
    pub(super) fn sources(&self, field: &Field<FieldMap<Source>>) -> Definitions<Prompts> {
        let mut sources = self
            .definitions("prompts", field, |name, source, node| self.source(name, source, node));
        let entries = field.present().map_or(&[][..], |located| &located.value.0);
        let has_mix = |entry: &Field<Source>| match entry.present() {
            Some(Located { value: Source::Map(keys), .. }) => !keys.mix.is_absent(),
            _ => false,
        };
        let is_mix: Vec<bool> = entries.iter().map(|(_, entry)| has_mix(entry)).collect();
        for (index, (name, entry)) in entries.iter().enumerate() {
            if let Some(Located { node, value: Source::Map(keys) }) = entry.present()
                && is_mix[index]
                && self.has_one_prompt_key(keys, *node)
            {
                let mixed = self.mix(&name.value, keys, &sources, |name| {
                    entries
                        .iter()
                        .zip(&is_mix)
                        .any(|((other, _), is_mix)| *is_mix && other.value == name)
                });
                sources.entries[index].value = mixed;
            }
        }
        sources
    }

    /// Reads a source that is not a mix. Returns `None` for a mix and for a mistake.
    fn source(&self, name: &str, source: &Source, node: NodeId) -> Option<Prompts> {
        match source {
            Source::List(list) => self.inline(name, node, list),
            Source::Map(keys) if keys.mix.is_absent() => self.source_keys(name, keys, node),
            Source::Map(_) => None,
        }
    }

    pub(super) fn inline(
        &self,
        name: &str,
        node: NodeId,
        list: &FieldList<String>,
    ) -> Option<Prompts> {
        self.texts(node, list).and_then(|texts| Prompts::new(name, texts, PromptOrder::Sequential))
    }

    /// Returns the prompts of a scenario, in the order of the scenario.
    pub(super) fn scenario_prompts(
        &self,
        scenario_name: &str,
        scenario: &Scenario,
        node: NodeId,
        sources: &Definitions<Prompts>,
    ) -> Option<Prompts> {
        let prompts = match &scenario.prompts {
            Field::Invalid(_) => None,
            Field::Absent if sources.is_empty() => Some(Prompts::builtin()),
            Field::Absent => sources.resolve(self, &Field::Absent, node),
            Field::Present(Located { value: ScenarioPrompts::Text(name), .. })
                if name == prompts::BUILTIN && !sources.has(name) =>
            {
                Some(Prompts::builtin())
            }
            Field::Present(Located { node: name_node, value: ScenarioPrompts::Text(name) }) => {
                let name = Field::Present(Located { node: *name_node, value: name.clone() });
                sources.resolve(self, &name, node)
            }
            Field::Present(Located { node, value: ScenarioPrompts::List(list) }) => {
                self.inline(scenario_name, *node, list)
            }
        }?;
        let prompts = match &scenario.order {
            Field::Invalid(_) => return None,
            Field::Absent => prompts,
            Field::Present(_) => prompts.with_order(order(&scenario.order)?),
        };
        self.prefix_cache(&scenario.prefix_cache, &prompts)
            .map(|cache| prompts.with_prefix_cache(cache))
    }

    fn prefix_cache(
        &self,
        field: &Field<document::PrefixCache>,
        prompts: &Prompts,
    ) -> Option<PrefixCache> {
        let located = match field {
            Field::Invalid(_) => return None,
            Field::Absent => return Some(PrefixCache::Warm),
            Field::Present(located) => located,
        };
        match (located.value, prompts.count_without_text()) {
            (document::PrefixCache::Warm, _) => Some(PrefixCache::Warm),
            (document::PrefixCache::CacheSalt, _) => Some(PrefixCache::Salted),
            (document::PrefixCache::Cold, 0) => Some(PrefixCache::Cold),
            (document::PrefixCache::Cold, without_text) => {
                self.problem(
                    located.node,
                    format!(
                        "{without_text} prompts of `{}` have no text to which llmload can add a \
                         nonce (they are token ids, for example), so the server would cache them",
                        prompts.name
                    ),
                    "write `cache_salt`, which vLLM supports, or write these prompts as text",
                );
                None
            }
        }
    }

    fn texts(&self, node: NodeId, list: &FieldList<String>) -> Option<Vec<String>> {
        if list.0.is_empty() {
            self.problem(node, "the list is empty", "write at least one prompt");
            return None;
        }
        let texts: Vec<Option<String>> = list
            .0
            .iter()
            .map(|entry| {
                let located = entry.present()?;
                if located.value.trim().is_empty() {
                    self.problem(located.node, "the prompt is blank", "write a text");
                    return None;
                }
                Some(located.value.clone())
            })
            .collect();
        texts.into_iter().collect()
    }

    /// Returns true if the source has exactly one of the [`PROMPT_KEYS`]. Otherwise records a
    /// mistake.
    fn has_one_prompt_key(&self, keys: &SourceKeys, node: NodeId) -> bool {
        if let (Some(template), true) = (keys.template.node(), keys.pairs.is_absent()) {
            self.problem(
                template,
                "`template` is allowed only next to `pairs`",
                "remove `template`",
            );
        }
        if let (Some(field), true) = (keys.field.node(), keys.jsonl.is_absent()) {
            self.problem(field, "`field` is allowed only next to `jsonl`", "remove `field`");
        }
        if let (Some(time), true) = (keys.think_time.node(), keys.conversations.is_absent()) {
            self.problem(
                time,
                "`think_time` is allowed only next to `conversations`",
                "remove it, or write it inside `synthetic`",
            );
        }
        let present = [
            keys.inline.node(),
            keys.lines.node(),
            keys.pairs.node(),
            keys.payloads.node(),
            keys.sharegpt.node(),
            keys.jsonl.node(),
            keys.conversations.node(),
            keys.synthetic.node(),
            keys.mix.node(),
        ];
        let present = present.into_iter().flatten().count();
        if present == 0 {
            self.problem(node, "the source has no prompts", format!("write one of {PROMPT_KEYS}"));
        } else if present > 1 {
            self.problem(
                node,
                "the source defines its prompts with more than one key",
                format!("write only one of {PROMPT_KEYS}"),
            );
        }
        present == 1
    }

    fn source_keys(&self, name: &str, keys: &SourceKeys, node: NodeId) -> Option<Prompts> {
        if !self.has_one_prompt_key(keys, node) {
            return None;
        }
        if let (Some(located), Some(_)) = (keys.order.node(), keys.synthetic.node()) {
            self.problem(
                located,
                "`order` is not allowed next to `synthetic`",
                "remove `order`, because llmload generates a new prompt for each request",
            );
        }
        let order = order(&keys.order);
        if let Some(list) = keys.inline.present() {
            return Prompts::new(name, self.texts(list.node, &list.value)?, order?);
        }
        if !keys.pairs.is_absent() {
            return Prompts::new(name, self.pairs(keys)?, order?);
        }
        if let Some(synthetic) = keys.synthetic.present() {
            return self.synthetic_source(name, synthetic);
        }
        let field = match &keys.field {
            Field::Invalid(_) => return None,
            Field::Absent => None,
            Field::Present(located) => Some(located.value.clone()),
        };
        let files = [
            (&keys.lines, RowFormat::Lines),
            (&keys.payloads, RowFormat::Payloads),
            (&keys.sharegpt, RowFormat::Sharegpt),
            (&keys.jsonl, RowFormat::Jsonl(field)),
            (&keys.conversations, RowFormat::Conversations),
        ];
        let think_time = self.think_time(&keys.think_time);
        let (file, format) =
            files.into_iter().find_map(|(file, format)| Some((file.present()?, format)))?;
        let has_sessions = format == RowFormat::Conversations;
        match prompts::load_rows(&self.path(&file.value), format) {
            Ok(rows) => {
                let (skipped, all) = rows.skipped();
                if skipped > 0 {
                    self.warn(
                        file.node,
                        format!("{skipped} of {all} rows have no question, so llmload skips them"),
                        "add a message from a user, or remove these rows",
                    );
                }
                if has_sessions {
                    return Some(Prompts::conversations(name, rows, think_time?, order?));
                }
                Some(Prompts::from_rows(name, rows, order?))
            }
            Err(errors) => {
                for error in errors {
                    self.report(file.node, mistake_of(&error));
                }
                None
            }
        }
    }

    fn pairs(&self, keys: &SourceKeys) -> Option<Vec<String>> {
        let file = keys.pairs.present()?;
        let template = match &keys.template {
            Field::Invalid(_) => return None,
            Field::Absent => prompts::DEFAULT_TEMPLATE,
            Field::Present(located) => &located.value,
        };
        let read = prompts::load_pairs(&self.path(&file.value), template);
        let node = match (&read, keys.template.node()) {
            (Err(LoadError::Template { .. }), Some(template)) => template,
            _ => file.node,
        };
        read.map_err(|error| self.report(node, mistake_of(&error))).ok()
    }

    fn mix(
        &self,
        name: &str,
        keys: &SourceKeys,
        sources: &Definitions<Prompts>,
        is_mix: impl Fn(&str) -> bool,
    ) -> Option<Prompts> {
        let mix = keys.mix.present()?;
        if mix.value.0.is_empty() {
            self.problem(
                mix.node,
                "the mix is empty",
                "write sources with their weights, such as `{short: 3, long: 1}`",
            );
        }
        let mut total = 0_u64;
        let members = mix.value.0.iter().map(|(source, weight)| {
            if is_mix(&source.value) {
                self.problem(
                    source.node,
                    "a mix cannot contain a mix",
                    "write the sources of the inner mix instead of its name",
                );
                return None;
            }
            let reference = Field::Present(source.clone());
            let prompts = sources.resolve(self, &reference, source.node);
            total = total.saturating_add(
                weight.present().map_or(0, |located: &Located<Count>| located.value.0),
            );
            let weight = self.positive(weight, 1, MAX_TOTAL_WEIGHT);
            if prompts.as_ref().is_some_and(Prompts::has_sessions) {
                self.problem(
                    source.node,
                    "a mix cannot contain prompts with several turns",
                    "write a scenario for these prompts",
                );
                return None;
            }
            Some((prompts?, weight?.get()))
        });
        // Without the first `collect`, the first mistake would hide the mistakes of later members.
        let members: Vec<_> = members.collect();
        let members: Option<Vec<_>> = members.into_iter().collect();
        if members.is_some() && total > u64::from(MAX_TOTAL_WEIGHT) {
            self.problem(
                mix.node,
                format!("the weights add up to {total}"),
                format!("write smaller weights, with a sum of at most {MAX_TOTAL_WEIGHT}"),
            );
            return None;
        }
        Prompts::mixed(name, members?, order(&keys.order)?)
    }
}

fn order(field: &Field<document::PromptOrder>) -> Option<PromptOrder> {
    match field {
        Field::Invalid(_) => None,
        Field::Absent => Some(PromptOrder::Sequential),
        Field::Present(located) => Some(match located.value {
            document::PromptOrder::Sequential => PromptOrder::Sequential,
            document::PromptOrder::Random => PromptOrder::Random,
        }),
    }
}

fn mistake_of(error: &LoadError) -> Mistake {
    let remedy = error.remedy().map(str::to_owned);
    Mistake { remedy, ..Mistake::without_remedy(error.problem()) }
}
