//! Decodes the JSON of an event in a single pass.
//!
//! The decoder visits the keys of the outer objects, down to `delta`, and skips each value that
//! llmload does not need, such as token probabilities. It borrows the raw JSON of each text, and
//! reads it without a copy.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Channel, DecodedEvent, ReportedError, Shape, finish_reason};
use crate::protocol::answer::{ToolCall, ToolCallPart};
use crate::protocol::raw_json::{elements, is_truthy, members, string};
use crate::protocol::usage;

/// More deeply nested content parts are ignored. Real servers nest at most two levels.
const MAX_PART_DEPTH: u8 = 8;

/// Decodes one event or one body. Passes each text to `sink`, with the index of its choice.
///
/// # Errors
/// The JSON is not an object, or the structure of `choices` does not fit the API.
pub fn decode<'a, S>(
    json: &'a str,
    shape: Shape,
    sink: &mut S,
) -> serde_json::Result<DecodedEvent<'a>>
where
    S: FnMut(u32, Channel, &str),
{
    let mut reading = Reading {
        sink,
        shape,
        choice: 0,
        reasoning: None,
        has_error: false,
        decoded: DecodedEvent::default(),
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(Top(&mut reading))?;
    deserializer.end()?;
    if reading.has_error {
        reading.decoded.error = Some(ReportedError::from_body(json.as_bytes()));
    }
    Ok(reading.decoded)
}

struct Reading<'s, 'de, S> {
    sink: &'s mut S,
    shape: Shape,
    /// The index of the current choice.
    choice: u32,
    /// The first field with reasoning in this delta. Some servers repeat the reasoning in other
    /// fields, which are ignored.
    reasoning: Option<DeltaKey>,
    /// True if the event reports an error anywhere.
    has_error: bool,
    decoded: DecodedEvent<'de>,
}

impl<'de, S: FnMut(u32, Channel, &str)> Reading<'_, 'de, S> {
    fn emit(&mut self, channel: Channel, text: &str) {
        if !text.is_empty() {
            self.decoded.has_text = true;
            (self.sink)(self.choice, channel, text);
        }
    }

    /// Emits a string, a content part, or an array of both.
    fn emit_content(&mut self, channel: Channel, raw: &str, depth: u8) -> serde_json::Result<()> {
        if let Some(text) = string(raw) {
            self.emit(channel, &text);
            return Ok(());
        }
        if depth == MAX_PART_DEPTH {
            return Ok(());
        }
        let mut done = Ok(());
        let mut keep_first_error = |result: serde_json::Result<()>| {
            if done.is_ok() {
                done = result;
            }
        };
        let mut channel = channel;
        elements(raw, |part| keep_first_error(self.emit_content(channel, part, depth + 1)))?;
        members(raw, |key, value| match key {
            "type" if matches!(value, "\"thinking\"" | "\"reasoning\"") => {
                channel = Channel::Reasoning;
            }
            "text" | "summary" | "value" => {
                keep_first_error(self.emit_content(channel, value, depth + 1));
            }
            "thinking" => keep_first_error(self.emit_content(Channel::Reasoning, value, depth + 1)),
            "refusal" => keep_first_error(self.emit_content(Channel::Refusal, value, depth + 1)),
            _ => {}
        })?;
        done
    }

    /// Emits a function call, or the input of a custom tool call. Some servers send the arguments
    /// as an object instead of text.
    fn emit_function(&mut self, raw: &str, call: &mut ToolCall) -> serde_json::Result<()> {
        members(raw, |key, value| {
            let field = match key {
                "name" => &mut call.name,
                "arguments" | "input" => &mut call.arguments,
                _ => return,
            };
            match string(value) {
                Some(text) => {
                    self.emit(Channel::ToolCall, &text);
                    field.push_str(&text);
                }
                None if is_truthy(value) => {
                    self.emit(Channel::ToolCall, value);
                    field.push_str(value);
                }
                None => {}
            }
        })
    }

    fn emit_tool_calls(&mut self, raw: &str) -> serde_json::Result<()> {
        let mut done = Ok(());
        // A body without streaming has no indexes.
        let mut position = 0;
        elements(raw, |call| {
            let mut part = ToolCallPart { index: position, call: ToolCall::default() };
            let result = members(call, |key, value| match key {
                "index" => part.index = value.parse().unwrap_or(part.index),
                "id" => part.call.id = string(value).unwrap_or_default().into_owned(),
                "function" | "custom" if done.is_ok() => {
                    done = self.emit_function(value, &mut part.call);
                }
                _ => {}
            });
            if done.is_ok() {
                done = result;
            }
            position += 1;
            if self.choice == 0 {
                self.decoded.tool_calls.push(part);
            }
        })?;
        done
    }

    fn emit_audio(&mut self, raw: &str) -> serde_json::Result<()> {
        members(raw, |key, value| {
            let channel = match key {
                "transcript" => Channel::Answer,
                "data" => Channel::Audio,
                _ => return,
            };
            if let Some(text) = string(value) {
                self.emit(channel, &text);
            }
        })
    }

    fn read_usage(&mut self, raw: &str) -> serde_json::Result<()> {
        self.decoded.usage = usage::read(raw)?.or(self.decoded.usage);
        Ok(())
    }

    fn read_delta(&mut self, raw: &'de str) -> serde_json::Result<()> {
        serde_json::Deserializer::from_str(raw).deserialize_option(Delta(self))
    }
}

