//! Routes and connections: the only place here that knows hyper.

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

use super::answer::{self, ApiError, Envelope, Usage};
use super::ask::{Api, Ask, CONTEXT, Finish};
use super::engine::Engine;
use super::fate::{Fate, Fault};
use super::generation::{Event, Generation};

/// The longest request body.
const MAX_BODY: usize = 1 << 20;
/// How much of a longer one is read and thrown away before the refusal: closed on while it still
/// writes, a client often sees a reset instead of the answer.
const MAX_DISCARDED: usize = 8 << 20;
/// How long a client may take to send its request's head, or leave its connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// How long it may take to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a head at most, and of an answer that its client does not fetch.
const BUFFER: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Broken>;

/// The service's error that asks for a reset in place of an answer.
#[derive(Debug)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be reset")
    }
}

impl Error for Reset {}

/// A body's error that breaks the connection in the middle of an answer.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to break here")
    }
}

impl Error for Broken {}

/// Serves one connection until it ends.
pub(super) async fn connection(stream: TcpStream, engine: Arc<Engine>) {
    // A token must not wait for the acknowledgement of the one before. Where the option cannot
    // be set the connection is dead already, and the next line finds out.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, Arc::clone(&engine)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever else ends a connection is the client's business, and closed in the common way: a
    // broken body's first bytes must still arrive.
    if let Err(error) = (&mut connection).await
        && error.source().is_some_and(<dyn Error>::is::<Reset>)
    {
        // A socket that is closed without lingering sends RST in place of FIN.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Text(Api),
    Models,
    Health,
    Version,
    Metrics,
}

impl Route {
    /// As real servers serve them: a base URL without `/v1` fails here too.
    fn of(path: &str) -> Option<Route> {
        Some(match path {
            "/v1/chat/completions" => Route::Text(Api::Chat),
            "/v1/completions" => Route::Text(Api::Completions),
            "/v1/models" => Route::Models,
            "/health" => Route::Health,
            "/version" => Route::Version,
            "/metrics" => Route::Metrics,
            _ => return None,
        })
    }

    fn method(self) -> Method {
        if matches!(self, Route::Text(_)) { Method::POST } else { Method::GET }
    }
}

async fn respond(request: Request<Incoming>, engine: Arc<Engine>) -> Result<Response<Body>, Reset> {
    let Some(route) = Route::of(request.uri().path()) else {
        let path = request.uri().path();
        let message =
            format!("no such path: {path}; the API is below /v1, as in /v1/chat/completions");
        return Ok(refusal(&ApiError {
            status: StatusCode::NOT_FOUND,
            ..ApiError::invalid_request(message)
        }));
    };
    let allowed = route.method();
    let head_of_get = allowed == Method::GET && request.method() == Method::HEAD;
    if *request.method() != allowed && !head_of_get {
        let mut response = refusal(&ApiError {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..ApiError::invalid_request(format!("only {allowed} is allowed here"))
        });
        let allow = if allowed == Method::GET { "GET, HEAD" } else { "POST" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        return Ok(response);
    }
    match route {
        Route::Text(api) => generate(api, request.into_body(), &engine).await,
        Route::Metrics => {
            let text = "text/plain; version=0.0.4; charset=utf-8";
            Ok(response(StatusCode::OK, text, full(engine.metrics().into())))
        }
        _ if engine.loading() => Ok(refusal(&ApiError::loading())),
        Route::Models => {
            let models = answer::models(&engine.settings().model, unix_seconds(), CONTEXT);
            Ok(json(StatusCode::OK, models))
        }
        Route::Version => Ok(json(StatusCode::OK, answer::version())),
        // An empty body, as vLLM answers it.
        Route::Health => Ok(json(StatusCode::OK, Bytes::new())),
    }
}

async fn generate(api: Api, body: Incoming, engine: &Arc<Engine>) -> Result<Response<Body>, Reset> {
    let number = engine.receive();
    let fate = Fate::draw(engine.settings(), number);
    // Read before anything is refused: closed on while it still writes, a client would see a
    // broken connection where an answer was meant.
    let read = timeout(BODY_TIMEOUT, read_body(body)).await;
    let body = match read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)) {
        Ok(body) => body,
        Err(status) => return Ok(unread(status)),
    };
    if engine.loading() {
        return Ok(refusal(&ApiError::loading()));
    }
    let ask = match Ask::read(api, &body, &engine.settings().model) {
        Ok(ask) => ask,
        Err(error) => return Ok(refusal(&error)),
    };
    if let Some(fault @ (Fault::Http429 | Fault::Http500 | Fault::Reset)) = fate.fault {
        engine.strike(fault);
        return match fault {
            Fault::Reset => Err(Reset),
            Fault::Http429 => {
                let mut response = refusal(&ApiError::rate_limited());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                Ok(response)
            }
            _ => Ok(refusal(&ApiError::internal())),
        };
    }
    let Some(place) = engine.admit() else { return Ok(refusal(&ApiError::overloaded())) };
    let settings = engine.settings();
    let outline = ask.outline(settings, &fate);
    let answer = Answer {
        envelope: Envelope {
            api,
            id: match api {
                Api::Chat => format!("chatcmpl-{:016x}-{number}", settings.seed),
                Api::Completions => format!("cmpl-{:016x}-{number}", settings.seed),
            },
            created: unix_seconds(),
            model: settings.model.clone(),
        },
        usage: Usage::new(ask.prompt_tokens, outline),
        generation: Generation::new(place, &ask, outline, fate),
    };
    if ask.stream {
        let mut response = response(
            StatusCode::OK,
            "text/event-stream; charset=utf-8",
            streamed(answer, ask.include_usage),
        );
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    } else {
        Ok(whole(answer).await)
    }
}

