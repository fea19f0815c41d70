//! Reads `usage`, the token counts of the endpoint.

use super::raw_json::members;
use crate::measurement::Usage;

/// A higher count is a defect of the server, and would make a counter wrong forever.
const MAX_COUNT: u64 = 1_000_000_000;

/// An absent or invalid count is `None`.
///
/// Some servers count hidden reasoning in `total_tokens` but not in `completion_tokens`. So the
/// output is the higher of `completion_tokens` and `total_tokens − prompt_tokens`, and the
/// difference is reasoning. Some gateways use the newer names `input_tokens` and `output_tokens`.
pub(super) fn read(raw: &str) -> serde_json::Result<Usage> {
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
    // The total shows hidden tokens only if both of its parts are known.
    let hidden = prompt.zip(completion).zip(total).and_then(|((prompt, completion), total)| {
        total.checked_sub(prompt + completion).filter(|hidden| *hidden > 0)
    });
    Ok(Usage {
        input: prompt,
        output: completion.map(|completion: u64| completion + hidden.unwrap_or(0)),
        cached_input: member(cached, "cached_tokens")?,
        reasoning: member(reasoning, "reasoning_tokens")?.max(hidden),
    })
}

fn member(raw: &str, name: &str) -> serde_json::Result<Option<u64>> {
    let mut found = None;
    members(raw, |key, value| {
        if key == name {
            found = count(value);
        }
    })?;
    Ok(found)
}

/// Some servers write 13 as `13.0`, `1.3e1` or `"13"`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(super) fn count(raw: &str) -> Option<u64> {
    let number = raw.trim_matches('"');
    let integer = number.parse().ok().or_else(|| {
        let number: f64 = number.parse().ok()?;
        let is_count = number.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&number);
        is_count.then_some(number as u64)
    });
    integer.filter(|count| *count <= MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the counts of input, output and reasoning.
    fn counts(raw: &str) -> [Option<u64>; 3] {
        let Usage { input, output, cached_input, reasoning } = read(raw).unwrap();
        assert_eq!(cached_input, None, "{raw}");
        [input, output, reasoning]
    }

    #[test]
    fn each_count_is_read_or_unknown() {
        for (raw, expected) in [
            ("null", [None, None, None]),
            ("{}", [None, None, None]),
            ("[]", [None, None, None]),
            (r#"{"cost":0}"#, [None, None, None]),
            (r#"{"prompt_tokens":null}"#, [None, None, None]),
            (r#"{"prompt_tokens":12}"#, [Some(12), None, None]),
            (r#"{"completion_tokens":5}"#, [None, Some(5), None]),
            (r#"{"total_tokens":17}"#, [None, None, None]),
            (r#"{"prompt_tokens":12,"completion_tokens":0}"#, [Some(12), Some(0), None]),
            // The names of newer APIs.
            (
                r#"{"input_tokens":18,"output_tokens":9,"total_tokens":27}"#,
                [Some(18), Some(9), None],
            ),
            (
                r#"{"prompt_tokens":18,"input_tokens":null,"completion_tokens":9}"#,
                [Some(18), Some(9), None],
            ),
            // The total.
            (
                r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":5}"#,
                [Some(3), Some(5), None],
            ),
            (r#"{"completion_tokens":5,"total_tokens":50}"#, [None, Some(5), None]),
            (r#"{"prompt_tokens":9,"total_tokens":4}"#, [Some(9), None, None]),
            (r#"{"prompt_tokens":9,"total_tokens":12}"#, [Some(9), None, None]),
            (
                r#"{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}"#,
                [Some(20), Some(603), Some(405)],
            ),
            (
                r#"{"prompt_tokens":12,"completion_tokens":2,"total_tokens":354}"#,
                [Some(12), Some(342), Some(340)],
            ),
            // Forms of numbers.
            (r#"{"completion_tokens":"13"}"#, [None, Some(13), None]),
            (r#"{"completion_tokens":13.0}"#, [None, Some(13), None]),
            (r#"{"completion_tokens":1.2e3}"#, [None, Some(1200), None]),
            (r#"{"completion_tokens":12E2}"#, [None, Some(1200), None]),
            (r#"{"completion_tokens":2e0}"#, [None, Some(2), None]),
            (r#"{"completion_tokens":1.5e1}"#, [None, Some(15), None]),
            (r#"{"completion_tokens":"1e2"}"#, [None, Some(100), None]),
            (r#"{"prompt_tokens":1000000000}"#, [Some(1_000_000_000), None, None]),
            // Invalid counts.
            (r#"{"prompt_tokens":1,"completion_tokens":-1}"#, [Some(1), None, None]),
            (r#"{"prompt_tokens":-3,"completion_tokens":-2}"#, [None, None, None]),
            (r#"{"completion_tokens":13.7}"#, [None, None, None]),
            (r#"{"completion_tokens":1e-1}"#, [None, None, None]),
            (r#"{"completion_tokens":1e300}"#, [None, None, None]),
            (r#"{"completion_tokens":1e400}"#, [None, None, None]),
            (r#"{"completion_tokens":1000000001}"#, [None, None, None]),
            (r#"{"completion_tokens":18446744073709551615}"#, [None, None, None]),
            (r#"{"completion_tokens":"NaN"}"#, [None, None, None]),
            (r#"{"completion_tokens":"inf"}"#, [None, None, None]),
            (r#"{"completion_tokens":""}"#, [None, None, None]),
            (r#"{"completion_tokens":true}"#, [None, None, None]),
            (r#"{"completion_tokens":[5]}"#, [None, None, None]),
        ] {
            assert_eq!(counts(raw), expected, "{raw}");
        }
    }

    #[test]
    fn details_are_read() {
        let usage = |total| {
            let raw = format!(
                r#"{{"prompt_tokens":12,"completion_tokens":2,"total_tokens":{total},
                    "prompt_tokens_details":{{"cached_tokens":7}},
                    "completion_tokens_details":{{"reasoning_tokens":340}}}}"#
            );
            read(&raw).unwrap()
        };
        let expected = |output| Usage {
            input: Some(12),
            output: Some(output),
            cached_input: Some(7),
            reasoning: Some(340),
        };
        assert_eq!(usage(354), expected(342), "the total includes the reasoning");
        assert_eq!(usage(14), expected(2), "the total does not");
        let newer = r#"{"input_tokens":18,"input_tokens_details":{"cached_tokens":4}}"#;
        assert_eq!(read(newer).unwrap().cached_input, Some(4));
        let null = r#"{"prompt_tokens":1,"prompt_tokens_details":null}"#;
        assert_eq!(read(null).unwrap().cached_input, None);
    }
}
