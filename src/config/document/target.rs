//! Targets: where they are, which dialect they speak, who llmload says it is, and how long it waits.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Simulator;
use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{Number, Span};

/// An endpoint with the model and the credentials to use there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Target {
    /// Root of the API, such as `http://localhost:8000/v1`: http or https, without user, password
    /// and query. Instead of `simulator`.
    pub base_url: Field<String>,
    /// A simulated endpoint inside llmload, on a free loopback port. Instead of `base_url`.
    pub simulator: Field<Simulator>,
    /// The wire format.
    #[schemars(extend("default" = "chat"))]
    pub api: Field<Api>,
    /// What bounds the answer is called so: `max_completion_tokens` is what newer models of OpenAI ask
    /// for. Only with `api: chat`.
    #[schemars(extend("default" = "max_tokens"))]
    pub max_tokens_field: Field<MaxTokensField>,
    /// Whether a stream is asked for its usage. Without it tokens are only estimated; for endpoints that
    /// do not know the field `stream_options`.
    #[schemars(extend("default" = "include_usage"))]
    pub stream_options: Field<StreamOptions>,
    /// Further fields of every request body. What `request.extra` says wins.
    pub extra_body: Field<FieldMap<serde_json::Value>>,
    /// Model to name in requests. Default: the only one that `/models` lists.
    pub model: Field<String>,
    /// Environment variable that holds the API key.
    pub api_key_env: Field<String>,
    /// File that holds the API key, relative to this file.
    pub api_key_file: Field<String>,
    /// How the key is sent. Default: `bearer` where there is a key, else `none`.
    pub auth: Field<Auth>,
    /// Further headers of every request.
    pub headers: Field<FieldMap<ValueSource>>,
    /// Further query parameters of every request, such as Azure's `api-version`.
    pub query: Field<FieldMap<ValueSource>>,
    /// Which end proves that an answer is complete.
    #[schemars(extend("default" = "finish_reason"))]
    pub terminal: Field<Terminal>,
    /// HTTP/2: without negotiation over http, by ALPN over https, where HTTP/1.1 remains possible.
    #[schemars(extend("default" = false))]
    pub http2: Field<bool>,
    /// How the endpoint proves who it is, and how llmload does.
    pub tls: Field<Tls>,
    /// A proxy to go through, such as `http://proxy.internal:3128`. Those that the environment names are
    /// never used.
    pub proxy: Field<String>,
    /// Whether each request carries a W3C `traceparent` of its own, so that a failure can be found in the
    /// traces of the endpoint.
    #[schemars(extend("default" = true))]
    pub traceparent: Field<bool>,
    /// How long to wait for what.
    pub timeouts: Field<Timeouts>,
    /// What tokens cost here. With it there is `llmload_cost_total`, and `check` says what a day
    /// costs.
    pub prices: Field<Prices>,
}

/// The value of a header or of a query parameter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ValueSource", untagged, inline)]
pub enum ValueSource {
    /// The value itself; never a secret.
    Text(String),
    /// Where the value is read.
    Map(ValueReference),
}

/// Where a value is read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct ValueReference {
    /// An environment variable.
    pub env: Field<String>,
    /// A file, relative to this one.
    pub file: Field<String>,
}

/// The wire format.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Api {
    /// `/chat/completions`.
    Chat,
    /// `/completions`: the words of a prompt without roles.
    Completions,
}

/// What bounds the answer is called so.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MaxTokensField {
    /// As nearly every endpoint calls it.
    MaxTokens,
    /// As newer models of OpenAI want it.
    MaxCompletionTokens,
}

/// Whether a stream is asked for its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StreamOptions {
    /// `stream_options: {include_usage: true}` is sent.
    IncludeUsage,
    /// `stream_options` is not sent.
    None,
}

/// How the endpoint proves who it is, and how llmload does.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Tls {
    /// Certificates, in PEM, of those who may vouch for the endpoint, in place of the system's; relative
    /// to this file.
    pub ca_file: Field<String>,
    /// Certificate of llmload itself, in PEM, its chain included; with `key_file`.
    pub cert_file: Field<String>,
    /// Its key, in PEM and without a passphrase.
    pub key_file: Field<String>,
    /// Takes whatever certificate comes: whoever sits in between reads along, the key too.
    #[schemars(extend("default" = false))]
    pub insecure_skip_verify: Field<bool>,
}

/// How a key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Auth {
    /// `authorization: Bearer …`
    Bearer,
    /// `api-key: …`, as Azure wants it.
    ApiKey,
    /// `x-api-key: …`, as Anthropic wants it.
    XApiKey,
    /// Not at all.
    None,
}

/// Which end proves that an answer is complete.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Terminal {
    /// A finish reason.
    FinishReason,
    /// `[DONE]`, for servers that never send a reason.
    Done,
    /// The end of the body, for servers that send neither.
    Eof,
}

/// How long to wait for what. A limit that is left out is never longer than `total`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    #[schemars(extend("default" = "5s"))]
    pub connect: Field<Span>,
    /// From sending to the first token.
    #[schemars(extend("default" = "60s"))]
    pub first_token: Field<Span>,
    /// Between two reads once the first token is there.
    #[schemars(extend("default" = "60s"))]
    pub idle: Field<Span>,
    /// From sending to the end.
    #[schemars(extend("default" = "10m"))]
    pub total: Field<Span>,
}

/// What a million tokens cost. A cached prompt token counts as any other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["input_per_million", "output_per_million"]))]
pub struct Prices {
    /// Of prompts; 0 where they are free.
    pub input_per_million: Field<Number>,
    /// Of answers, hidden reasoning included; 0 where they are free.
    pub output_per_million: Field<Number>,
    /// Three capital letters, as ISO 4217 has them; the value of a label.
    #[schemars(extend("default" = "USD"))]
    pub currency: Field<String>,
}
