//! What one row of a file says: a line of text, a recorded body, a conversation of ShareGPT, a
//! question of a data set.
//!
//! The same code judges a row when the file is loaded and reads it when it is sent, so that whatever
//! was let in can be asked.

use std::borrow::Cow;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::synthetic::MAX_TOKENS;
use crate::protocol::Prompt;
use crate::protocol::prompt::{Content, Message, Role};

/// What the rows of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// Text, one prompt a line.
    Lines,
    /// Whole request bodies.
    Payloads,
    /// `{"conversations": [{"from": "human", "value": "…"}, …]}`: what the human says first is asked.
    Sharegpt,
    /// Objects with the prompt in this field; or in `prompt`, or a conversation in `messages`. They
    /// may have `output_tokens`.
    Jsonl(Option<String>),
}

/// Why a row cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// Lines into the row.
    pub(super) line: usize,
    /// What is wrong and, after a semicolon, what would be right.
    pub(super) message: String,
}

impl From<String> for Unfit {
    fn from(message: String) -> Unfit {
        Unfit { line: 0, message }
    }
}

impl RowFormat {
    /// Whether the rows are JSON: one object a line, or the objects of one list.
    pub(super) fn is_json(&self) -> bool {
        *self != RowFormat::Lines
    }

    /// What a row asks; `None` where nobody asks anything in it.
    pub(super) fn read<'a>(&self, row: Cow<'a, str>) -> Result<Option<Prompt<'a>>, Unfit> {
        match self {
            RowFormat::Lines => Ok(Some(row.into())),
            RowFormat::Payloads => {
                payload(object(&row)?).map(|body| Some(Content::Payload(body).into()))
            }
            RowFormat::Sharegpt => Ok(first_turn(&row)?.map(|text| Prompt::from(Cow::Owned(text)))),
            RowFormat::Jsonl(field) => question(object(&row)?, field.as_deref()).map(Some),
        }
    }
}

fn json<'a, T: Deserialize<'a>>(row: &'a str, example: &str) -> Result<T, Unfit> {
    serde_json::from_str(row).map_err(|error| {
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or(&words);
        Unfit {
            line: error.line().saturating_sub(1),
            message: format!("not JSON of the right shape ({words}); write {example}"),
        }
    })
}

fn object(row: &str) -> Result<Map<String, Value>, Unfit> {
    json(row, "one object a line, or a list of objects")
}

fn payload(body: Map<String, Value>) -> Result<Map<String, Value>, Unfit> {
    let conversation = match body.get("messages") {
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
    if !conversation {
        return Err("nothing is asked; a body has `messages`, a list of objects, or one `prompt`"
            .to_owned()
            .into());
    }
    // One request is one answer, else its times and tokens would be those of several.
    for name in ["n", "best_of"] {
        if body.get(name).is_some_and(|count| count.as_u64() != Some(1)) {
            return Err(format!("`{name}` asks for several answers; leave it out").into());
        }
    }
    for name in ["max_tokens", "max_completion_tokens"] {
        bound(&body, name)?;
    }
    Ok(body)
}

fn first_turn(row: &str) -> Result<Option<String>, Unfit> {
    #[derive(Deserialize)]
    struct Talk {
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
    let turns = json::<Talk>(row, example)?.conversations;
    let human = turns.into_iter().find(|turn| turn.from == "human" || turn.from == "user");
    Ok(human.and_then(|turn| turn.value).filter(|text| !text.trim().is_empty()))
}

fn question(mut row: Map<String, Value>, field: Option<&str>) -> Result<Prompt<'static>, Unfit> {
    let max_tokens = bound(&row, "output_tokens")?;
    let name = field.unwrap_or("prompt");
    let mut asked = match (row.remove(name), row.remove("messages")) {
        (Some(Value::String(text)), _) if !text.trim().is_empty() => Prompt::from(Cow::Owned(text)),
        (Some(Value::String(_)), _) => {
            return Err(format!("`{name}` is blank; write a prompt").into());
        }
        (Some(_), _) => return Err(format!("`{name}` is not text; put it in quotes").into()),
        (None, Some(messages)) if field.is_none() => conversation(messages)?,
        _ => {
            let keys: Vec<_> =
                row.keys().take(8).map(|key| format!("`{}`", key.escape_debug())).collect();
            let has = if keys.is_empty() { "nothing else".to_owned() } else { keys.join(", ") };
            return Err(
                format!("`{name}` is missing; there is {has}; `field` names another").into()
            );
        }
    };
    asked.max_tokens = max_tokens;
    Ok(asked)
}

fn conversation(messages: Value) -> Result<Prompt<'static>, Unfit> {
    let unfit = || {
        let roles = Role::ALL.map(|role| format!("`{}`", role.as_str())).join(", ");
        Unfit::from(format!(
            "`messages` is not a list of objects with a `role` ({roles}) and a `content` of text; what says \
             more belongs in `payloads`"
        ))
    };
    let Value::Array(messages) = messages else { return Err(unfit()) };
    let message = |message: Value| {
        let role = message.get("role").and_then(Value::as_str)?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role)?;
        let text = message.get("content").and_then(Value::as_str)?.to_owned();
        Some(Message { role, text: Cow::Owned(text) })
    };
    let messages: Option<Vec<_>> = messages.into_iter().map(message).collect();
    let messages = messages.filter(|messages| !messages.is_empty()).ok_or_else(unfit)?;
    Ok(Content::Conversation(messages).into())
}

