//! Paths and connections. Only this module of the simulator uses hyper.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::api::{Api, ApiError, FinishReason};
use super::engine::Engine;
use super::faults::Fault;
use super::generation::{Event, Generation};
use super::request::{CONTEXT_LENGTH, TextRequest};
use super::response::{self, Envelope, Usage};
use super::variation::Variation;
use super::writer::Writer;

/// In bytes.
const MAX_BODY: usize = 1 << 20;
/// Before a refusal, the simulator reads up to this number of bytes and discards them. If it closed
/// the connection while the client was writing, the client would often see a reset instead of the
/// response.
const MAX_DISCARDED: usize = 8 << 20;
/// The longest wait for a request head, and so the longest idle time of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest request head, and the buffer for unread response bytes, in bytes.
const BUFFER: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, BrokenBody>;

/// The time from a request to the reset of its connection. A client can mistake an immediate reset
/// for the end of an idle connection.
const RESET_DELAY: Duration = Duration::from_millis(200);

/// Resets the connection instead of sending a response.
#[derive(Debug)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection reset requested")
    }
}

impl Error for Reset {}

/// Breaks the connection in the middle of a response.
#[derive(Debug)]
struct BrokenBody;

impl fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken body requested")
    }
}

impl Error for BrokenBody {}

pub(super) async fn connection(stream: TcpStream, engine: Arc<Engine>) {
    // Without this option, the kernel could delay a token until the client has acknowledged the
    // previous token. An error only means that the connection is already broken.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, Arc::clone(&engine)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    // Only `Reset` resets the connection. All other connections close normally, so the first bytes
    // of a broken body still arrive.
    if let Err(error) = (&mut connection).await
        && error.source().is_some_and(<dyn Error>::is::<Reset>)
    {
        // With a linger time of zero, closing the socket sends RST instead of FIN.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ApiPath {
    Text(Api),
    Models,
    Health,
    Version,
    Metrics,
}

impl ApiPath {
    /// As on real servers, the API is only below `/v1`.
    fn parse(path: &str) -> Option<ApiPath> {
        match path {
            "/v1/models" => Some(ApiPath::Models),
            "/health" => Some(ApiPath::Health),
            "/version" => Some(ApiPath::Version),
            "/metrics" => Some(ApiPath::Metrics),
            path => Api::ALL.into_iter().find(|api| api.path() == path).map(ApiPath::Text),
        }
    }

    fn method(self) -> Method {
        if matches!(self, ApiPath::Text(_)) { Method::POST } else { Method::GET }
    }
}

async fn respond(request: Request<Incoming>, engine: Arc<Engine>) -> Result<Response<Body>, Reset> {
    let Some(api_path) = ApiPath::parse(request.uri().path()) else {
        let path = request.uri().path();
        let message =
            format!("no such path: {path}; the API is below /v1, as in /v1/chat/completions");
        let error =
            ApiError { status: StatusCode::NOT_FOUND, ..ApiError::invalid_request(message) };
        return Ok(error_response(Api::Chat, &error));
    };
    // The APIs have different error objects.
    let format = match api_path {
        ApiPath::Text(api) => api,
        _ => Api::Chat,
    };
    let allowed = api_path.method();
    let head_instead_of_get = allowed == Method::GET && request.method() == Method::HEAD;
    if *request.method() != allowed && !head_instead_of_get {
        let error = ApiError {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..ApiError::invalid_request(format!("only {allowed} is allowed here"))
        };
        let mut response = error_response(format, &error);
        let allow = if allowed == Method::GET { "GET, HEAD" } else { "POST" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        return Ok(response);
    }
    match api_path {
        ApiPath::Text(api) => {
            let has_version = request.headers().contains_key("anthropic-version");
            generate(api, has_version, request.into_body(), &engine).await
        }
        ApiPath::Metrics => {
            let text = "text/plain; version=0.0.4; charset=utf-8";
            Ok(respond_with(StatusCode::OK, text, full(engine.metrics().into())))
        }
        _ if engine.is_loading() => Ok(error_response(format, &ApiError::loading())),
        ApiPath::Models => {
            let models = response::models(&engine.options().model, unix_seconds(), CONTEXT_LENGTH);
            Ok(json(StatusCode::OK, models))
        }
        ApiPath::Version => Ok(json(StatusCode::OK, response::version())),
        // vLLM also returns an empty body.
        ApiPath::Health => Ok(json(StatusCode::OK, Bytes::new())),
    }
}

/// `has_version` is true if the request names a version of the Messages API.
async fn generate(
    api: Api,
    has_version: bool,
    body: Incoming,
    engine: &Arc<Engine>,
) -> Result<Response<Body>, Reset> {
    let number = engine.count_request();
    let variation = Variation::draw(engine.options(), number);
    // Read the body before any refusal. Otherwise, a client that is still writing would see a
    // broken connection instead of the response.
    let read = timeout(BODY_TIMEOUT, read_body(body)).await;
    let body = match read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)) {
        Ok(body) => body,
        Err(status) => return Ok(body_refusal(api, status)),
    };
    if engine.is_loading() {
        return Ok(error_response(api, &ApiError::loading()));
    }
    if api == Api::Messages && !has_version {
        let error = ApiError::invalid_request("anthropic-version: the header is required");
        return Ok(error_response(api, &error));
    }
    let request = match TextRequest::parse(api, &body, &engine.options().model) {
        Ok(request) => request,
        Err(error) => return Ok(error_response(api, &error)),
    };
    if let Some(fault @ (Fault::Http429 | Fault::Http500 | Fault::Reset)) = variation.fault {
        engine.count_fault(fault);
        return match fault {
            Fault::Reset => {
                tokio::time::sleep(RESET_DELAY).await;
                Err(Reset)
            }
            Fault::Http429 => {
                let mut response = error_response(api, &ApiError::rate_limited());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                Ok(response)
            }
            _ => Ok(error_response(api, &ApiError::internal())),
        };
    }
    let Some(admission) = engine.admit() else {
        return Ok(error_response(api, &ApiError::overloaded()));
    };
    let options = engine.options();
    let output = request.output_length(options, &variation);
    let (stream, include_usage) = (request.stream, request.include_usage);
    let usage = Usage::new(request.prompt.count(), output);
    let envelope = Envelope {
        api,
        id: format!("{}{:016x}-{number}", api.id_prefix(), options.seed),
        created: unix_seconds(),
        model: options.model.clone(),
    };
    let pending = PendingResponse {
        writer: Writer::new(envelope, request.vectors.clone()),
        usage,
        generation: Generation::new(admission, request, output, variation),
    };
    if stream {
        let mut response = respond_with(
            StatusCode::OK,
            "text/event-stream; charset=utf-8",
            streamed_body(pending, include_usage),
        );
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    } else {
        Ok(unstreamed_response(pending).await)
    }
}