/// Visits an object. null counts as an empty object.
macro_rules! object_visitor {
    ($visitor:ident, $what:literal $(, $more:item)?) => {
        impl<'de, S: FnMut(u32, Channel, &str)> DeserializeSeed<'de> for $visitor<'_, '_, 'de, S> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_option(self)
            }
        }

        impl<'de, S: FnMut(u32, Channel, &str)> Visitor<'de> for $visitor<'_, '_, 'de, S> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($what)
            }

            fn visit_none<E>(self) -> Result<(), E> {
                Ok(())
            }

            fn visit_unit<E>(self) -> Result<(), E> {
                Ok(())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
                self.read(map)
            }

            $($more)?
        }
    };
}

fn next_raw<'de, A: MapAccess<'de>>(map: &mut A) -> Result<&'de str, A::Error> {
    Ok(map.next_value::<&'de RawValue>()?.get())
}

fn skip_value<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum TopKey {
    Choices,
    Usage,
    XGroq,
    Message,
    Response,
    Error,
    Type,
    Object,
    Model,
    #[serde(other)]
    Other,
}

struct Top<'r, 's, 'de, S>(&'r mut Reading<'s, 'de, S>);

impl<'de, S: FnMut(u32, Channel, &str)> Visitor<'de> for Top<'_, '_, 'de, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error as _;

        let reading = self.0;
        while let Some(key) = map.next_key()? {
            match key {
                TopKey::Choices => map.next_value_seed(Choices(reading))?,
                TopKey::Usage => {
                    reading.read_usage(next_raw(&mut map)?).map_err(A::Error::custom)?;
                }
                TopKey::XGroq | TopKey::Message | TopKey::Response => {
                    let mut inner = "null";
                    members(next_raw(&mut map)?, |key, value| {
                        if key == "usage" {
                            inner = value;
                        }
                    })
                    .map_err(A::Error::custom)?;
                    reading.read_usage(inner).map_err(A::Error::custom)?;
                }
                TopKey::Error => reading.has_error |= is_truthy(next_raw(&mut map)?),
                TopKey::Type | TopKey::Object => {
                    reading.has_error |=
                        matches!(next_raw(&mut map)?, "\"error\"" | "\"response.failed\"");
                }
                TopKey::Model => {
                    reading.decoded.model =
                        string(next_raw(&mut map)?).filter(|name| !name.is_empty());
                }
                TopKey::Other => skip_value(&mut map)?,
            }
        }
        Ok(())
    }
}

/// Some servers send null or an object instead of an array.
struct Choices<'r, 's, 'de, S>(&'r mut Reading<'s, 'de, S>);

object_visitor!(
    Choices,
    "an array of choices",
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Choice(self.0))?.is_some() {}
        Ok(())
    }
);

