//! Sources of prompts: written in place, read from files, or mixed of others; and which of them a
//! scenario goes through, and how.

use super::{Definitions, Validator};
use crate::config::document::{self, Scenario, ScenarioPrompts, Source, SourceKeys};
use crate::config::field::{Field, FieldList, FieldMap, Located};
use crate::config::scalar::Count;
use crate::config::tree::NodeId;
use crate::prompts::{self, Format, LoadError, MOST_TURNS, PrefixCache, PromptOrder, Prompts};

/// Every key that says where prompts come from, as the message about none writes it.
const ORIGINS: &str = "`inline: […]`, `lines: FILE`, `pairs: FILE`, `payloads: FILE`, `sharegpt: FILE`, \
                       `jsonl: FILE`, `synthetic: {…}`, `mix: {…}`";

impl Validator<'_> {
    /// All sources by name: first those that stand for themselves, then the mixes of them.
    pub(super) fn sources(&self, field: &Field<FieldMap<Source>>) -> Definitions<Prompts> {
        let mut register = self
            .definitions("prompts", field, |name, source, node| self.source(name, source, node));
        let entries = field.present().map_or(&[][..], |located| &located.value.0);
        let mixes = |entry: &Field<Source>| match entry.present() {
            Some(Located { value: Source::Map(keys), .. }) => !keys.mix.is_absent(),
            _ => false,
        };
        let is_mix: Vec<bool> = entries.iter().map(|(_, entry)| mixes(entry)).collect();
        for (index, (name, entry)) in entries.iter().enumerate() {
            if let Some(Located { node, value: Source::Map(keys) }) = entry.present()
                && is_mix[index]
                && self.has_one_origin(keys, *node)
            {
                let mixed = self.mix(&name.value, keys, &register, |name| {
                    entries
                        .iter()
                        .zip(&is_mix)
                        .any(|((other, _), is_mix)| *is_mix && other.value == name)
                });
                register.entries[index].2 = mixed;
            }
        }
        register
    }

    /// A source by name; `None` for a mix, too.
    fn source(&self, name: &str, source: &Source, node: NodeId) -> Option<Prompts> {
        match source {
            Source::List(list) => self.inline(name, node, list),
            Source::Map(keys) if keys.mix.is_absent() => self.source_keys(name, keys, node),
            Source::Map(_) => None,
        }
    }

    /// Prompts written in place.
    pub(super) fn inline(
        &self,
        name: &str,
        node: NodeId,
        list: &FieldList<String>,
    ) -> Option<Prompts> {
        self.texts(node, list).and_then(|texts| Prompts::new(name, texts, PromptOrder::Sequential))
    }

    /// What a scenario asks, in its order.
    pub(super) fn scenario_prompts(
        &self,
        scenario: &str,
        given: &Scenario,
        node: NodeId,
        sources: &Definitions<Prompts>,
    ) -> Option<Prompts> {
        let prompts = match &given.prompts {
            Field::Invalid(_) => None,
            Field::Absent if sources.entries.is_empty() => Some(Prompts::builtin()),
            Field::Absent => sources.resolve(self, &Field::Absent, node),
            Field::Present(Located { node: at, value: ScenarioPrompts::Text(name) }) => {
                let name = Field::Present(Located { node: *at, value: name.clone() });
                sources.resolve(self, &name, node)
            }
            Field::Present(Located { node, value: ScenarioPrompts::List(list) }) => {
                self.inline(scenario, *node, list)
            }
        }?;
        let prompts = match &given.order {
            Field::Invalid(_) => return None,
            Field::Absent => prompts,
            Field::Present(_) => prompts.in_order(order(&given.order)?),
        };
        self.prefix_cache(&given.prefix_cache, &prompts)
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
        match (located.value, prompts.wordless()) {
            (document::PrefixCache::Warm, _) => Some(PrefixCache::Warm),
            (document::PrefixCache::CacheSalt, _) => Some(PrefixCache::Salted),
            (document::PrefixCache::Cold, 0) => Some(PrefixCache::Cold),
            (document::PrefixCache::Cold, wordless) => {
                self.problem(
                    located.node,
                    format!(
                        "{wordless} of the prompts of `{}` have no words that a nonce could stand before, such as those \
                         recorded as token ids, and would stay warm; write `cache_salt`, which vLLM knows, or \
                         record them as text",
                        prompts.name
                    ),
                );
                None
            }
        }
    }

    fn texts(&self, node: NodeId, list: &FieldList<String>) -> Option<Vec<String>> {
        if list.0.is_empty() {
            self.problem(node, "the list is empty; write at least one prompt");
            return None;
        }
        let texts: Vec<Option<String>> = list
            .0
            .iter()
            .map(|entry| {
                let located = entry.present()?;
                if located.value.trim().is_empty() {
                    self.problem(located.node, "the prompt is blank; write one");
                    return None;
                }
                Some(located.value.clone())
            })
            .collect();
        texts.into_iter().collect()
    }

    fn has_one_origin(&self, keys: &SourceKeys, node: NodeId) -> bool {
        if let (Some(template), true) = (keys.template.node(), keys.pairs.is_absent()) {
            self.problem(
                template,
                "`template` without `pairs`; only pairs are put through a template",
            );
        }
        if let (Some(field), true) = (keys.field.node(), keys.jsonl.is_absent()) {
            self.problem(
                field,
                "`field` without `jsonl`; only its objects have fields to choose from",
            );
        }
        let there = [
            keys.inline.node(),
            keys.lines.node(),
            keys.pairs.node(),
            keys.payloads.node(),
            keys.sharegpt.node(),
            keys.jsonl.node(),
            keys.synthetic.node(),
            keys.mix.node(),
        ];
        let there = there.into_iter().flatten().count();
        if there == 0 {
            self.problem(node, format!("the source has no prompts; write one of {ORIGINS}"));
        } else if there > 1 {
            self.problem(
                node,
                format!("the source has more than one origin; write only one of {ORIGINS}"),
            );
        }
        there == 1
    }

    fn source_keys(&self, name: &str, keys: &SourceKeys, node: NodeId) -> Option<Prompts> {
        if !self.has_one_origin(keys, node) {
            return None;
        }
        if let (Some(located), Some(_)) = (keys.order.node(), keys.synthetic.node()) {
            self.problem(located, "`order` beside `synthetic`; each is made up anew, leave it out");
        }
        let order = order(&keys.order);
        if let Some(list) = keys.inline.present() {
            return Prompts::new(name, self.texts(list.node, &list.value)?, order?);
        }
        if !keys.pairs.is_absent() {
            return Prompts::new(name, self.pairs(keys)?, order?);
        }
        if let Some(made_up) = keys.synthetic.present() {
            return self.synthetic(made_up).map(|made_up| Prompts::synthetic(name, made_up));
        }
        let field = match &keys.field {
            Field::Invalid(_) => return None,
            Field::Absent => None,
            Field::Present(located) => Some(located.value.clone()),
        };
        let files = [
            (&keys.lines, Format::Lines),
            (&keys.payloads, Format::Payloads),
            (&keys.sharegpt, Format::Sharegpt),
            (&keys.jsonl, Format::Jsonl(field)),
        ];
        let (file, format) =
            files.into_iter().find_map(|(file, format)| Some((file.present()?, format)))?;
        match prompts::rows(&self.path(&file.value), format) {
            Ok(rows) => Some(Prompts::from_rows(name, rows, order?)),
            Err(wrong) => {
                for error in wrong {
                    self.problem(file.node, error.to_string());
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
        let read = prompts::pairs(&self.path(&file.value), template);
        let located = match (&read, keys.template.node()) {
            (Err(LoadError::Template(_)), Some(template)) => template,
            _ => file.node,
        };
        read.map_err(|error| self.problem(located, error.to_string())).ok()
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
                "the mix is empty; write sources with their weights, `{short: 3, long: 1}`",
            );
        }
        let mut total = 0_u64;
        let members = mix.value.0.iter().map(|(source, weight)| {
            if is_mix(&source.value) {
                self.problem(source.node, "a mix of mixes; name the sources themselves");
                return None;
            }
            let reference = Field::Present(source.clone());
            let prompts = sources.resolve(self, &reference, source.node);
            total = total.saturating_add(
                weight.present().map_or(0, |located: &Located<Count>| located.value.0),
            );
            let weight = self.positive(weight, 1, MOST_TURNS);
            Some((prompts?, weight?.get()))
        });
        // All of them are looked at, also after one that is wrong.
        let members: Vec<_> = members.collect();
        let members: Option<Vec<_>> = members.into_iter().collect();
        if members.is_some() && total > u64::from(MOST_TURNS) {
            let message = format!(
                "the weights add up to {total}; write smaller ones, together at most {MOST_TURNS}"
            );
            self.problem(mix.node, message);
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
