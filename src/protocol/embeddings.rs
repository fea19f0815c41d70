//! The embeddings API. A request contains one or more texts (`input`), and the response contains a
//! vector for each of them. There is no stream and no output token.

use serde::de::Error as _;
use serde_json::Value;

use super::decoded::{Channel, DecodeError, DecodedEvent, VectorCounts};
use super::lenient::{self, JsonDecoder};
use super::prompt::{Content, Prompt};
use super::raw_json::{elements, fields, fields_or_null, is_truthy, string};
use super::reported_error::ReportedError;
use super::{Dialect, RequestParameters, completions, request_body, usage};
use crate::measurement::Usage;

/// Relative to the base URL.
pub const PATH: &str = "embeddings";

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let messages = prompt.content.messages(parameters);
    let text = messages.map(|messages| ("input", completions::joined(&messages)));
    request_body::encode(dialect, model, parameters, prompt, text)
}

/// Returns the number of inputs in the request of a prompt, and so of vectors in its response.
pub(super) fn inputs(prompt: &Prompt<'_>) -> usize {
    match &prompt.content {
        Content::Conversation(_) => 1,
        Content::Payload(body) => body.get("input").map_or(0, inputs_of),
    }
}

/// An input is a text or a list of token ids. The value is one input, or a list of inputs.
pub(super) fn inputs_of(input: &Value) -> usize {
    match input {
        Value::Array(list) if list.first().is_some_and(Value::is_number) => 1,
        Value::Array(list) => list.len(),
        _ => 1,
    }
}

/// # Errors
/// The body is not JSON, or its structure does not fit the API.
pub(super) fn decode_body<'a, S>(
    body: &'a [u8],
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    lenient::decode(body, Body, sink)
}

#[derive(Clone, Copy)]
struct Body;

impl JsonDecoder for Body {
    fn decode<'a, S>(self, json: &'a str, _: &mut S) -> serde_json::Result<DecodedEvent<'a>>
    where
        S: FnMut(u32, Channel, &str),
    {
        let [data, counts, model, error, object] =
            fields(json, ["data", "usage", "model", "error", "object"])?;
        let mut decoded = DecodedEvent::default();
        if is_truthy(error) || object == "\"error\"" {
            decoded.error = Some(ReportedError::from_body(json.as_bytes()));
            return Ok(decoded);
        }
        if !data.starts_with('[') {
            return Err(serde_json::Error::custom("`data` is not a list of vectors"));
        }
        let mut vectors = VectorCounts::default();
        let mut done = Ok(());
        elements(data, |item| match fields_or_null(item, ["embedding"]) {
            Ok([vector]) => vectors.count(vector),
            Err(error) => done = Err(error),
        })?;
        done?;
        decoded.vectors = Some(vectors);
        // Every token of this API is an input token.
        decoded.usage = Usage { output: None, reasoning: None, ..usage::read(counts)? };
        decoded.model = string(model).filter(|name| !name.is_empty());
        Ok(decoded)
    }
}

impl VectorCounts {
    /// Counts a vector: a list of numbers, or a base64 text.
    fn count(&mut self, vector: &str) {
        self.total += 1;
        self.empty += usize::from(!is_truthy(vector));
        let is_number = |byte: &u8| !matches!(byte, b'n' | b't' | b'f' | b'"' | b'{');
        let is_list = vector.starts_with('[');
        self.not_numeric += usize::from(is_list && !vector.as_bytes().iter().all(is_number));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::protocol::Api;
    use crate::protocol::prompt::{Message, Role};

    fn encoded(stream: bool, extra: &Value, prompt: &Prompt<'_>) -> Value {
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream,
            extra: serde_json::from_value::<BTreeMap<_, _>>(extra.clone()).unwrap(),
        };
        let dialect = Dialect { api: Api::Embeddings, ..Dialect::default() };
        serde_json::from_slice(&dialect.encode("m", &parameters, prompt)).unwrap()
    }

    fn payload(body: &Value) -> Prompt<'static> {
        Content::Payload(body.as_object().unwrap().clone()).into()
    }

    #[test]
    fn a_request_has_only_the_model_the_input_and_further_fields() {
        let extra =
            json!({"encoding_format": "base64", "dimensions": 8, "max_completion_tokens": 9});
        let limited = Prompt {
            max_tokens: NonZeroU32::new(3),
            ignore_eos: true,
            nonce: Some("N. ".into()),
            ..Prompt::from("Hi")
        };
        let expected = json!({
            "model": "m", "input": "N. Be brief.\n\nHi", "encoding_format": "base64", "dimensions": 8,
        });
        assert_eq!(encoded(true, &extra, &limited), expected);
        let recorded = json!({"input": ["a", "b"], "stream": true, "max_tokens": 7});
        let expected = json!({"model": "m", "input": ["a", "b"]});
        assert_eq!(encoded(true, &json!({}), &payload(&recorded)), expected);
        let message = Message::new(Role::User, "a");
        let single = Content::Conversation(vec![message]).into();
        assert_eq!(encoded(true, &json!({}), &single)["input"], "Be brief.\n\na");
    }

    #[test]
    fn each_text_and_each_list_of_token_ids_is_an_input() {
        for (input, expected) in [
            (json!("a"), 1),
            (json!(["a"]), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1, 2], [3]]), 2),
            (json!([]), 0),
        ] {
            let body = json!({ "input": input });
            let dialect = Dialect { api: Api::Embeddings, ..Dialect::default() };
            assert_eq!(dialect.expected_vectors(&payload(&body)), expected, "{body}");
            let bytes = body.to_string();
            assert_eq!(dialect.expected_vectors_of_body(bytes.as_bytes()), expected, "{body}");
        }
        assert_eq!(inputs(&"Hi".into()), 1);
        assert_eq!(Dialect::default().expected_vectors(&"Hi".into()), 0);
    }
}
