//! Sources of prompts and their order, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sessions::{ThinkTime, TurnCount};
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::{Count, Number};

/// The prompts of the short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "ShortPrompts", untagged, inline)]
pub enum ShortPrompts {
    /// `builtin`, the built-in prompts.
    Text(String),
    /// The prompts themselves.
    List(FieldList<String>),
    /// One source of prompts under a name.
    Map(FieldMap<Source>),
}

/// The prompts of a scenario.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "ScenarioPrompts", untagged, inline)]
pub enum ScenarioPrompts {
    /// The name of a source, or `builtin`.
    Text(String),
    /// The prompts themselves.
    List(FieldList<String>),
}

/// A source of prompts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Source", untagged)]
pub enum Source {
    /// The prompts themselves.
    List(FieldList<String>),
    /// A source with its options.
    Map(Box<SourceKeys>),
}

/// A source of prompts, with exactly one of `inline`, `lines`, `pairs`, `payloads`, `sharegpt`,
/// `jsonl`, `conversations`, `synthetic` and `mix`. llmload keeps a file of `lines`, `payloads`,
/// `sharegpt`, `jsonl` or `conversations` in memory if it has at most 64 MiB. llmload reads a
/// larger file during the run, so do not change a larger file until the run ends.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct SourceKeys {
    /// The prompts themselves, as a list of texts. Example: `["Say hello."]`.
    pub inline: Field<FieldList<String>>,
    /// The path of a text file with one prompt per line, relative to the configuration file.
    /// llmload skips blank lines. Example: `prompts.txt`.
    pub lines: Field<String>,
    /// The path of a JSON file of at most 64 MiB, relative to the configuration file. The file has
    /// a list of objects, or only one object. The default template uses the fields `context` and
    /// `prompt` of each object. Example: `pairs.json`.
    pub pairs: Field<String>,
    /// The template that turns an object of `pairs` into a prompt, in the syntax of minijinja. The
    /// template can use every field of the object. `template` is allowed only next to `pairs`.
    /// Default: `{{context}}`, a blank line and `{{prompt}}`.
    #[schemars(extend("default" = "{{context}}\n\n{{prompt}}"))]
    pub template: Field<String>,
    /// The path of a file with complete request bodies, one per line or in a JSON list, relative to
    /// the configuration file. The fields of a body override the fields of `request`, except
    /// `model` and `stream`. Example: `bodies.jsonl`.
    pub payloads: Field<String>,
    /// The path of a file with conversations in the ShareGPT format, one per line or in a JSON
    /// list, relative to the configuration file. The prompt is the first message of the human;
    /// llmload skips a conversation without such a message. Example: `conversations.json`.
    pub sharegpt: Field<String>,
    /// The path of a file with objects, one per line or in a JSON list, relative to the
    /// configuration file. Each object has a text in `prompt`, or a conversation in `messages`
    /// (`role` and `content`). If an object has the field `output_tokens`, its value becomes the
    /// `max_tokens` of the request. Example: `prompts.jsonl`.
    pub jsonl: Field<String>,
    /// The field that contains the prompt in each object of `jsonl`. `field` is allowed only next
    /// to `jsonl`. Default: `prompt` or `messages`. Example: `question`.
    pub field: Field<String>,
    /// The path of a file with conversations of several turns, one per line or in a JSON list,
    /// relative to the configuration file. Each row has `messages`, or `conversations` as in
    /// ShareGPT. Each conversation is a session, and each turn is a request. A message can have a
    /// `delay`, the think time before it in milliseconds. Example: `talks.jsonl`.
    pub conversations: Field<String>,
    /// The think time between the end of a turn and the next turn, for turns without a recorded
    /// `delay`: a duration from 0s to 1d, or a distribution. `think_time` is allowed only next to
    /// `conversations`. Default: 0s. Example: `{mean: 5s, stddev: 2s}`.
    #[schemars(extend("default" = "0s"))]
    pub think_time: Field<ThinkTime>,
    /// Generated prompts with given lengths. Example: `{input_tokens: 512, output_tokens: 128}`.
    pub synthetic: Field<Synthetic>,
    /// Other sources by name, each with a weight. llmload takes prompts from the sources in
    /// proportion to their weights. Weights are whole numbers above 0 and add up to at most 10000.
    /// Example: `{short: 3, long: 1}`.
    pub mix: Field<FieldMap<Count>>,
    /// The order in which llmload takes the prompts: `sequential` or `random`. `order` is not
    /// allowed next to `synthetic`. Default: `sequential`.
    #[schemars(extend("default" = "sequential"))]
    pub order: Field<PromptOrder>,
}

