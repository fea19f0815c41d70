//! What one request asks, in no dialect yet: a conversation, or a whole body that somebody recorded.
//!
//! The prompts make it, the dialects write it down. What is the same in every dialect's body stands
//! here as well, so that a parameter means the same in all of them.

use std::borrow::Cow;
use std::num::NonZeroU32;

use serde_json::{Map, Value, json};

use super::{Dialect, MaxTokensField, RequestParameters};

/// Names of the bound of output tokens, the one that endpoints with both prefer first.
const LIMITS: [&str; 2] =
    [MaxTokensField::MaxCompletionTokens.as_str(), MaxTokensField::MaxTokens.as_str()];

/// What a request asks, with what it sets aside from its scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Question<'a> {
    /// The words.
    pub content: Content<'a>,
    /// Upper bound of output tokens, in place of any other.
    pub max_tokens: Option<NonZeroU32>,
    /// Asks the engine to go on to the bound (`ignore_eos`, which is vLLM's, SGLang's and llama.cpp's).
    pub ignore_eos: bool,
    /// Stands at the very start of the first message, so that no engine has seen this prefix.
    pub nonce: Option<String>,
    /// vLLM's `cache_salt`: prefixes are shared only among requests with the same.
    pub cache_salt: Option<String>,
}

/// The words of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    /// Messages; the first may be a system message, which stands in place of the scenario's.
    Conversation(Vec<Message<'a>>),
    /// A request body. What it sets wins over the scenario's parameters, but for `model` and
    /// `stream`: the measurement is about that model, and the reading of the answer depends on the
    /// other.
    Payload(Map<String, Value>),
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: Cow<'a, str>,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever runs the model.
    System,
    /// The same, as newer endpoints call it.
    Developer,
    /// Who asks.
    User,
    /// The model, earlier.
    Assistant,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::System, Role::Developer, Role::User, Role::Assistant];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl<'a> From<Content<'a>> for Question<'a> {
    fn from(content: Content<'a>) -> Question<'a> {
        Question { content, max_tokens: None, ignore_eos: false, nonce: None, cache_salt: None }
    }
}

/// One message of the user.
impl<'a> From<Cow<'a, str>> for Question<'a> {
    fn from(text: Cow<'a, str>) -> Question<'a> {
        Content::Conversation(vec![Message { role: Role::User, text }]).into()
    }
}

impl<'a> From<&'a str> for Question<'a> {
    fn from(text: &'a str) -> Question<'a> {
        Cow::Borrowed(text).into()
    }
}

impl Content<'_> {
    /// What is said, by whom, where it is a conversation: the system message is its own or the
    /// scenario's.
    pub(super) fn said<'a>(
        &'a self,
        parameters: &'a RequestParameters,
    ) -> Option<Vec<(Role, &'a str)>> {
        let Content::Conversation(messages) = self else { return None };
        let opened = messages
            .first()
            .is_some_and(|first| matches!(first.role, Role::System | Role::Developer));
        let system =
            parameters.system.as_deref().filter(|_| !opened).map(|text| (Role::System, text));
        let said = messages.iter().map(|message| (message.role, message.text.as_ref()));
        Some(system.into_iter().chain(said).collect())
    }
}

impl Question<'_> {
    /// The bound of output tokens that it brings along, in place of its scenario's.
    pub fn own_limit(&self) -> Option<u64> {
        let recorded = match &self.content {
            Content::Payload(body) => limit(&body.iter()),
            Content::Conversation(_) => None,
        };
        let own = self.max_tokens.map(|limit| u64::from(limit.get()));
        own.or_else(|| recorded.and_then(|(_, limit)| limit.as_u64()))
    }

    /// Whether it has words that others could be put before: a body recorded as token ids, or one that
    /// opens with a picture alone, has none.
    pub fn has_first_words(self) -> bool {
        match self.content {
            Content::Conversation(_) => true,
            Content::Payload(mut body) => first_words(&mut body).is_some(),
        }
    }

    /// The body in a dialect that has put the words of a conversation into `words`.
    ///
    /// Whoever comes later wins: the scenario's parameters, the target's further fields, the scenario's, a
    /// recorded body, what this one request sets. There is one bound of output tokens, by one name, since the servers that want
    /// `max_completion_tokens` refuse `max_tokens`: where the target says that its own does, every bound goes by that
    /// name, else by the one it was given with.
    pub(super) fn body(
        &self,
        dialect: &Dialect,
        model: &str,
        parameters: &RequestParameters,
        words: Map<String, Value>,
    ) -> Vec<u8> {
        let mut body = words;
        body.insert(dialect.max_tokens_field.as_str().into(), parameters.max_tokens.get().into());
        if let Some(temperature) = parameters.temperature {
            body.insert("temperature".into(), temperature.into());
        }
        lay_over(&mut body, dialect.extra_body.iter());
        lay_over(&mut body, parameters.extra.iter());
        if let Content::Payload(payload) = &self.content {
            lay_over(&mut body, payload.iter());
        }
        if dialect.max_tokens_field == MaxTokensField::MaxCompletionTokens
            && let Some(limit) = body.remove(MaxTokensField::MaxTokens.as_str())
        {
            body.insert(MaxTokensField::MaxCompletionTokens.as_str().into(), limit);
        }
        match body.get_mut("stream_options") {
            // Endpoints refuse it without a stream.
            _ if !(parameters.stream && dialect.include_usage) => _ = body.remove("stream_options"),
            Some(Value::Object(options)) => _ = options.insert("include_usage".into(), true.into()),
            _ => _ = body.insert("stream_options".into(), json!({"include_usage": true})),
        }
        if let Some(limit) = self.max_tokens {
            let name = LIMITS.iter().find(|name| body.contains_key(**name)).unwrap_or(&LIMITS[1]);
            body.insert((*name).into(), limit.get().into());
        }
        if self.ignore_eos {
            body.insert("ignore_eos".into(), true.into());
        }
        if let Some(nonce) = &self.nonce {
            // A source without words is refused beside nonces when the file is read.
            if let Some(words) = first_words(&mut body) {
                words.insert_str(0, nonce);
            }
        }
        if let Some(salt) = &self.cache_salt {
            body.insert("cache_salt".into(), salt.as_str().into());
        }
        body.insert("model".into(), model.into());
        body.insert("stream".into(), parameters.stream.into());
        Value::Object(body).to_string().into_bytes()
    }
}

