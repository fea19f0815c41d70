//! Targets, as a file writes them: address, dialect, credentials, connection and timeouts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Observe, RateLimits, Simulator};
use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{KeepAlive, Number, Span};

/// An endpoint, a model and credentials.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Target {
    /// The root URL of the API, with http or https and without query. llmload sends a user and a
    /// password in the URL as basic auth, and shows them nowhere. For a unix socket, write
    /// `unix:/run/vllm.sock:/v1`. Write exactly one of `base_url` and `simulator`. Example:
    /// `http://localhost:8000/v1`.
    pub base_url: Field<String>,
    /// A simulated endpoint, which runs inside llmload on a free port of the loopback interface.
    /// Write exactly one of `base_url` and `simulator`. Example: `{}`.
    pub simulator: Field<Simulator>,
    /// The API that llmload calls: `chat`, `completions`, `responses`, `messages` or `embeddings`.
    /// Default: `chat`.
    #[schemars(extend("default" = "chat"))]
    pub api: Field<Api>,
    /// The name of the request field that limits the response length: `max_tokens`, or
    /// `max_completion_tokens` for newer models of OpenAI. The latter needs `api: chat`. With
    /// `api: responses`, the name is always `max_output_tokens`. Default: `max_tokens`.
    #[schemars(extend("default" = "max_tokens"))]
    pub max_tokens_field: Field<MaxTokensField>,
    /// The way in which llmload requests the token counts of a stream, for `api: chat` and
    /// `api: completions`. The other APIs always send token counts. `include_usage` sends the field
    /// `stream_options`. `none` is for endpoints that reject this field. If such an endpoint sends
    /// no token counts, llmload reports no token counts, no TPOT and no TPS. Default:
    /// `include_usage`.
    #[schemars(extend("default" = "include_usage"))]
    pub stream_options: Field<StreamOptions>,
    /// Further fields of the body of every request. A field of `request.extra` with the same name
    /// overrides a field of `extra_body`. Default: no further fields. Example: `{min_tokens: 1}`.
    pub extra_body: Field<FieldMap<serde_json::Value>>,
    /// The name of the model that llmload requests. Default: the only model that `/models` lists.
    /// Example: `Qwen/Qwen2.5-7B-Instruct`.
    pub model: Field<String>,
    /// The name of the environment variable that contains the API key. Write at most one of
    /// `api_key_env` and `api_key_file`. Default: no key. Example: `STAGING_API_KEY`.
    pub api_key_env: Field<String>,
    /// The path of the file that contains the API key, relative to the configuration file. Write at
    /// most one of `api_key_env` and `api_key_file`. Default: no key. Example:
    /// `/run/secrets/staging`.
    pub api_key_file: Field<String>,
    /// The header that carries the API key: `bearer`, `api-key`, `x-api-key` or `none`. Default: if
    /// the target has an API key, `x-api-key` with `api: messages` and `bearer` with any other API;
    /// otherwise `none`.
    pub auth: Field<Auth>,
    /// Further headers of every request. The value of a header is a text, or a map that names an
    /// environment variable or a file. Default: no further headers. Example:
    /// `{x-team: staging, x-token: {env: TEAM_TOKEN}}`.
    pub headers: Field<FieldMap<ValueSource>>,
    /// Further query parameters of every request. The value of a parameter is a text, or a map that
    /// names an environment variable or a file. Default: no query. Example:
    /// `{api-version: "2024-10-21"}`.
    pub query: Field<FieldMap<ValueSource>>,
    /// The part of a streamed response by which llmload recognises that the response is complete:
    /// `finish_reason`, `done` or `eof`. Default: `finish_reason`.
    #[schemars(extend("default" = "finish_reason"))]
    pub terminal: Field<Terminal>,
    /// `true` if llmload should use HTTP/2. Over http, llmload then uses HTTP/2 without
    /// negotiation. Over https, the server can still choose HTTP/1.1 (ALPN). Default: false.
    #[schemars(extend("default" = false))]
    pub http2: Field<bool>,
    /// The time for which an idle connection stays open: 10ms to 1h. Choose a time that is shorter
    /// than the keep-alive timeout of the server. With `off`, each request has a separate
    /// connection. Default: 4s.
    #[schemars(extend("default" = "4s"))]
    pub keep_alive: Field<KeepAlive>,
    /// The certificates of the endpoint and of llmload, for https. Default: llmload trusts the
    /// certificate authorities of the system. Example: `{ca_file: ca.pem}`.
    pub tls: Field<Tls>,
    /// The http or https URL of a proxy. llmload sends a user and a password in the URL to the
    /// proxy, and shows them nowhere. llmload ignores the proxy variables of the environment.
    /// Default: no proxy. Example: `http://proxy.internal:3128`.
    pub proxy: Field<String>,
    /// `true` if each request has a unique W3C `traceparent` header, which helps to find a failed
    /// request in the traces of the endpoint. Default: true.
    #[schemars(extend("default" = true))]
    pub traceparent: Field<bool>,
    /// The longest times that llmload waits for a connection, the first token, the next token and
    /// the complete response. Default: the default of each key. Example:
    /// `{first_token: 10s, total: 2m}`.
    pub timeouts: Field<Timeouts>,
    /// The rate limits of the target, which all its scenarios share. llmload drops an arrival that
    /// exceeds a limit. Default: no limits. Example:
    /// `{requests_per_minute: 600, tokens_per_minute: 200000}`.
    pub rate_limits: Field<RateLimits>,
    /// The prices of tokens. With prices, llmload exports the metric `llmload_cost_total`, and
    /// `llmload check` shows the cost of a day. Default: no prices. Example:
    /// `{input_per_million: 0.15, output_per_million: 0.60}`.
    pub prices: Field<Prices>,
    /// The metrics pages of the server behind the target. `llmload run` reads each page once per
    /// second, and its report shows for each phase the requests that the server ran and queued, the
    /// use of its KV cache, and the use of its GPUs and CPUs. The daemon ignores this key, because
    /// Prometheus scrapes these pages itself. Default: no metrics pages. Example:
    /// `{vllm: /metrics, dcgm: "http://gpu-1:9400/metrics"}`.
    pub observe: Field<Observe>,
}