/// Generated prompts: English sentences in which each word is one token in the common tokenizers,
/// so llmload knows the length of a prompt in advance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Synthetic {
    /// The length of each prompt in tokens, 1 to 2000000: a number, or a distribution. The length
    /// includes the shared prefix, but not the system message. Required. Example:
    /// `{mean: 512, stddev: 128}`.
    pub input_tokens: Field<Length>,
    /// The highest number of tokens of each response, 1 to 2000000: a number, or a distribution.
    /// llmload sends this number as `max_tokens`. Default: the `max_tokens` of the scenario.
    /// Example: `128`.
    pub output_tokens: Field<Length>,
    /// The length in tokens of the shared prefix, which is the same text at the start of many
    /// prompts: 0 to 2000000, and below the mean of `input_tokens`. Default: 0.
    #[schemars(extend("default" = 0))]
    pub shared_prefix_tokens: Field<Count>,
    /// The number of different shared prefixes, 1 to 4294967295. Each prompt starts with one of
    /// these prefixes. The key needs `shared_prefix_tokens`. Default: 1.
    #[schemars(extend("default" = 1))]
    pub shared_prefixes: Field<Count>,
    /// The number of turns of each session, 1 to 1000: a number, or a distribution. Each turn is a
    /// request, and sends the turns before it again. `input_tokens` and `output_tokens` are the
    /// lengths of one turn. Only the first turn has the shared prefix. Default: single requests
    /// without sessions. Example: `{mean: 4, stddev: 2}`.
    pub turns: Field<TurnCount>,
    /// The think time between the end of a turn and the next turn: a duration from 0s to 1d, or a
    /// distribution. The key needs `turns`. Default: 0s. Example: `{mean: 5s, stddev: 2s}`.
    #[schemars(extend("default" = "0s"))]
    pub think_time: Field<ThinkTime>,
    /// The number of tokens that the chat template of the target adds to every prompt, 0 to
    /// 2000000, and below the mean of `input_tokens`. llmload generates texts that are shorter by
    /// this number. To find it, subtract `input_tokens` from the prompt tokens that the target
    /// counts. Default: 0.
    #[schemars(extend("default" = 0))]
    pub template_tokens: Field<Count>,
    /// The value of the field `ignore_eos` in each request. With `true` each response has exactly
    /// `output_tokens` tokens. vLLM, SGLang and llama.cpp support this field; other servers can
    /// reject it. Default: false.
    #[schemars(extend("default" = false))]
    pub ignore_eos: Field<bool>,
}

/// A length in tokens: a number, or a distribution.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Length", untagged, inline)]
pub enum Length {
    /// The same length for all requests.
    Number(Count),
    /// A random length for each request.
    Map(Spread),
}

/// A normal distribution of lengths. llmload draws a length again if it is below `min` or above
/// `max`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Spread {
    /// The mean of the distribution in tokens, from `min` to `max`. llmload draws a length again
    /// if it is outside these limits, so the mean of all lengths can differ from this value.
    /// Required. Example: `512`.
    pub mean: Field<Number>,
    /// The standard deviation in tokens, 0 to 2000000. Default: 0.
    #[schemars(extend("default" = 0))]
    pub stddev: Field<Number>,
    /// The shortest length in tokens, 1 to 2000000. Default: 1.
    #[schemars(extend("default" = 1))]
    pub min: Field<Count>,
    /// The longest length in tokens, 1 to 2000000. Default: 2000000.
    #[schemars(extend("default" = 2_000_000))]
    pub max: Field<Count>,
}

/// The order in which llmload takes the prompts of a source.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PromptOrder {
    /// llmload takes one prompt after another, and starts again after the last. A mix alternates
    /// between its sources according to their weights.
    Sequential,
    /// llmload takes a random prompt for each arrival, independent of earlier choices.
    Random,
}

/// The treatment of the prefix cache of the server.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PrefixCache {
    /// The server is allowed to use its cache.
    Warm,
    /// The server cannot use its cache, because a unique sentence begins the first message of each
    /// request.
    Cold,
    /// The server cannot use its cache, because each request has a unique field `cache_salt`, which
    /// vLLM supports. The text of the prompt stays unchanged.
    CacheSalt,
}
