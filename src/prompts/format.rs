//! The formats of the rows in a prompt file.
//!
//! llmload parses a row with the same code when it loads the file and when it sends the row. So it
//! can send every row that it has accepted.

use std::borrow::Cow;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::conversation::Conversation;
use super::synthetic::MAX_TOKENS;
use crate::protocol::Prompt;
use crate::protocol::prompt::{Content, Message, Role};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// One prompt on each line.
    Lines,
    /// Recorded request bodies. llmload replaces `model` and `stream`. Other fields of a body have
    /// priority over those of the configuration.
    Payloads,
    /// ShareGPT: `{"conversations": [{"from": "human", "value": "…"}, …]}`. The prompt is the first
    /// human turn.
    Sharegpt,
    /// JSON objects, with the prompt in this field. With `None`, the prompt is in `prompt`, or a
    /// conversation is in `messages`. The field `output_tokens` limits the output.
    Jsonl(Option<String>),
    /// Conversations with all their turns: `messages`, or `conversations` as in ShareGPT.
    Conversations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowError {
    /// The line within the row, from 0.
    pub(super) line: usize,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl RowError {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> RowError {
        RowError { line: 0, problem: problem.into(), remedy: remedy.into() }
    }
}

impl RowFormat {
    /// True if the file has one JSON object on each line, or is one JSON list of objects.
    pub(super) fn is_json(&self) -> bool {
        *self != RowFormat::Lines
    }

    /// `None` if the row is valid but contains no prompt.
    pub(super) fn parse<'a>(&self, row: Cow<'a, str>) -> Result<Option<Prompt<'a>>, RowError> {
        match self {
            RowFormat::Lines => Ok(Some(row.into())),
            RowFormat::Payloads => {
                payload(object(&row)?).map(|body| Some(Content::Payload(body).into()))
            }
            RowFormat::Sharegpt => {
                Ok(first_human_turn(&row)?.map(|text| Prompt::from(Cow::Owned(text))))
            }
            RowFormat::Jsonl(field) => jsonl_prompt(object(&row)?, field.as_deref()).map(Some),
            RowFormat::Conversations => {
                let first = Conversation::parse(&row)?.and_then(|all| all.turns.into_iter().next());
                Ok(first.map(|turn| Prompt {
                    max_tokens: turn.max_tokens,
                    ..Content::Conversation(turn.messages).into()
                }))
            }
        }
    }
}

fn json<'a, T: Deserialize<'a>>(row: &'a str, example: &str) -> Result<T, RowError> {
    serde_json::from_str(row).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        RowError {
            line: error.line().saturating_sub(1),
            problem: format!("not JSON in the expected form ({reason})"),
            remedy: format!("write {example}"),
        }
    })
}

pub(super) fn object(row: &str) -> Result<Map<String, Value>, RowError> {
    json(row, "one object on each line, or a list of objects")
}

fn payload(body: Map<String, Value>) -> Result<Map<String, Value>, RowError> {
    if let (None, Some(Value::Array(prompts))) = (body.get("messages"), body.get("prompt"))
        && prompts.len() > 1
        && prompts.iter().any(|prompt| prompt.is_string() || prompt.is_array())
    {
        let problem = format!("`prompt` contains {} prompts", prompts.len());
        return Err(RowError::new(problem, "write each prompt in a separate row"));
    }
    let has_prompt = match body.get("messages") {
        Some(Value::Array(messages)) => {
            !messages.is_empty() && messages.iter().all(Value::is_object)
        }
        Some(_) => false,
        None => match body.get("prompt") {
            Some(Value::String(_)) => true,
            Some(Value::Array(prompts)) => prompts.len() == 1,
            _ => false,
        },
    };
    if !has_prompt {
        let remedy = "write `messages` as a list of objects, or one text as `prompt`";
        return Err(RowError::new("it contains no prompt", remedy));
    }
    for name in ["n", "best_of"] {
        if body.get(name).is_some_and(|count| count.as_u64() != Some(1)) {
            return Err(RowError::new(
                format!("`{name}` is not 1; llmload measures one completion per request"),
                "remove it",
            ));
        }
    }
    for name in ["max_tokens", "max_completion_tokens"] {
        token_limit(&body, name)?;
    }
    Ok(body)
}

