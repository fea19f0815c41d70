//! Reads the body of a response: a stream, a body in one piece, or the start of the body of a
//! failed response.

use bytes::Bytes;
use tokio::time::Instant;

use super::RequestTimer;
use crate::endpoint::Response;
use crate::event::{Arrival, Event, Evidence, Observe};
use crate::measurement::{Anomaly, FailureDetail, Measurement};
use crate::protocol::{
    self, Answer, BodyReader, Channel, CompletedResponse, Progress, StreamReader, discard_text,
};

/// The highest number of bytes that llmload keeps from the body of a failed response.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A successful response.
pub(super) struct ReadResponse<R> {
    pub(super) measurement: Measurement,
    /// `None` unless the reader keeps the answer.
    pub(super) answer: Option<Answer>,
    /// The response, if its body has not ended yet.
    pub(super) undrained: Option<R>,
}

/// The reason why llmload stopped reading a stream. If the connection breaks before the response is
/// complete, there is a failure instead of a reason.
enum StopReason {
    /// The end marker or an error arrived, so the result of the request cannot change any more.
    ReaderFinished,
    /// The body ended cleanly at this instant.
    BodyEnded(Instant),
    /// The response was already complete when the connection broke or became silent.
    AlreadyComplete,
}

/// Records the instants at which text arrives in a stream, and reports them to the observer.
pub(super) struct TokenTimes<'a, O: ?Sized> {
    sent: Instant,
    arrival: &'a Arrival,
    observer: &'a O,
    evidence: &'a mut Evidence,
    first: Option<Instant>,
    /// The first text of the answer, if reasoning came before it.
    first_answer: Option<Instant>,
    last: Option<Instant>,
}

impl<'a, O: Observe + ?Sized> TokenTimes<'a, O> {
    pub(super) fn new(
        sent: Instant,
        arrival: &'a Arrival,
        observer: &'a O,
        evidence: &'a mut Evidence,
    ) -> TokenTimes<'a, O> {
        TokenTimes {
            sent,
            arrival,
            observer,
            evidence,
            first: None,
            first_answer: None,
            last: None,
        }
    }

    /// Records the events with text that one read from the connection returned.
    fn record(&mut self, now: Instant, progress: Progress, timer: &mut RequestTimer) {
        let count = progress.token_events;
        if count == 0 {
            return;
        }
        let since_sent = now.saturating_duration_since(self.sent);
        if self.first.is_none() {
            self.first = Some(now);
            timer.first_token_arrived();
            self.evidence.first_token = Some(since_sent);
            let since_due = now.saturating_duration_since(self.arrival.due);
            self.observer.observe(self.arrival, Event::FirstToken { since_sent, since_due });
        }
        if progress.starts_answer {
            self.first_answer = Some(now);
            self.observer.observe(self.arrival, Event::FirstAnswerToken { since_sent });
        }
        let gap = self.last.map(|last| now.saturating_duration_since(last));
        self.observer.observe(self.arrival, Event::Chunks { count, at: now, gap });
        self.last = Some(now);
    }
}

/// The start of a body whose `content-type` does not name an event stream.
pub(super) enum BodyStart {
    /// The body is an event stream nevertheless. Has the bytes so far, and the instant of the last
    /// read.
    Stream(Vec<u8>, Instant),
    /// The body is something else.
    Other(Vec<u8>),
}

/// Reads the start of a body until it is clear if the body is an event stream.
///
/// No event can be complete before this is clear. So if these bytes contain complete events, the
/// events arrived with the last read.
pub(super) async fn start_of_stream<R: Response>(
    response: &mut R,
    timer: &mut RequestTimer,
    evidence: &mut Evidence,
) -> Result<BodyStart, FailureDetail> {
    let mut body = Vec::new();
    while let Some(bytes) = timer.limit(response.chunk()).await?? {
        let now = Instant::now();
        evidence.add_body(&bytes);
        body.extend_from_slice(&bytes);
        match protocol::begins_like_event_stream(&body) {
            Some(true) => return Ok(BodyStart::Stream(body, now)),
            None if body.len() < MAX_ERROR_BODY => {}
            _ => return Ok(BodyStart::Other(start_of_body(response, timer, body, evidence).await)),
        }
    }
    Ok(BodyStart::Other(body))
}