/// The value of a header or of a query parameter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "ValueSource", untagged, inline)]
pub enum ValueSource {
    /// The value itself. It must not be a secret.
    Text(String),
    /// The environment variable or the file that contains the value.
    Map(ValueReference),
}

/// The source of a value, with exactly one of `env` and `file`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct ValueReference {
    /// The name of the environment variable that contains the value. Write exactly one of `env` and
    /// `file`. Example: `TEAM_TOKEN`.
    pub env: Field<String>,
    /// The path of the file that contains the value, relative to the configuration file. Write
    /// exactly one of `env` and `file`. Example: `/run/secrets/team`.
    pub file: Field<String>,
}

/// The API that llmload calls.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Api {
    /// llmload calls `/chat/completions`.
    Chat,
    /// llmload calls `/completions`, where a prompt is a text without roles.
    Completions,
    /// llmload calls `/responses`.
    Responses,
    /// llmload calls `/messages`, the API of Anthropic, with the header
    /// `anthropic-version: 2023-06-01` unless `headers` contains another version.
    Messages,
    /// llmload calls `/embeddings`. A response has vectors instead of text, so it has no TTFT, no
    /// TPOT and no output tokens.
    Embeddings,
}

/// The name of the request field that limits the response length.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MaxTokensField {
    /// The name that nearly every endpoint uses.
    MaxTokens,
    /// The name that newer models of OpenAI need.
    MaxCompletionTokens,
}

/// The way in which llmload requests the token counts of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StreamOptions {
    /// llmload sends `stream_options: {include_usage: true}`.
    IncludeUsage,
    /// llmload does not send `stream_options`, so many endpoints send no token counts.
    None,
}

/// The certificates of the endpoint and of llmload, for https.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Tls {
    /// The path of a PEM file with the certificate authorities that llmload trusts, relative to the
    /// configuration file. Default: the certificate authorities of the system. Example: `ca.pem`.
    pub ca_file: Field<String>,
    /// The path of a PEM file with the client certificate of llmload and its chain, relative to the
    /// configuration file. `cert_file` needs `key_file`. Default: no client certificate. Example:
    /// `client.pem`.
    pub cert_file: Field<String>,
    /// The path of a PEM file with the private key of the client certificate, relative to the
    /// configuration file. The key has no passphrase. `key_file` needs `cert_file`. Default: no
    /// client certificate. Example: `client.key`.
    pub key_file: Field<String>,
    /// `true` if llmload should accept any certificate. Anybody on the network path can then read
    /// the traffic and the API key. Default: false.
    #[schemars(extend("default" = false))]
    pub insecure_skip_verify: Field<bool>,
}

/// The header that carries the API key.
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
    /// No header carries the key.
    None,
}

/// The part of a streamed response by which llmload recognises that the response is complete.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Terminal {
    /// A finish reason.
    FinishReason,
    /// The event `[DONE]`, for servers that never send a finish reason.
    Done,
    /// The end of the body, for servers that send neither a finish reason nor `[DONE]`.
    Eof,
}

/// The longest times that llmload waits, each from 1ms to 24h. If `total` is shorter than the
/// default of another key, that default becomes `total`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// The longest time to open a connection, which includes name resolution, TCP and TLS: 1ms to
    /// 24h, and at most `total`. Default: 5s.
    #[schemars(extend("default" = "5s"))]
    pub connect: Field<Span>,
    /// The longest time from the sending of a request to its first token: 1ms to 24h, and at most
    /// `total`. Default: 60s.
    #[schemars(extend("default" = "60s"))]
    pub first_token: Field<Span>,
    /// The longest time without new data after the first token: 1ms to 24h, and at most `total`.
    /// Default: 60s.
    #[schemars(extend("default" = "60s"))]
    pub idle: Field<Span>,
    /// The longest time from the sending of a request to the end of its response: 1ms to 24h.
    /// Default: 10m.
    #[schemars(extend("default" = "10m"))]
    pub total: Field<Span>,
    /// The longest time without a new event after the end that `terminal` names, such as the finish
    /// reason: 1ms to 24h, and at most `total`. Token counts that arrive later are lost, but the
    /// request is a success. Gateways that count the tokens themselves can need some seconds.
    /// Default: 1s.
    #[schemars(extend("default" = "1s"))]
    pub after_end: Field<Span>,
}

/// The prices of a million tokens. A cached prompt token has the same price as any other prompt
/// token.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["input_per_million", "output_per_million"]))]
pub struct Prices {
    /// The price of a million prompt tokens, in units of `currency`, 0 to 1000000. Required.
    /// Example: `0.15`.
    pub input_per_million: Field<Number>,
    /// The price of a million output tokens, in units of `currency`, 0 to 1000000. Output tokens
    /// include hidden reasoning tokens. Required. Example: `0.60`.
    pub output_per_million: Field<Number>,
    /// The currency as three capital letters of ISO 4217, which also become the value of a label.
    /// Default: `USD`.
    #[schemars(extend("default" = "USD"))]
    pub currency: Field<String>,
}
