//! What is asked as a file may write it: sources of prompts, and how a scenario goes through them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::{Count, Number};

/// The prompts of the short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ShortPrompts", untagged, inline)]
pub enum ShortPrompts {
    /// The prompts themselves.
    List(FieldList<String>),
    /// One source by name.
    Map(FieldMap<Source>),
}

/// The prompts of a scenario.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ScenarioPrompts", untagged, inline)]
pub enum ScenarioPrompts {
    /// Name of a source.
    Text(String),
    /// The prompts themselves.
    List(FieldList<String>),
}

/// A source of prompts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Source", untagged)]
pub enum Source {
    /// The prompts themselves.
    List(FieldList<String>),
    /// The prompts themselves, a file, what is made up, or a mix, with its order.
    Map(Box<SourceKeys>),
}

/// A source of prompts with its order: one of `inline`, `lines`, `pairs`, `payloads`, `sharegpt`,
/// `jsonl`, `synthetic` and `mix`. Of files with rows 64 MiB are held in memory; a larger one is read
/// where it lies, and must stay as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct SourceKeys {
    /// The prompts themselves.
    pub inline: Field<FieldList<String>>,
    /// A text file, one prompt a line; blank lines are skipped.
    pub lines: Field<String>,
    /// A JSON file: a list of objects with `context` and `prompt`, or one such object. At most
    /// 64 MiB.
    pub pairs: Field<String>,
    /// How a pair becomes a prompt, in minijinja; every field of the object may stand in it.
    #[schemars(extend("default" = "{{context}}\n\n{{prompt}}"))]
    pub template: Field<String>,
    /// Whole request bodies, one a line or in a JSON list. What a body sets wins over `request`, but for
    /// `model` and `stream`.
    pub payloads: Field<String>,
    /// Conversations in the form of ShareGPT, in a JSON list or one a line: what the human says first
    /// is asked. Those in which nobody does are skipped.
    pub sharegpt: Field<String>,
    /// Objects, one a line or in a JSON list, with the text in `prompt` or a conversation in `messages`
    /// (`role` and `content`). Where an object has `output_tokens`, that is the request's `max_tokens`.
    pub jsonl: Field<String>,
    /// The field of `jsonl` that holds the prompt, in place of `prompt` and `messages`.
    pub field: Field<String>,
    /// Prompts that are made up, by their lengths.
    pub synthetic: Field<Synthetic>,
    /// Other sources by name, each with its weight, a whole number: `{short: 3, long: 1}`. Together at
    /// most 10000.
    pub mix: Field<FieldMap<Count>>,
    /// The order in which it is gone through.
    #[schemars(extend("default" = "sequential"))]
    pub order: Field<PromptOrder>,
}

/// Prompts that are made up: English sentences of words that are one token each in the common
/// tokenizers, so that their length is known without asking.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Synthetic {
    /// Tokens of a prompt, the shared ones included; the scenario's system message is not.
    pub input_tokens: Field<Length>,
    /// Tokens that an answer may have: the request's `max_tokens`. Default: that of the scenario.
    pub output_tokens: Field<Length>,
    /// How many tokens at the start of each prompt are shared with others.
    #[schemars(extend("default" = 0))]
    pub shared_prefix_tokens: Field<Count>,
    /// Among how many different shared starts.
    #[schemars(extend("default" = 1))]
    pub shared_prefixes: Field<Count>,
    /// What the target's chat template adds to every prompt, taken off its text: the prompt tokens that
    /// the target counts, less `input_tokens`.
    #[schemars(extend("default" = 0))]
    pub template_tokens: Field<Count>,
    /// Send `ignore_eos`, so that answers go on to `output_tokens`. vLLM, SGLang and llama.cpp know it;
    /// others may refuse it.
    #[schemars(extend("default" = false))]
    pub ignore_eos: Field<bool>,
}

/// A length in tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Length", untagged, inline)]
pub enum Length {
    /// The same for all.
    Number(Count),
    /// Drawn for each.
    Map(Spread),
}

/// Lengths in a normal distribution; what lies outside the bounds is drawn again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Spread {
    /// The mean, before anything is drawn again.
    pub mean: Field<Number>,
    /// The standard deviation.
    #[schemars(extend("default" = 0))]
    pub stddev: Field<Number>,
    /// The shortest.
    #[schemars(extend("default" = 1))]
    pub min: Field<Count>,
    /// The longest.
    #[schemars(extend("default" = 2_000_000))]
    pub max: Field<Count>,
}

/// The order in which a source is gone through.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PromptOrder {
    /// One after the other, from the first again after the last; in a mix, in turns by weight.
    Sequential,
    /// Drawn independently for each arrival.
    Random,
}

/// What an engine that keeps the prefixes of prompts may find of them.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PrefixCache {
    /// Whatever was asked before.
    Warm,
    /// Nothing: a sentence that no prompt before had opens the first message.
    Cold,
    /// Nothing, by vLLM's `cache_salt`; the words stay as they are.
    CacheSalt,
}
