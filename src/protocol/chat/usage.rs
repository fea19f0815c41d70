//! Reads the `usage` object, which contains the token counts of the endpoint.

use super::text::members;
use crate::measurement::Usage;

/// The highest plausible token count. A higher count is a defect of the server. It would make a
/// counter of the metrics wrong for ever.
const MAX_COUNT: u64 = 1_000_000_000;

/// Reads a usage object. Returns `None` if `raw` is null or contains no count.
///
/// Some servers include reasoning in `total_tokens` but not in `completion_tokens`. So the output
/// is the higher of `completion_tokens` and `total_tokens − prompt_tokens`. Some gateways use the
/// field names of newer APIs (`input_tokens`, `output_tokens`).
pub(super) fn read(raw: &str) -> serde_json::Result<Option<Usage>> {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    let (mut cached, mut reasoning) = ("", "");
    members(raw, |key, value| match key {
        "prompt_tokens" | "input_tokens" => prompt = count(value).or(prompt),
        "completion_tokens" | "output_tokens" => completion = count(value).or(completion),
        "total_tokens" => total = count(value),
        "prompt_tokens_details" | "input_tokens_details" => cached = value,
        "completion_tokens_details" | "output_tokens_details" => reasoning = value,
        _ => {}
    })?;
    if prompt.or(completion).or(total).is_none() {
        return Ok(None);
    }
    // Without a prompt count, the difference would include the prompt.
    let difference =
        prompt.zip(total).map_or(0, |(prompt, total): (u64, u64)| total.saturating_sub(prompt));
    Ok(Some(Usage {
        input: prompt.unwrap_or(0),
        output: completion.unwrap_or(0).max(difference),
        cached_input: member(cached, "cached_tokens")?,
        reasoning: member(reasoning, "reasoning_tokens")?,
    }))
}

fn member(raw: &str, name: &str) -> serde_json::Result<u64> {
    let mut found = None;
    members(raw, |key, value| {
        if key == name {
            found = count(value);
        }
    })?;
    Ok(found.unwrap_or(0))
}

/// Parses a count. Some servers write a count as `13.0` or `"13"`.
fn count(raw: &str) -> Option<u64> {
    let whole = raw.trim_matches('"').split('.').next()?;
    whole.parse().ok().filter(|n| *n <= MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(raw: &str) -> Option<u64> {
        read(raw).unwrap().map(|usage| usage.output)
    }

    #[test]
    fn output_is_the_higher_of_completion_tokens_and_total_minus_prompt() {
        assert_eq!(
            read(
                r#"{"prompt_tokens":12,"completion_tokens":2,"total_tokens":354,
                    "prompt_tokens_details":{"cached_tokens":7},
                    "completion_tokens_details":{"reasoning_tokens":340}}"#
            )
            .unwrap(),
            Some(Usage { input: 12, output: 342, cached_input: 7, reasoning: 340 })
        );
        assert_eq!(
            output(r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":5}"#),
            Some(5)
        );
        assert_eq!(output(r#"{"completion_tokens":5,"total_tokens":50}"#), Some(5));
        assert_eq!(output(r#"{"prompt_tokens":9,"total_tokens":4}"#), Some(0));
    }

    #[test]
    fn newer_field_names_are_read_too() {
        let raw = r#"{"input_tokens":18,"output_tokens":9,"total_tokens":27,"input_tokens_details":{"cached_tokens":4}}"#;
        let expected = Usage { input: 18, output: 9, cached_input: 4, reasoning: 0 };
        assert_eq!(read(raw).unwrap(), Some(expected));
        let both = r#"{"prompt_tokens":18,"input_tokens":null,"completion_tokens":9}"#;
        assert_eq!(read(both).unwrap().unwrap().input, 18);
    }

    #[test]
    fn an_object_without_counts_is_no_usage() {
        for raw in ["null", "{}", "[]", r#"{"cost":0}"#, r#"{"prompt_tokens":null}"#] {
            assert_eq!(output(raw), None, "{raw}");
        }
    }

    #[test]
    fn odd_counts_are_read_or_ignored() {
        assert_eq!(output(r#"{"completion_tokens":"13"}"#), Some(13));
        assert_eq!(output(r#"{"completion_tokens":13.0}"#), Some(13));
        assert_eq!(output(r#"{"prompt_tokens":1,"completion_tokens":-1}"#), Some(0));
        assert_eq!(output(r#"{"prompt_tokens":1,"completion_tokens":1e300}"#), Some(0));
        assert_eq!(
            output(r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#),
            Some(0)
        );
        assert_eq!(
            read(r#"{"prompt_tokens":1,"prompt_tokens_details":null}"#)
                .unwrap()
                .unwrap()
                .cached_input,
            0
        );
    }
}
