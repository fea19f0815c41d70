//! Decodes JSON that some servers write with small faults: a character cut in two, or a number that
//! is not finite.

use super::decoded::{Channel, DecodeError, DecodedEvent};
use super::raw_json;
use super::reported_error::ReportedError;
use super::sse::SseEvent;

/// A decoder of one kind of JSON, such as an event of a stream.
pub(super) trait JsonDecoder: Copy {
    /// Passes each text to `sink`, with the index of its choice.
    ///
    /// # Errors
    /// The text is not JSON, or its structure does not fit the API.
    fn decode<'a, S>(self, json: &'a str, sink: &mut S) -> serde_json::Result<DecodedEvent<'a>>
    where
        S: FnMut(u32, Channel, &str);
}

/// Decodes an event of a stream. An event without data, or named `ping`, becomes an empty
/// [`DecodedEvent`].
///
/// # Errors
/// The data is not JSON, or its structure does not fit the API.
pub(super) fn decode_event<'a, D, S>(
    event: SseEvent<'a>,
    decoder: D,
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    D: JsonDecoder,
    S: FnMut(u32, Channel, &str),
{
    if event.is_error() {
        let error = Some(ReportedError::from_body(event.data));
        return Ok(DecodedEvent { error, ..DecodedEvent::default() });
    }
    let data = event.data.trim_ascii();
    if data.is_empty() || event.name == b"ping" {
        return Ok(DecodedEvent::default());
    }
    decode(data, decoder, sink)
}

/// # Errors
/// The bytes are not JSON, or their structure does not fit the API.
pub(super) fn decode<'a, D, S>(
    bytes: &'a [u8],
    decoder: D,
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    D: JsonDecoder,
    S: FnMut(u32, Channel, &str),
{
    // WHATWG requires a replacement character for invalid UTF-8. Some gateways cut a character in
    // two, and the request must not fail.
    let Ok(json) = str::from_utf8(bytes) else {
        let json = String::from_utf8_lossy(bytes);
        return Ok(decode_text(&json, decoder, sink)?.into_owned());
    };
    decode_text(json, decoder, sink)
}

/// Reads `NaN`, `Infinity` and `-Infinity` as null. Python writes them by default, for example as a
/// logarithm of a probability.
fn decode_text<'a, D, S>(
    json: &'a str,
    decoder: D,
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    D: JsonDecoder,
    S: FnMut(u32, Channel, &str),
{
    let mut emitted = 0;
    let decoded = decoder.decode(json, &mut |choice, channel, text: &str| {
        emitted += 1;
        sink(choice, channel, text);
    });
    let error = match decoded {
        Ok(decoded) => return Ok(decoded),
        Err(error) => error,
    };
    let Some(json) = raw_json::without_non_finite_numbers(json) else { return Err(error.into()) };
    // The sink already has the text before the first of these values.
    let decoded = decoder.decode(&json, &mut |choice, channel, text: &str| {
        if emitted == 0 {
            sink(choice, channel, text);
        } else {
            emitted -= 1;
        }
    })?;
    Ok(decoded.into_owned())
}