impl<'de, S: FnMut(u32, Channel, &str)> Choices<'_, '_, 'de, S> {
    fn read<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Choice(self.0).read(map)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum ChoiceKey {
    Index,
    Delta,
    Message,
    Text,
    FinishReason,
    Usage,
    Error,
    #[serde(other)]
    Other,
}

struct Choice<'r, 's, 'de, S>(&'r mut Reading<'s, 'de, S>);

object_visitor!(Choice, "a choice");

impl<'de, S: FnMut(u32, Channel, &str)> Choice<'_, '_, 'de, S> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error as _;

        let reading = self.0;
        reading.choice = 0;
        let mut is_index_known = false;
        // Text that arrives before the index of its choice waits here.
        let (mut pending_delta, mut pending_text) = (None, None);
        let (mut message, mut has_delta) = (None, false);
        while let Some(key) = map.next_key()? {
            match (key, reading.shape) {
                (ChoiceKey::Index, _) => {
                    reading.choice = next_raw(&mut map)?.parse().unwrap_or(0);
                    is_index_known = true;
                }
                (ChoiceKey::Message, Shape::Event) => message = Some(next_raw(&mut map)?),
                (ChoiceKey::Delta, Shape::Event) | (ChoiceKey::Message, Shape::Body) => {
                    has_delta = true;
                    if is_index_known {
                        map.next_value_seed(Delta(reading))?;
                    } else {
                        pending_delta = Some(next_raw(&mut map)?);
                    }
                }
                (ChoiceKey::Text, _) => pending_text = Some(next_raw(&mut map)?),
                (ChoiceKey::FinishReason, _) => {
                    let name = string(next_raw(&mut map)?);
                    let reason = name.as_deref().and_then(finish_reason);
                    reading.decoded.finish = reason.or(reading.decoded.finish);
                }
                (ChoiceKey::Usage, _) => {
                    reading.read_usage(next_raw(&mut map)?).map_err(A::Error::custom)?;
                }
                (ChoiceKey::Error, _) => reading.has_error |= is_truthy(next_raw(&mut map)?),
                (ChoiceKey::Delta | ChoiceKey::Other, _) => {
                    skip_value(&mut map)?;
                }
            }
        }
        if let Some(delta) = pending_delta.or(message.filter(|_| !has_delta)) {
            reading.read_delta(delta).map_err(A::Error::custom)?;
        }
        if let Some(text) = pending_text {
            reading.emit_content(Channel::Answer, text, 0).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum DeltaKey {
    Content,
    ReasoningContent,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ToolCalls,
    FunctionCall,
    Audio,
    #[serde(other)]
    Other,
}

struct Delta<'r, 's, 'de, S>(&'r mut Reading<'s, 'de, S>);

object_visitor!(Delta, "a delta");

impl<'de, S: FnMut(u32, Channel, &str)> Delta<'_, '_, 'de, S> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error as _;

        let reading = self.0;
        reading.reasoning = None;
        while let Some(key) = map.next_key()? {
            match key {
                DeltaKey::Content => reading.emit_content(Channel::Answer, next_raw(&mut map)?, 0),
                DeltaKey::ReasoningContent | DeltaKey::Reasoning | DeltaKey::ReasoningDetails => {
                    let text = next_raw(&mut map)?;
                    if is_truthy(text) && *reading.reasoning.get_or_insert(key) == key {
                        reading.emit_content(Channel::Reasoning, text, 0)
                    } else {
                        Ok(())
                    }
                }
                DeltaKey::Refusal => reading.emit_content(Channel::Refusal, next_raw(&mut map)?, 0),
                DeltaKey::ToolCalls => reading.emit_tool_calls(next_raw(&mut map)?),
                DeltaKey::FunctionCall => {
                    reading.emit_function(next_raw(&mut map)?, &mut ToolCall::default())
                }
                DeltaKey::Audio => reading.emit_audio(next_raw(&mut map)?),
                DeltaKey::Other => Ok(skip_value(&mut map)?),
            }
            .map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