/// Reads a body up to its bound, or says which status refuses it.
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

/// The refusal of a body that was not, or not wholly, read.
fn unread(status: StatusCode) -> Response<Body> {
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than 1 MiB",
        StatusCode::REQUEST_TIMEOUT => "the body did not arrive in time",
        _ => "the body could not be read",
    };
    let mut response = refusal(&ApiError { status, ..ApiError::invalid_request(message) });
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer in the making and what its objects carry.
struct Answer {
    envelope: Envelope,
    usage: Usage,
    generation: Generation,
}

/// A body that makes its events when it is asked for them. It is dropped with the connection,
/// and the request's place in the engine with it.
fn streamed(answer: Answer, include_usage: bool) -> Body {
    let events = stream::unfold(answer, move |mut answer| async move {
        let envelope = &answer.envelope;
        let bytes = loop {
            break match answer.generation.next().await? {
                Event::Begin => match envelope.role() {
                    Some(role) => role,
                    None => continue,
                },
                Event::Reasoning(text) => envelope.reasoning(text),
                Event::Content(text) => envelope.content(text),
                Event::Finish(finish) => {
                    envelope.end(finish, include_usage.then_some(answer.usage))
                }
                Event::Error => ApiError::internal().event(),
                Event::Break => return Some((Err(Broken), answer)),
            };
        };
        Some((Ok(Frame::data(bytes)), answer))
    });
    StreamBody::new(events).boxed_unsync()
}

/// Waits for the whole answer.
async fn whole(answer: Answer) -> Response<Body> {
    let Answer { envelope, usage, mut generation } = answer;
    let (mut reasoning, mut content) = (String::new(), String::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Begin => {}
            Event::Reasoning(text) => reasoning.push_str(text),
            Event::Content(text) => content.push_str(text),
            Event::Finish(finish) => {
                let document = envelope.whole(&reasoning, &content, finish, usage);
                return json(StatusCode::OK, document);
            }
            Event::Error => break,
            Event::Break => return cut(&envelope.whole(&reasoning, &content, Finish::Stop, usage)),
        }
    }
    // An error inside a 200, as in a stream, for that is what this fault is about.
    json(StatusCode::OK, ApiError::internal().body())
}

/// An answer that promises the whole document and breaks in its middle.
fn cut(document: &Bytes) -> Response<Body> {
    let half = document.slice(..document.len() / 2);
    let parts = stream::unfold(Some(half), |half| async move {
        if half.is_none() {
            // The writer's turn: what was said must arrive before the break.
            tokio::task::yield_now().await;
        }
        Some((half.map(Frame::data).ok_or(Broken), None))
    });
    let mut response = json(StatusCode::OK, Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    *response.body_mut() = StreamBody::new(parts).boxed_unsync();
    response
}

fn refusal(error: &ApiError) -> Response<Body> {
    json(error.status, error.body())
}

fn json(status: StatusCode, document: Bytes) -> Response<Body> {
    response(status, "application/json", full(document))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The wall clock, for `created` alone; nothing is measured with it.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
