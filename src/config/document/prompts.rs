//! Sources of prompts and their order, as a file writes them.

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
    /// One source with a name.
    Map(FieldMap<Source>),
}

/// The prompts of a scenario.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ScenarioPrompts", untagged, inline)]
pub enum ScenarioPrompts {
    /// The name of a source.
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
    /// A source with its options.
    Map(Box<SourceKeys>),
}

/// A source of prompts, with exactly one of `inline`, `lines`, `pairs`, `payloads`, `sharegpt`,
/// `jsonl`, `synthetic` and `mix`. A file of rows up to 64 MiB is kept in memory. llmload reads a
/// larger file during the run, so it must not change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct SourceKeys {
    /// The prompts themselves.
    pub inline: Field<FieldList<String>>,
    /// A text file with one prompt per line. Blank lines are skipped. Example: `prompts.txt`.
    pub lines: Field<String>,
    /// A JSON file with a list of objects that have `context` and `prompt`, or with one such
    /// object. At most 64 MiB.
    pub pairs: Field<String>,
    /// The template that makes a prompt from a pair, in minijinja. It can use every field of the
    /// object. Default: `{{context}}`, a blank line and `{{prompt}}`.
    #[schemars(extend("default" = "{{context}}\n\n{{prompt}}"))]
    pub template: Field<String>,
    /// A file with whole request bodies, one per line or in a JSON list. The fields of a body
    /// override those of `request`, except `model` and `stream`.
    pub payloads: Field<String>,
    /// A file with conversations in the form of ShareGPT, in a JSON list or one per line. The
    /// prompt is the first message of the human. Conversations without one are skipped.
    pub sharegpt: Field<String>,
    /// A file with objects, one per line or in a JSON list. Each has a text in `prompt`, or a
    /// conversation in `messages` (`role` and `content`). If an object has `output_tokens`, it
    /// becomes the `max_tokens` of the request.
    pub jsonl: Field<String>,
    /// The field of a `jsonl` object that contains the prompt. Default: `prompt` or `messages`.
    pub field: Field<String>,
    /// Synthetic prompts of given lengths. Example: `{input_tokens: 512, output_tokens: 128}`.
    pub synthetic: Field<Synthetic>,
    /// Other sources by name, each with a weight. The weights are whole numbers of together at most
    /// 10000. Example: `{short: 3, long: 1}`.
    pub mix: Field<FieldMap<Count>>,
    /// The order of the prompts: `sequential` or `random`. Default: `sequential`.
    #[schemars(extend("default" = "sequential"))]
    pub order: Field<PromptOrder>,
}

/// Synthetic prompts: English sentences of words that are one token each in the common tokenizers,
/// so their length is known in advance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Synthetic {
    /// The length of a prompt in tokens, 1 to 2000000: a number, or a distribution. It includes the
    /// shared prefix, but not the system message. Required. Example: `{mean: 512, stddev: 128}`.
    pub input_tokens: Field<Length>,
    /// The highest length of the answer in tokens, sent as `max_tokens`: a number, or a
    /// distribution. Default: `max_tokens` of the scenario.
    pub output_tokens: Field<Length>,
    /// The number of tokens at the start of each prompt that it shares with others. Default: 0.
    #[schemars(extend("default" = 0))]
    pub shared_prefix_tokens: Field<Count>,
    /// The number of different shared prefixes. Default: 1.
    #[schemars(extend("default" = 1))]
    pub shared_prefixes: Field<Count>,
    /// The number of tokens that the chat template of the target adds to every prompt. llmload
    /// makes each text shorter by it. It is the prompt tokens that the target counts, minus
    /// `input_tokens`. Default: 0.
    #[schemars(extend("default" = 0))]
    pub template_tokens: Field<Count>,
    /// The field `ignore_eos` of requests. With `true` each answer has exactly `output_tokens`.
    /// vLLM, SGLang and llama.cpp support it; other servers may reject it. Default: false.
    #[schemars(extend("default" = false))]
    pub ignore_eos: Field<bool>,
}

/// A length in tokens: a number, or a distribution.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Length", untagged, inline)]
pub enum Length {
    /// The same length for all.
    Number(Count),
    /// A random length for each.
    Map(Spread),
}

/// A normal distribution of lengths. A length outside of `min` and `max` is drawn again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Spread {
    /// The mean of the distribution before its ends are cut, in tokens. Required. Example: `512`.
    pub mean: Field<Number>,
    /// The standard deviation, in tokens. Default: 0.
    #[schemars(extend("default" = 0))]
    pub stddev: Field<Number>,
    /// The shortest length, in tokens. Default: 1.
    #[schemars(extend("default" = 1))]
    pub min: Field<Count>,
    /// The longest length, in tokens. Default: 2000000.
    #[schemars(extend("default" = 2_000_000))]
    pub max: Field<Count>,
}

/// The order of the prompts of a source.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PromptOrder {
    /// One after another, and again from the first after the last. A mix takes turns by weight.
    Sequential,
    /// An independent random choice for each arrival.
    Random,
}

/// The use of the prefix cache of the server.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PrefixCache {
    /// The server may use everything in its cache.
    Warm,
    /// Nothing is cached: a unique sentence begins the first message.
    Cold,
    /// Nothing is cached: each request has a unique `cache_salt`, which vLLM supports. The text
    /// stays unchanged.
    CacheSalt,
}