fn first_human_turn(row: &str) -> Result<Option<String>, RowError> {
    #[derive(Deserialize)]
    struct Conversation {
        conversations: Vec<Turn>,
    }
    #[derive(Deserialize)]
    struct Turn {
        #[serde(alias = "role")]
        from: String,
        #[serde(alias = "content")]
        value: Option<String>,
    }
    let example = r#"{"conversations": [{"from": "human", "value": "…"}]}"#;
    let turns = json::<Conversation>(row, example)?.conversations;
    let human = turns.into_iter().find(|turn| turn.from == "human" || turn.from == "user");
    Ok(human.and_then(|turn| turn.value).filter(|text| !text.trim().is_empty()))
}

fn jsonl_prompt(
    mut row: Map<String, Value>,
    field: Option<&str>,
) -> Result<Prompt<'static>, RowError> {
    let max_tokens = token_limit(&row, "output_tokens")?;
    let name = field.unwrap_or("prompt");
    let mut prompt = match (row.remove(name), row.remove("messages")) {
        (Some(Value::String(text)), _) if !text.trim().is_empty() => Prompt::from(Cow::Owned(text)),
        (Some(Value::String(_)), _) => {
            return Err(RowError::new(format!("`{name}` is blank"), "write a prompt"));
        }
        (Some(_), _) => {
            return Err(RowError::new(format!("`{name}` is not text"), "put the text in quotes"));
        }
        (None, Some(messages)) if field.is_none() => conversation(messages)?,
        _ => {
            let keys: Vec<_> =
                row.keys().take(8).map(|key| format!("`{}`", key.escape_debug())).collect();
            let mut problem = format!("the row has no field `{name}`");
            if !keys.is_empty() {
                problem = format!("{problem}, but it has {}", keys.join(", "));
            }
            let remedy = "set `field` to the name of the field with the prompt";
            return Err(RowError::new(problem, remedy));
        }
    };
    prompt.max_tokens = max_tokens;
    Ok(prompt)
}

fn conversation(messages: Value) -> Result<Prompt<'static>, RowError> {
    let invalid = || {
        let roles = Role::PLAIN.map(|role| format!("`{}`", role.as_str())).join(", ");
        let problem = format!(
            "`messages` is not a list of objects with a `role` ({roles}) and a text as `content`"
        );
        RowError::new(problem, "write such messages, or use `payloads` for other messages")
    };
    let Value::Array(messages) = messages else { return Err(invalid()) };
    let message = |message: Value| {
        let role = message.get("role").and_then(Value::as_str)?;
        let role = Role::PLAIN.into_iter().find(|known| known.as_str() == role)?;
        let text = message.get("content").and_then(Value::as_str)?.to_owned();
        Some(Message::new(role, text))
    };
    let messages: Option<Vec<_>> = messages.into_iter().map(message).collect();
    let messages = messages.filter(|messages| !messages.is_empty()).ok_or_else(invalid)?;
    Ok(Content::Conversation(messages).into())
}