/// Sets fields: maps are merged, and whichever bound is given takes the place of the one before.
fn lay_over<'a>(
    body: &mut Map<String, Value>,
    fields: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
) {
    if let Some((name, limit)) = limit(&fields) {
        for name in LIMITS {
            body.remove(name);
        }
        body.insert(name.to_owned(), limit.clone());
    }
    for (key, value) in fields.filter(|(key, _)| !LIMITS.contains(&key.as_str())) {
        match (body.get_mut(key), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                ours.extend(theirs.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            _ => _ = body.insert(key.clone(), value.clone()),
        }
    }
}

/// The bound of output tokens among some fields, by its name: of two the one that endpoints with both go
/// by, but for a `null`.
fn limit<'a>(
    fields: &(impl Iterator<Item = (&'a String, &'a Value)> + Clone),
) -> Option<(&'static str, &'a Value)> {
    let all = LIMITS.into_iter().filter_map(|name| {
        fields.clone().find_map(|(key, value)| (key == name).then_some((name, value)))
    });
    all.clone().find(|(_, value)| !value.is_null()).or_else(|| all.clone().next())
}

/// The first words of a body, wherever its dialect keeps them: text, a list of texts, or a list of
/// parts of which one is text.
fn first_words(body: &mut Map<String, Value>) -> Option<&mut String> {
    let first = body.get("messages").and_then(|messages| messages.get(0)?.get("content"));
    let words = if first.is_some() {
        body.get_mut("messages")?.get_mut(0)?.get_mut("content")?
    } else {
        body.get_mut("prompt")?
    };
    let text = match words {
        Value::Array(parts) => parts.iter_mut().find_map(|part| match part {
            Value::Object(part) => part.get_mut("text"),
            text => Some(text),
        })?,
        words => words,
    };
    match text {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(extra: &Value, stream: bool) -> RequestParameters {
        RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream,
            extra: serde_json::from_value(extra.clone()).unwrap(),
        }
    }

    fn encoded(asked: &Question<'_>, extra: &Value, stream: bool) -> Value {
        serde_json::from_slice(&Dialect::default().encode("m", &parameters(extra, stream), asked))
            .unwrap()
    }

    fn payload(body: &Value) -> Question<'static> {
        Content::Payload(body.as_object().unwrap().clone()).into()
    }

    #[test]
    fn a_payload_wins_over_the_parameters_but_for_model_and_stream() {
        let body = json!({
            "model": "other", "stream": false, "messages": [{"role": "user", "content": "Hi"}], "temperature": 1,
            "max_tokens": 7, "stream_options": {"include_usage": false, "chunks": 2}, "top_k": 3,
        });
        let expected = json!({
            "model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}], "temperature": 1,
            "max_tokens": 7, "stream_options": {"include_usage": true, "chunks": 2}, "top_k": 3, "top_p": 0.9,
        });
        let extra = json!({"top_p": 0.9, "max_completion_tokens": 9});
        assert_eq!(encoded(&payload(&body), &extra, true), expected);
        let unstreamed = encoded(&payload(&body), &json!({}), false);
        assert_eq!(
            (unstreamed.get("stream_options"), &unstreamed["stream"]),
            (None, &json!(false))
        );
        let odd = json!({"prompt": "Hi", "stream_options": null, "max_completion_tokens": 5});
        let odd = encoded(&payload(&odd), &json!({}), true);
        assert_eq!(odd["stream_options"], json!({"include_usage": true}));
        assert_eq!((odd.get("max_tokens"), &odd["max_completion_tokens"]), (None, &json!(5)));
    }

    #[test]
    fn there_is_one_bound_by_the_name_that_the_endpoint_takes() {
        let (old, new) = ("max_tokens", "max_completion_tokens");
        let newer =
            Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Dialect::default() };
        let sent = |dialect: &Dialect, extra: &Value, body: &Value| {
            let mut body = body.as_object().unwrap().clone();
            body.insert("prompt".into(), "Hi".into());
            let asked: Question<'_> = Content::Payload(body).into();
            let own = asked.own_limit();
            let bytes = dialect.encode("m", &parameters(extra, true), &asked);
            let mut body: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
            body.retain(|key, _| LIMITS.contains(&key.as_str()));
            (Value::Object(body), own)
        };
        let none = json!({});
        for (dialect, extra, recorded, bound, own) in [
            (&newer, &none, &none, json!({new: 16}), None),
            (&newer, &none, &json!({old: 7}), json!({new: 7}), Some(7)),
            (&newer, &none, &json!({old: 7, new: 9}), json!({new: 9}), Some(9)),
            (&newer, &json!({old: 5}), &none, json!({new: 5}), None),
            (&Dialect::default(), &none, &json!({new: 7}), json!({new: 7}), Some(7)),
            (&Dialect::default(), &none, &json!({old: 7, new: 9}), json!({new: 9}), Some(9)),
            (&Dialect::default(), &none, &json!({old: 7, new: null}), json!({old: 7}), Some(7)),
            (&Dialect::default(), &json!({new: 5}), &json!({old: 7}), json!({old: 7}), Some(7)),
        ] {
            assert_eq!(
                sent(dialect, extra, recorded),
                (bound, own),
                "{dialect:?} {extra} {recorded}"
            );
        }
    }

    #[test]
    fn what_one_request_sets_wins_over_everything() {
        let asked = Question {
            max_tokens: NonZeroU32::new(3),
            ignore_eos: true,
            cache_salt: Some("salt".into()),
            ..Question::from("Hi")
        };
        let body = encoded(&asked, &json!({}), true);
        assert_eq!((&body["max_tokens"], &body["ignore_eos"]), (&json!(3), &json!(true)));
        assert_eq!(body["cache_salt"], "salt");
        // Under the name that the endpoint knows.
        let body = encoded(&asked, &json!({"max_completion_tokens": 9}), true);
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(3), None));
        let plain = encoded(&"Hi".into(), &json!({}), true);
        assert!(plain.get("ignore_eos").is_none() && plain.get("cache_salt").is_none());
    }

    #[test]
    fn a_conversation_brings_its_own_system_message_or_gets_the_scenarios() {
        let message = |role, text: &'static str| Message { role, text: text.into() };
        let talk =
            vec![message(Role::User, "a"), message(Role::Assistant, "b"), message(Role::User, "c")];
        let body = encoded(&Content::Conversation(talk.clone()).into(), &json!({}), true);
        let roles = |body: &Value| -> Vec<String> {
            let messages = body["messages"].as_array().unwrap();
            messages
                .iter()
                .map(|m| format!("{} {}", m["role"].as_str().unwrap(), m["content"]))
                .collect()
        };
        assert_eq!(
            roles(&body),
            ["system \"Be brief.\"", "user \"a\"", "assistant \"b\"", "user \"c\""]
        );
        for role in [Role::System, Role::Developer] {
            let own = [vec![message(role, "Be long.")], talk.clone()].concat();
            let body = encoded(&Content::Conversation(own).into(), &json!({}), true);
            assert_eq!(roles(&body)[0], format!("{} \"Be long.\"", role.as_str()));
            assert_eq!(roles(&body).len(), 4);
        }
    }

    #[test]
    fn a_nonce_opens_the_first_words_wherever_they_stand() {
        let nonce = |asked: Question<'static>| {
            let asked = Question { nonce: Some("N. ".into()), ..asked };
            encoded(&asked, &json!({}), true)
        };
        let first = |body: &Value| body["messages"][0]["content"].clone();
        assert_eq!(first(&nonce("Hi".into())), "N. Be brief.");
        let bodies = [
            (json!({"messages": [{"role": "user", "content": "Hi"}]}), "/messages/0/content"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Hi"}]}]}),
                "/messages/0/content/1/text",
            ),
            (json!({"prompt": "Hi"}), "/prompt"),
            (json!({"prompt": ["Hi"]}), "/prompt/0"),
        ];
        for (body, place) in bodies {
            assert_eq!(nonce(payload(&body)).pointer(place), Some(&json!("N. Hi")), "{body}");
            assert!(payload(&body).has_first_words(), "{body}");
        }
        for body in [
            json!({"prompt": [[1, 2, 3]]}),
            json!({"prompt": [1]}),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            json!({"messages": [{"role": "assistant", "content": null}], "prompt": "Hi"}),
        ] {
            assert!(!payload(&body).has_first_words(), "{body}");
            assert!(!nonce(payload(&body)).to_string().contains("N. "), "{body}");
        }
    }
}