/// Reads a body. The error is the status for a body that is too long or too slow.
async fn read_body(mut body: Incoming) -> Result<Vec<u8>, StatusCode> {
    let announced = body.size_hint().lower();
    if announced > MAX_DISCARDED as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut read = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(StatusCode::BAD_REQUEST) };
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length > MAX_DISCARDED {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if length <= MAX_BODY {
            read.extend_from_slice(data);
        }
    }
    if length > MAX_BODY { Err(StatusCode::PAYLOAD_TOO_LARGE) } else { Ok(read) }
}

fn body_refusal(api: Api, status: StatusCode) -> Response<Body> {
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than 1 MiB",
        StatusCode::REQUEST_TIMEOUT => "the body did not arrive in time",
        _ => "the body could not be read",
    };
    let mut response =
        error_response(api, &ApiError { status, ..ApiError::invalid_request(message) });
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A response in progress.
struct PendingResponse {
    writer: Writer,
    usage: Usage,
    generation: Generation,
}

impl PendingResponse {
    /// The usage with the tokens from the prefix cache, whose number is known after the prefill.
    fn usage(&self) -> Usage {
        self.usage.with_cached_tokens(self.generation.cached_tokens())
    }
}

/// Returns a body that generates each event when the connection polls it. If the connection ends,
/// it drops the body, and the request leaves the engine.
fn streamed_body(pending: PendingResponse, include_usage: bool) -> Body {
    let events = stream::unfold(pending, move |mut pending| async move {
        let bytes = loop {
            let event = pending.generation.next().await?;
            let usage = pending.usage();
            let writer = &mut pending.writer;
            break match event {
                Event::Start => match writer.start(usage) {
                    Some(start) => start,
                    None => continue,
                },
                Event::Reasoning(text) => writer.reasoning(text),
                Event::Content(text) => writer.content(text),
                Event::Finish(finish) => writer.end(finish, usage, include_usage),
                Event::Error => writer.error(&ApiError::internal()),
                Event::Disconnect => return Some((Err(BrokenBody), pending)),
            };
        };
        Some((Ok(Frame::data(bytes)), pending))
    });
    StreamBody::new(events).boxed_unsync()
}

/// Waits for the complete text and returns one JSON object.
async fn unstreamed_response(mut pending: PendingResponse) -> Response<Body> {
    let (mut reasoning, mut content) = (String::new(), String::new());
    while let Some(event) = pending.generation.next().await {
        let (writer, usage) = (&pending.writer, pending.usage());
        match event {
            Event::Start => {}
            Event::Reasoning(text) => reasoning.push_str(text),
            Event::Content(text) => content.push_str(text),
            Event::Finish(finish) => {
                let document = writer.unstreamed(&reasoning, &content, finish, usage);
                return json(StatusCode::OK, document);
            }
            Event::Error => break,
            Event::Disconnect => {
                let finish = FinishReason::Stop;
                let document = writer.unstreamed(&reasoning, &content, finish, usage);
                return truncated_response(&document);
            }
        }
    }
    // As in a stream, this fault has status 200.
    json(StatusCode::OK, pending.writer.error_body(&ApiError::internal()))
}

/// Announces the length of the document, but breaks the connection after half of it.
fn truncated_response(document: &Bytes) -> Response<Body> {
    let half = document.slice(..document.len() / 2);
    let parts = stream::unfold(Some(half), |half| async move {
        if half.is_none() {
            // Let the connection write the first half before it breaks.
            tokio::task::yield_now().await;
        }
        Some((half.map(Frame::data).ok_or(BrokenBody), None))
    });
    let mut response = json(StatusCode::OK, Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    *response.body_mut() = StreamBody::new(parts).boxed_unsync();
    response
}

fn error_response(api: Api, error: &ApiError) -> Response<Body> {
    json(error.status, error.body(api))
}

fn json(status: StatusCode, document: Bytes) -> Response<Body> {
    respond_with(status, "application/json", full(document))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn respond_with(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The value of `created`.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