/// A bound of output tokens, where there is one.
fn bound(row: &Map<String, Value>, name: &str) -> Result<Option<NonZeroU32>, Unfit> {
    let Some(value) = row.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let tokens = value.as_u64().and_then(|tokens| u32::try_from(tokens).ok());
    match tokens.filter(|tokens| *tokens <= MAX_TOKENS).and_then(NonZeroU32::new) {
        Some(tokens) => Ok(Some(tokens)),
        None => {
            Err(format!("`{name}` is no bound; write a whole number from 1 to {MAX_TOKENS}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(asked: &Prompt<'_>) -> String {
        let Content::Conversation(messages) = &asked.content else { panic!("{asked:?}") };
        let said = messages.iter().map(|m| format!("{}: {}", m.role.as_str(), m.text));
        said.collect::<Vec<_>>().join("\n")
    }

    fn read(format: &RowFormat, row: &Value) -> Result<Option<Prompt<'static>>, String> {
        format.read(row.to_string().into()).map_err(|unfit| unfit.message)
    }

    #[test]
    fn of_sharegpt_the_first_human_turn_is_asked() {
        let talk = json!({"id": "x", "conversations": [
            {"from": "gpt", "value": "Hello!"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "So."},
            {"from": "human", "value": "And?"},
        ]});
        assert_eq!(text(&read(&RowFormat::Sharegpt, &talk).unwrap().unwrap()), "user: Why?");
        let renamed = json!({"conversations": [{"role": "user", "content": "Why?"}]});
        assert_eq!(text(&read(&RowFormat::Sharegpt, &renamed).unwrap().unwrap()), "user: Why?");
        for nobody in [
            json!([]),
            json!([{"from": "gpt", "value": "a"}]),
            json!([{"from": "human", "value": " "}]),
        ] {
            assert_eq!(read(&RowFormat::Sharegpt, &json!({"conversations": nobody})), Ok(None));
        }
        assert!(
            read(&RowFormat::Sharegpt, &json!({"a": 1}))
                .unwrap_err()
                .contains("missing field `conversations`")
        );
    }

    #[test]
    fn jsonl_has_a_prompt_or_messages_and_may_bound_its_answer() {
        let plain = RowFormat::Jsonl(None);
        let asked = read(&plain, &json!({"prompt": "Hi", "output_tokens": 9})).unwrap().unwrap();
        assert_eq!((text(&asked).as_str(), asked.max_tokens), ("user: Hi", NonZeroU32::new(9)));
        let turns = json!({"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]});
        let asked = read(&plain, &turns).unwrap().unwrap();
        assert_eq!(text(&asked), "system: Be brief.\nuser: Hi");
        let named = RowFormat::Jsonl(Some("question".into()));
        let asked = read(&named, &json!({"question": "Hi", "prompt": "no", "output_tokens": null}));
        assert_eq!(text(&asked.unwrap().unwrap()), "user: Hi");
        for (format, row, words) in [
            (&plain, json!({"prompt": " "}), "`prompt` is blank"),
            (&plain, json!({"prompt": 5}), "`prompt` is not text"),
            (&plain, json!({"q": 5}), "`prompt` is missing; there is `q`; `field` names another"),
            (&named, turns, "`question` is missing"),
            (&plain, json!({"messages": []}), "`messages` is not a list"),
            (
                &plain,
                json!({"messages": [{"role": "tool", "content": "a"}]}),
                "belongs in `payloads`",
            ),
            (
                &plain,
                json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]}),
                "`payloads`",
            ),
            (&plain, json!({"prompt": "a", "output_tokens": 0}), "`output_tokens` is no bound"),
            (&plain, json!(["a"]), "expected a map"),
        ] {
            let said = read(format, &row).unwrap_err();
            assert!(said.contains(words), "{row}: {said}");
        }
    }

    #[test]
    fn a_payload_is_taken_whole_where_it_asks_for_one_answer() {
        let body = json!({"messages": [{"role": "user", "content": "a"}], "top_k": 3, "n": 1});
        let asked = read(&RowFormat::Payloads, &body).unwrap().unwrap();
        assert_eq!(asked.content, Content::Payload(body.as_object().unwrap().clone()));
        assert!(read(&RowFormat::Payloads, &json!({"prompt": "a"})).is_ok());
        for (row, words) in [
            (json!({"messages": []}), "nothing is asked"),
            (json!({"messages": ["a"]}), "nothing is asked"),
            (json!({"prompt": ["a", "b"]}), "nothing is asked"),
            (json!({}), "nothing is asked"),
            (json!({"prompt": "a", "n": 2}), "`n` asks for several answers"),
            (json!({"prompt": "a", "best_of": 2}), "`best_of` asks for several answers"),
            (json!({"prompt": "a", "max_tokens": "many"}), "`max_tokens` is no bound"),
        ] {
            let said = read(&RowFormat::Payloads, &row).unwrap_err();
            assert!(said.contains(words), "{row}: {said}");
        }
    }
}
