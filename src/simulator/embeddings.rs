//! The embeddings API of the simulator: the inputs of a request, and the vectors of its response.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::api::to_json;
use super::response::{Envelope, Usage};

/// The length of a vector, if the client requests no other.
const DIMENSIONS: u32 = 384;
/// As in `OpenAI`.
const MAX_INPUTS: usize = 2048;
/// The most numbers in a response.
const MAX_NUMBERS: usize = 1 << 21;

/// The vectors that a client requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VectorForm {
    /// For each input, the seed of its vector.
    seeds: Vec<u64>,
    dimensions: u32,
    is_base64: bool,
}

impl VectorForm {
    /// Returns the form, and the inputs: texts, or lists of token ids.
    ///
    /// # Errors
    /// The message explains the mistake.
    pub(super) fn new(
        input: &Value,
        dimensions: Option<u32>,
        encoding: Option<&str>,
    ) -> Result<(VectorForm, Vec<Value>), &'static str> {
        let inputs = match input {
            Value::String(_) => vec![input.clone()],
            Value::Array(list) if list.first().is_some_and(Value::is_u64) => vec![input.clone()],
            Value::Array(list) => list.clone(),
            _ => return Err("`input` must be a text, a list of tokens, or a list of these"),
        };
        let is_input = |input: &Value| match input {
            Value::String(_) => true,
            Value::Array(tokens) => !tokens.is_empty() && tokens.iter().all(Value::is_u64),
            _ => false,
        };
        let dimensions = dimensions.unwrap_or(DIMENSIONS);
        let is_base64 = match encoding {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err("`encoding_format` must be `float` or `base64`"),
        };
        if inputs.is_empty() || !inputs.iter().all(is_input) {
            return Err("`input` must be a text, a list of tokens, or a list of these");
        }
        let numbers = inputs.len().saturating_mul(dimensions as usize);
        if dimensions == 0 || inputs.len() > MAX_INPUTS || numbers > MAX_NUMBERS {
            return Err("`input` or `dimensions` is too large");
        }
        let seeds = inputs.iter().map(|input| {
            let mut hasher = DefaultHasher::new();
            input.to_string().hash(&mut hasher);
            hasher.finish()
        });
        let seeds = seeds.collect();
        Ok((VectorForm { seeds, dimensions, is_base64 }, inputs))
    }

    /// Equal inputs have equal vectors of length 1.
    fn vector(&self, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let raw: Vec<f32> =
            (0..self.dimensions).map(|_| random.random_range(-1.0_f32..1.0)).collect();
        let length =
            raw.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        raw.into_iter().map(|value| value / length).collect()
    }
}

pub(super) fn body(envelope: &Envelope, form: &VectorForm, usage: Usage) -> Bytes {
    let encoded = |seed: &u64| {
        let vector = form.vector(*seed);
        if form.is_base64 {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            Value::from(STANDARD.encode(&bytes))
        } else {
            Value::from(vector)
        }
    };
    let items = form.seeds.iter().enumerate().map(
        |(index, seed)| json!({"object": "embedding", "index": index, "embedding": encoded(seed)}),
    );
    to_json(&json!({
        "object": "list",
        "data": items.collect::<Vec<_>>(),
        "model": envelope.model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_inputs_have_equal_vectors_of_length_1() {
        let (form, inputs) = VectorForm::new(&json!(["a", "b", "a"]), Some(7), None).unwrap();
        assert_eq!(inputs.len(), 3);
        let vectors: Vec<_> = form.seeds.iter().map(|seed| form.vector(*seed)).collect();
        assert_eq!(vectors[0], vectors[2]);
        assert_ne!(vectors[0], vectors[1]);
        let length: f32 = vectors[0].iter().map(|value| value * value).sum();
        assert!(vectors[0].len() == 7 && (length - 1.0).abs() < 1e-5, "{length}");
    }

    #[test]
    fn texts_and_token_lists_are_inputs() {
        for (input, count) in
            [(json!("a"), 1), (json!([1, 2]), 1), (json!([[1], [2, 3]]), 2), (json!(["a", "b"]), 2)]
        {
            assert_eq!(VectorForm::new(&input, None, None).unwrap().1.len(), count, "{input}");
        }
        for (input, dimensions, encoding) in [
            (json!([]), None, None),
            (json!([[]]), None, None),
            (json!({"a": 1}), None, None),
            (json!([1.5]), None, None),
            (json!("a"), Some(0), None),
            (json!("a"), Some(u32::MAX), None),
            (json!("a"), None, Some("hex")),
        ] {
            assert!(VectorForm::new(&input, dimensions, encoding).is_err(), "{input}");
        }
    }
}