/// Reads a stream. `first_read` has the bytes that were already read.
pub(super) async fn read_stream<R: Response>(
    mut response: R,
    mut first_read: Option<(Bytes, Instant)>,
    mut reader: StreamReader,
    mut timer: RequestTimer,
    mut tokens: TokenTimes<'_, impl Observe + ?Sized>,
) -> Result<ReadResponse<R>, FailureDetail> {
    let sent = timer.sent();
    let mut last_event = sent;
    let has_unexpected_type = first_read.is_some();
    let stop_reason = loop {
        let (bytes, now) = match first_read.take() {
            Some(read) => read,
            None => match timer.limit(response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    let now = Instant::now();
                    tokens.evidence.add_body(&bytes);
                    (bytes, now)
                }
                Ok(Ok(None)) => break StopReason::BodyEnded(Instant::now()),
                // A complete response stays a success if the connection breaks or becomes silent.
                Ok(Err(_)) | Err(_) if reader.is_complete() => break StopReason::AlreadyComplete,
                Ok(Err(detail)) | Err(detail) => return Err(detail),
            },
        };
        timer.last_read = now;
        let progress = reader.read(&bytes, &mut discard_text);
        tokens.record(now, progress, &mut timer);
        if progress.events > 0 {
            last_event = now;
            timer.set_complete(reader.is_complete().then_some(now));
        }
        if progress.finished {
            break StopReason::ReaderFinished;
        }
    };
    // The blank line after the last event can be missing. The last bytes of this event arrived with
    // the last read from the connection.
    let stream_end = reader.end(&mut discard_text);
    tokens.record(timer.last_read, stream_end.progress, &mut timer);
    if stream_end.progress.events > 0 {
        last_event = timer.last_read;
    }
    let completed = stream_end.verdict?;
    let end = match stop_reason {
        // With the setting `terminal: eof`, the response is complete only when its body ends.
        StopReason::BodyEnded(at) if !reader.is_complete() => at,
        _ => last_event,
    };
    let has_reasoning = reader.text_bytes(Channel::Reasoning) > 0;
    let mut measurement = Measurement {
        first_token: tokens.first,
        first_answer_token: tokens.first_answer,
        last_token: tokens.last,
        ..measurement(tokens.arrival.due, sent, end, completed, has_reasoning)
    };
    measurement.anomalies.add_if(Anomaly::Coalesced, measurement.is_coalesced());
    measurement.anomalies.add_if(Anomaly::UnexpectedContentType, has_unexpected_type);
    let is_undrained = matches!(stop_reason, StopReason::ReaderFinished);
    let (answer, undrained) = (reader.take_answer(), is_undrained.then_some(response));
    Ok(ReadResponse { measurement, answer, undrained })
}

pub(super) async fn read_body<R: Response>(
    mut response: R,
    mut reader: BodyReader,
    mut timer: RequestTimer,
    due: Instant,
    evidence: &mut Evidence,
) -> Result<ReadResponse<R>, FailureDetail> {
    while let Some(bytes) = timer.limit(response.chunk()).await?? {
        evidence.add_body(&bytes);
        if !reader.read(&bytes) {
            break;
        }
    }
    let end = Instant::now();
    let completed = reader.end(&mut discard_text)?;
    let has_reasoning = reader.text_bytes(Channel::Reasoning) > 0;
    let measurement = measurement(due, timer.sent(), end, completed, has_reasoning);
    Ok(ReadResponse { measurement, answer: reader.take_answer(), undrained: None })
}

/// Returns the measurement of a request, without the instants of its tokens.
fn measurement(
    due: Instant,
    sent: Instant,
    end: Instant,
    completed: CompletedResponse,
    has_reasoning: bool,
) -> Measurement {
    Measurement {
        due,
        sent,
        first_token: None,
        first_answer_token: None,
        last_token: None,
        end,
        usage: completed.usage,
        token_events: completed.token_events,
        reasoning_shown: has_reasoning,
        anomalies: completed.anomalies,
    }
}

/// Reads the start of the body of a failed response. `body` is the part that was already read.
/// Errors while reading are ignored.
pub(super) async fn start_of_body<R: Response>(
    response: &mut R,
    timer: &mut RequestTimer,
    mut body: Vec<u8>,
    evidence: &mut Evidence,
) -> Vec<u8> {
    while body.len() < MAX_ERROR_BODY
        && let Ok(Ok(Some(bytes))) = timer.limit(response.chunk()).await
    {
        evidence.add_body(&bytes);
        body.extend_from_slice(&bytes);
    }
    body.truncate(MAX_ERROR_BODY);
    body
}
