//! Targets, as a file writes them: address, dialect, credentials, connection and timeouts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Simulator;
use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{Number, Span};

/// An endpoint with a model and credentials.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Target {
    /// The root of the API: an http or https URL without user, password and query. Exactly one of
    /// `base_url` and `simulator` is needed. Example: `http://localhost:8000/v1`.
    pub base_url: Field<String>,
    /// A simulated endpoint inside llmload on a free loopback port, instead of `base_url`. Example:
    /// `{}`.
    pub simulator: Field<Simulator>,
    /// The API: `chat` or `completions`. Default: `chat`.
    #[schemars(extend("default" = "chat"))]
    pub api: Field<Api>,
    /// The field that limits the answer: `max_tokens`, or `max_completion_tokens` for newer models
    /// of OpenAI, only with `api: chat`. Default: `max_tokens`.
    #[schemars(extend("default" = "max_tokens"))]
    pub max_tokens_field: Field<MaxTokensField>,
    /// The request for the token counts of a stream: `include_usage`, or `none` for endpoints
    /// without the field `stream_options`. With `none` token counts are only estimates. Default:
    /// `include_usage`.
    #[schemars(extend("default" = "include_usage"))]
    pub stream_options: Field<StreamOptions>,
    /// Further fields of every request body. `request.extra` overrides them. Example: `{min_tokens:
    /// 1}`.
    pub extra_body: Field<FieldMap<serde_json::Value>>,
    /// The model in requests. Default: the only one that `/models` lists. Example:
    /// `Qwen/Qwen2.5-7B-Instruct`.
    pub model: Field<String>,
    /// The name of the environment variable with the API key. Example: `STAGING_API_KEY`.
    pub api_key_env: Field<String>,
    /// The path of the file with the API key, relative to the configuration file. Example:
    /// `/run/secrets/staging`.
    pub api_key_file: Field<String>,
    /// The header for the key: `bearer`, `api-key`, `x-api-key` or `none`. Default: `bearer` if
    /// there is a key, else `none`.
    pub auth: Field<Auth>,
    /// Further headers of every request, each with its value or the source of its value. Example:
    /// `{x-team: staging, x-token: {env: TEAM_TOKEN}}`.
    pub headers: Field<FieldMap<ValueSource>>,
    /// Further query parameters of every request, each with its value or the source of its value.
    /// Example: `{api-version: "2024-10-21"}`.
    pub query: Field<FieldMap<ValueSource>>,
    /// The end that proves a streamed response complete: `finish_reason`, `done` or `eof`. Default:
    /// `finish_reason`.
    #[schemars(extend("default" = "finish_reason"))]
    pub terminal: Field<Terminal>,
    /// The use of HTTP/2. Over http it needs no negotiation. Over https ALPN decides, and
    /// HTTP/1.1 remains possible. Default: false.
    #[schemars(extend("default" = false))]
    pub http2: Field<bool>,
    /// The certificates of the endpoint and of llmload.
    pub tls: Field<Tls>,
    /// The URL of a proxy. llmload ignores proxies in the environment. Default: none. Example:
    /// `http://proxy.internal:3128`.
    pub proxy: Field<String>,
    /// A W3C `traceparent` header of its own in each request, which helps to find a failure in
    /// the traces of the endpoint. Default: true.
    #[schemars(extend("default" = true))]
    pub traceparent: Field<bool>,
    /// The limits of waiting for a connection, the first token, the next token and the whole
    /// response. Example: `{first_token: 10s, total: 2m}`.
    pub timeouts: Field<Timeouts>,
    /// The prices of tokens. With them llmload exports `llmload_cost_total`, and `check` shows the
    /// cost of a day. Example: `{input_per_million: 0.15, output_per_million: 0.60}`.
    pub prices: Field<Prices>,
}

/// The value of a header or of a query parameter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ValueSource", untagged, inline)]
pub enum ValueSource {
    /// The value itself. It must not be a secret.
    Text(String),
    /// The source of the value.
    Map(ValueReference),
}

/// The source of a value: exactly one of `env` and `file`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct ValueReference {
    /// The name of an environment variable. Example: `TEAM_TOKEN`.
    pub env: Field<String>,
    /// The path of a file, relative to the configuration file. Example: `/run/secrets/team`.
    pub file: Field<String>,
}

/// The API of a target.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Api {
    /// `/chat/completions`.
    Chat,
    /// `/completions`: a prompt is a text without roles.
    Completions,
}

/// The field that limits the answer.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MaxTokensField {
    /// The name on nearly every endpoint.
    MaxTokens,
    /// The name for newer models of OpenAI.
    MaxCompletionTokens,
}

/// The request for the token counts of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StreamOptions {
    /// Send `stream_options: {include_usage: true}`.
    IncludeUsage,
    /// Do not send `stream_options`.
    None,
}

/// The certificates of the endpoint and of llmload.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Tls {
    /// The path of a PEM file with the certificate authorities of the endpoint, instead of those of
    /// the system. Example: `ca.pem`.
    pub ca_file: Field<String>,
    /// The path of a PEM file with the certificate of llmload and its chain. It needs `key_file`.
    /// Example: `client.pem`.
    pub cert_file: Field<String>,
    /// The path of a PEM file with the private key of llmload, without a passphrase. It needs
    /// `cert_file`. Example: `client.key`.
    pub key_file: Field<String>,
    /// The acceptance of any certificate. With `true` anybody on the network path can read the
    /// traffic and the API key. Default: false.
    #[schemars(extend("default" = false))]
    pub insecure_skip_verify: Field<bool>,
}

/// The header for the API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Auth {
    /// `authorization: Bearer …`.
    Bearer,
    /// `api-key: …`, for Azure.
    ApiKey,
    /// `x-api-key: …`, for Anthropic.
    XApiKey,
    /// No header.
    None,
}

/// The end that proves a streamed response complete.
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

/// The limits of waiting, each from 1ms to 24h. A default is never longer than `total`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// The time to wait for a connection: name resolution, TCP and TLS together. Default: 5s.
    #[schemars(extend("default" = "5s"))]
    pub connect: Field<Span>,
    /// The time to wait for the first token, from sending. Default: 60s.
    #[schemars(extend("default" = "60s"))]
    pub first_token: Field<Span>,
    /// The time to wait for more data after the first token. Default: 60s.
    #[schemars(extend("default" = "60s"))]
    pub idle: Field<Span>,
    /// The time to wait for the end of the response, from sending. Default: 10m.
    #[schemars(extend("default" = "10m"))]
    pub total: Field<Span>,
}

/// The prices of a million tokens. A cached prompt token costs as much as any other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["input_per_million", "output_per_million"]))]
pub struct Prices {
    /// The price of a million prompt tokens, 0 to 1000000. Required. Example: `0.15`.
    pub input_per_million: Field<Number>,
    /// The price of a million output tokens, hidden reasoning included, 0 to 1000000. Required.
    /// Example: `0.60`.
    pub output_per_million: Field<Number>,
    /// The currency as three capital letters of ISO 4217. It becomes the value of a label. Default:
    /// `USD`.
    #[schemars(extend("default" = "USD"))]
    pub currency: Field<String>,
}