pub(super) fn token_limit(
    row: &Map<String, Value>,
    name: &str,
) -> Result<Option<NonZeroU32>, RowError> {
    let Some(value) = row.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let tokens = value.as_u64().and_then(|tokens| u32::try_from(tokens).ok());
    match tokens.filter(|tokens| *tokens <= MAX_TOKENS).and_then(NonZeroU32::new) {
        Some(tokens) => Ok(Some(tokens)),
        None => Err(RowError::new(
            format!("`{name}` is not a valid limit"),
            format!("write a whole number from 1 to {MAX_TOKENS}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(prompt: &Prompt<'_>) -> String {
        let Content::Conversation(messages) = &prompt.content else { panic!("{prompt:?}") };
        let lines = messages.iter().map(|m| format!("{}: {}", m.role.as_str(), m.text));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn parse(format: &RowFormat, row: &Value) -> Result<Option<Prompt<'static>>, String> {
        format
            .parse(row.to_string().into())
            .map_err(|error| format!("{}; {}", error.problem, error.remedy))
    }

    #[test]
    fn the_prompt_of_sharegpt_is_the_first_human_turn() {
        let row = json!({"id": "x", "conversations": [
            {"from": "gpt", "value": "Hello!"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "So."},
            {"from": "human", "value": "And?"},
        ]});
        assert_eq!(text(&parse(&RowFormat::Sharegpt, &row).unwrap().unwrap()), "user: Why?");
        let renamed = json!({"conversations": [{"role": "user", "content": "Why?"}]});
        assert_eq!(text(&parse(&RowFormat::Sharegpt, &renamed).unwrap().unwrap()), "user: Why?");
        for turns in [
            json!([]),
            json!([{"from": "gpt", "value": "a"}]),
            json!([{"from": "human", "value": " "}]),
        ] {
            assert_eq!(parse(&RowFormat::Sharegpt, &json!({"conversations": turns})), Ok(None));
        }
        assert!(
            parse(&RowFormat::Sharegpt, &json!({"a": 1}))
                .unwrap_err()
                .contains("missing field `conversations`")
        );
    }

    #[test]
    fn a_jsonl_row_contains_a_prompt_or_messages() {
        let plain = RowFormat::Jsonl(None);
        let prompt = parse(&plain, &json!({"prompt": "Hi", "output_tokens": 9})).unwrap().unwrap();
        assert_eq!((text(&prompt).as_str(), prompt.max_tokens), ("user: Hi", NonZeroU32::new(9)));
        let turns = json!({"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]});
        let prompt = parse(&plain, &turns).unwrap().unwrap();
        assert_eq!(text(&prompt), "system: Be brief.\nuser: Hi");
        let named = RowFormat::Jsonl(Some("question".into()));
        let prompt =
            parse(&named, &json!({"question": "Hi", "prompt": "no", "output_tokens": null}));
        assert_eq!(text(&prompt.unwrap().unwrap()), "user: Hi");
        for (format, row, message) in [
            (&plain, json!({"prompt": " "}), "`prompt` is blank"),
            (&plain, json!({"prompt": 5}), "`prompt` is not text"),
            (
                &plain,
                json!({"q": 5}),
                "the row has no field `prompt`, but it has `q`; set `field` to the name of",
            ),
            (&named, turns, "the row has no field `question`"),
            (&plain, json!({"messages": []}), "`messages` is not a list"),
            (&plain, json!({"messages": [{"role": "tool", "content": "a"}]}), "use `payloads`"),
            (
                &plain,
                json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]}),
                "`payloads`",
            ),
            (
                &plain,
                json!({"prompt": "a", "output_tokens": 0}),
                "`output_tokens` is not a valid limit",
            ),
            (&plain, json!(["a"]), "expected a map"),
        ] {
            let error = parse(format, &row).unwrap_err();
            assert!(error.contains(message), "{row}: {error}");
        }
    }

    #[test]
    fn a_payload_is_accepted_if_it_has_one_prompt_and_requests_one_completion() {
        let body = json!({"messages": [{"role": "user", "content": "a"}], "top_k": 3, "n": 1});
        let prompt = parse(&RowFormat::Payloads, &body).unwrap().unwrap();
        assert_eq!(prompt.content, Content::Payload(body.as_object().unwrap().clone()));
        assert!(parse(&RowFormat::Payloads, &json!({"prompt": "a"})).is_ok());
        for (row, message) in [
            (json!({"messages": []}), "it contains no prompt"),
            (json!({"messages": ["a"]}), "it contains no prompt"),
            (json!({"prompt": ["a", "b"]}), "`prompt` contains 2 prompts; write each prompt in a"),
            (json!({"prompt": [9906, 1917]}), "it contains no prompt"),
            (json!({}), "it contains no prompt"),
            (
                json!({"prompt": "a", "n": 2}),
                "`n` is not 1; llmload measures one completion per request",
            ),
            (
                json!({"prompt": "a", "best_of": 2}),
                "`best_of` is not 1; llmload measures one completion per request",
            ),
            (json!({"prompt": "a", "max_tokens": "many"}), "`max_tokens` is not a valid limit"),
        ] {
            let error = parse(&RowFormat::Payloads, &row).unwrap_err();
            assert!(error.contains(message), "{row}: {error}");
        }
    }
}
