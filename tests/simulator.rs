//! Tests of the simulator over real sockets. No test checks a duration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp)]

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use llmload::simulator::{Faults, Simulator, SimulatorOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The options of a simulator with fast tokens.
fn fast() -> SimulatorOptions {
    SimulatorOptions {
        prefill_tokens_per_second: 1e6,
        decode_tokens_per_second: 1e5,
        ..SimulatorOptions::default()
    }
}

fn faulty(faults: Faults) -> SimulatorOptions {
    SimulatorOptions { faults, ..fast() }
}

struct Endpoint {
    simulator: Simulator,
    client: Client<HttpConnector, Full<Bytes>>,
}

struct CompleteResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl CompleteResponse {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Returns the JSON of each event, and true if the last event is `[DONE]`.
    fn events(&self) -> (Vec<Value>, bool) {
        events(&self.body)
    }
}

fn events(stream: &str) -> (Vec<Value>, bool) {
    let mut data: Vec<&str> = stream
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("every event is one data line"))
        .collect();
    let done = data.last() == Some(&"[DONE]");
    data.truncate(data.len() - usize::from(done));
    (data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect(), done)
}

impl Endpoint {
    fn start(settings: SimulatorOptions) -> Endpoint {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let simulator = Simulator::start(settings, listener).unwrap();
        Endpoint { simulator, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    fn address(&self) -> SocketAddr {
        self.simulator.address()
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address()))
            .body(Full::new(body.into()))
            .unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn fetch(&self, method: Method, path: &str, body: impl Into<Bytes>) -> CompleteResponse {
        let (head, body) = self.send(method, path, body).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        CompleteResponse { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> CompleteResponse {
        self.fetch(Method::GET, path, "").await
    }

    async fn chat(&self, body: &Value) -> CompleteResponse {
        self.fetch(Method::POST, "/v1/chat/completions", body.to_string()).await
    }

    async fn complete(&self, body: &Value) -> CompleteResponse {
        self.fetch(Method::POST, "/v1/completions", body.to_string()).await
    }

    /// Returns after the response head. Does not read the body.
    async fn open(&self, body: &Value) -> Response<Incoming> {
        self.send(Method::POST, "/v1/chat/completions", body.to_string()).await
    }

    /// Returns the sum of all series whose name and labels begin with `name`.
    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await;
        metrics
            .body
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }

    /// Waits until [`Endpoint::metric`] has this value.
    async fn until(&self, name: &str, value: u64) {
        let arrived = tokio::time::timeout(Duration::from_mins(1), async {
            while self.metric(name).await != value {}
        });
        let arrived = arrived.await.is_ok();
        assert!(arrived, "{name} is not {value}:\n{}", self.get("/metrics").await.body);
    }
}

const RUNNING: &str = "vllm:num_requests_running{";
const WAITING: &str = "vllm:num_requests_waiting{";

fn chat_body(fields: Value) -> Value {
    let mut body = json!({
        "model": "simulated-8b",
        "messages": [{"role": "user", "content": "Name a colour, please."}],
    });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    body
}

fn stream(max_tokens: u32) -> Value {
    chat_body(json!({"stream": true, "max_tokens": max_tokens, "ignore_eos": true}))
}

fn delta<'a>(event: &'a Value, field: &str) -> Option<&'a str> {
    event["choices"][0]["delta"][field].as_str()
}

/// Reads until this number of events has arrived.
async fn read_events(response: &mut Response<Incoming>, count: usize) -> String {
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        let frame = response.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn a_stream_is_well_formed_and_its_token_counts_are_consistent() {
    let endpoint = Endpoint::start(fast());
    let answer = endpoint
        .chat(&chat_body(json!({
            "stream": true, "stream_options": {"include_usage": true},
            "max_completion_tokens": 20, "temperature": 0.5, "stop": ["never"],
        })))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    let (events, done) = answer.events();
    assert!(done);
    assert_eq!(events.len(), 1 + 20 + 1 + 1);
    let ids: HashSet<_> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    assert!(events.iter().all(|e| e["model"] == "simulated-8b"));
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String = events[1..21].iter().map(|e| delta(e, "content").unwrap()).collect();
    assert_eq!(text.split(' ').count(), 20, "{text}");
    assert!(events[..21].iter().all(|e| e["choices"][0]["finish_reason"].is_null()));
    assert_eq!(events[21]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[22]["choices"], json!([]));
    assert_eq!(
        events[22]["usage"],
        json!({
            "prompt_tokens": 6, "completion_tokens": 20, "total_tokens": 26,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
    assert_eq!(endpoint.metric("vllm:request_success_total{finished_reason=\"length\"").await, 1);
    assert_eq!(endpoint.metric("vllm:prompt_tokens_total").await, 6);
    assert_eq!(endpoint.metric("vllm:generation_tokens_total").await, 20);
    assert_eq!(endpoint.metric(RUNNING).await, 0);
}

#[tokio::test]
async fn usage_is_sent_only_if_requested() {
    let endpoint = Endpoint::start(fast());
    let (events, done) = endpoint.chat(&stream(3)).await.events();
    assert!(done);
    assert_eq!(events.len(), 1 + 3 + 1);
    assert!(events.iter().all(|e| e.get("usage").is_none()));
}

#[tokio::test]
async fn an_output_without_a_token_limit_ends_with_the_reason_stop() {
    let endpoint = Endpoint::start(fast());
    let answer = endpoint.chat(&chat_body(json!({}))).await.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((48..=160).contains(&tokens), "{tokens}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.split(' ').count() as u64, tokens);
    assert_eq!(answer["usage"]["total_tokens"], tokens + 6);
}

#[tokio::test]
async fn reasoning_tokens_are_before_the_answer_and_are_counted() {
    let endpoint = Endpoint::start(SimulatorOptions { reasoning_tokens: 4, ..fast() });
    let fields =
        json!({"stream": true, "stream_options": {"include_usage": true}, "max_tokens": 6});
    let (events, _) = endpoint.chat(&chat_body(fields)).await.events();
    assert!(events[1..5].iter().all(|e| delta(e, "reasoning_content").is_some()));
    assert!(events[5..7].iter().all(|e| delta(e, "content").is_some()));
    let usage = &events[8]["usage"];
    assert_eq!(usage["completion_tokens"], 6);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 4);
    let complete = endpoint.chat(&chat_body(json!({"max_tokens": 6}))).await.json();
    let message = &complete["choices"][0]["message"];
    assert_eq!(message["reasoning_content"].as_str().unwrap().split(' ').count(), 4);
    assert_eq!(message["content"].as_str().unwrap().split(' ').count(), 2);
}

/// Returns the prompt tokens of a response, and the cached tokens among them.
fn prompt_and_cached(usage: &Value) -> (u64, u64) {
    let count = |value: &Value| value.as_u64().unwrap();
    (count(&usage["prompt_tokens"]), count(&usage["prompt_tokens_details"]["cached_tokens"]))
}

#[tokio::test]
async fn each_turn_of_a_conversation_finds_the_turns_before_it_in_the_prefix_cache() {
    let endpoint = Endpoint::start(SimulatorOptions { prefix_cache_tokens: 10_000, ..fast() });
    let question = "Name a colour and a reason for it, please. ".repeat(10);
    let mut messages = vec![json!({"role": "user", "content": question})];
    let mut before = 0;
    for turn in 1..=4 {
        let fields = json!({"messages": messages, "max_tokens": 40, "stream": turn % 2 == 0,
                            "stream_options": (turn % 2 == 0).then(|| json!({"include_usage": true}))});
        let response = endpoint.chat(&chat_body(fields)).await;
        let (usage, text) = if turn % 2 == 0 {
            let (events, _) = response.events();
            let text: String = events.iter().filter_map(|event| delta(event, "content")).collect();
            (events.last().unwrap()["usage"].clone(), text)
        } else {
            let response = response.json();
            let text = response["choices"][0]["message"]["content"].as_str().unwrap();
            (response["usage"].clone(), text.to_owned())
        };
        let (prompt, cached) = prompt_and_cached(&usage);
        // The cache holds complete blocks of 16 tokens of the prompt before and of its response,
        // which has at least one token per word.
        let known = if turn == 1 { 0 } else { before + 40 - 16 };
        assert!(cached >= known && cached % 16 == 0 && cached < prompt, "{turn}: {cached}");
        assert_eq!(cached > 0, turn > 1);
        before = prompt;
        messages.push(json!({"role": "assistant", "content": text}));
        messages.push(json!({"role": "user", "content": "And one more?"}));
    }
}

#[tokio::test]
async fn the_prefix_cache_holds_its_configured_number_of_tokens() {
    let prompt = |name: &str| {
        let text = format!("{name} ").repeat(64);
        json!({"model": "simulated-8b", "prompt": text.trim(), "max_tokens": 1})
    };
    for (tokens, cached) in [(0, 0), (64, 0), (96, 32), (160, 48)] {
        let endpoint = Endpoint::start(SimulatorOptions { prefix_cache_tokens: tokens, ..fast() });
        for name in ["red", "blue"] {
            let usage = endpoint.complete(&prompt(name)).await.json()["usage"].clone();
            assert_eq!(prompt_and_cached(&usage), (64, 0));
        }
        // A prompt has four blocks. The last one is not used, because the engine must read the
        // last token. The second prompt has pushed out the last blocks of the first prompt.
        let usage = endpoint.complete(&prompt("red")).await.json()["usage"].clone();
        assert_eq!(prompt_and_cached(&usage), (64, cached), "{tokens}");
        assert_eq!(endpoint.metric("vllm:prefix_cache_hits_total").await, cached);
    }
}

#[tokio::test]
async fn prompts_with_different_salts_share_no_prefix() {
    let endpoint = Endpoint::start(SimulatorOptions { prefix_cache_tokens: 10_000, ..fast() });
    let text = "word ".repeat(100);
    for (salt, cached) in [("a", 0), ("b", 0), ("a", 96)] {
        let body = json!({"prompt": text, "max_tokens": 1, "cache_salt": salt});
        let usage = endpoint.complete(&body).await.json()["usage"].clone();
        assert_eq!(prompt_and_cached(&usage).1, cached, "{salt}");
    }
}

#[tokio::test]
async fn a_completion_is_returned_as_a_stream_or_as_one_object() {
    let endpoint = Endpoint::start(SimulatorOptions { reasoning_tokens: 4, ..fast() });
    let body = json!({
        "model": "simulated-8b", "prompt": "Once upon a time", "max_tokens": 20,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let answer = endpoint.complete(&body).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    let (events, done) = answer.events();
    assert!(done);
    assert_eq!(events.len(), 20 + 1 + 1, "no event without text begins the stream");
    assert!(events.iter().all(|e| e["object"] == "text_completion"));
    assert!(events.iter().all(|e| e["id"].as_str().unwrap().starts_with("cmpl-")));
    let text_of = |event: &Value| event["choices"][0]["text"].as_str().unwrap().to_owned();
    let text: String = events[..20].iter().map(text_of).collect();
    assert_eq!(text.split(' ').count(), 20, "{text}");
    assert!(events[..20].iter().all(|e| e["choices"][0]["finish_reason"].is_null()));
    assert_eq!(
        (text_of(&events[20]), &events[20]["choices"][0]["finish_reason"]),
        (String::new(), &"length".into())
    );
    let usage = &events[21]["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&4.into(), &20.into()));

    let complete = endpoint.complete(&json!({"prompt": "Once upon a time"})).await.json();
    assert_eq!(complete["object"], "text_completion");
    assert_eq!(text_of(&complete).split(' ').count(), 16, "{complete}");
    assert_eq!(
        (&complete["usage"]["total_tokens"], &complete["choices"][0]["finish_reason"]),
        (&20.into(), &"length".into())
    );

    let refused = endpoint.complete(&json!({"prompt": "Once", "echo": true})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["message"], "`echo` and `logprobs` are not supported");
}

#[tokio::test]
async fn completions_have_the_same_faults_as_chat() {
    let faults = Faults { stream_error: 0.5, http_429: 0.5, ..Faults::default() };
    let endpoint = Endpoint::start(faulty(faults));
    let body = json!({"prompt": "Once", "max_tokens": 50, "stream": true});
    let answers = join_all((0..40).map(|_| endpoint.complete(&body))).await;
    let limited = answers.iter().filter(|a| a.status == StatusCode::TOO_MANY_REQUESTS).count();
    let broken = answers.iter().filter(|a| a.status == StatusCode::OK);
    let broken: Vec<_> = broken.map(CompleteResponse::events).collect();
    assert!(limited > 0 && !broken.is_empty() && limited + broken.len() == 40);
    for (events, done) in broken {
        let (error, tokens) = events.split_last().unwrap();
        assert!(!done && error["error"]["type"] == "server_error");
        assert!((1..=5).contains(&tokens.len()), "{tokens:?}");
    }
}

/// Returns the name and the JSON of each event.
fn typed_events(stream: &str) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(data["type"], name);
        (name.to_owned(), data)
    };
    stream.split_terminator("\n\n").map(event).collect()
}

#[tokio::test]
async fn a_response_is_a_stream_of_typed_events_or_one_object() {
    let endpoint = Endpoint::start(SimulatorOptions { reasoning_tokens: 3, ..fast() });
    let body = |stream: bool| json!({"input": "Hi", "max_output_tokens": 8, "stream": stream});
    let post =
        async |body: Value| endpoint.fetch(Method::POST, "/v1/responses", body.to_string()).await;
    let events = typed_events(&post(body(true)).await.body);
    let count = |kind: &str| events.iter().filter(|(name, _)| name == kind).count();
    assert_eq!(count("response.reasoning_text.delta"), 3);
    assert_eq!(count("response.output_text.delta"), 5);
    assert_eq!((&*events[0].0, &*events[1].0), ("response.created", "response.in_progress"));
    let numbers: Vec<_> = events.iter().map(|(_, e)| e["sequence_number"].as_u64()).collect();
    assert!(numbers.iter().enumerate().all(|(i, number)| *number == Some(i as u64)));
    let (last, end) = events.last().unwrap();
    assert_eq!(last, "response.incomplete");
    assert_eq!(end["response"]["incomplete_details"]["reason"], "max_output_tokens");
    let usage = &end["response"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&1.into(), &8.into()));
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 3);

    let complete = post(body(false)).await.json();
    assert_eq!(complete["object"], "response");
    let output = complete["output"].as_array().unwrap();
    assert_eq!((&output[0]["type"], &output[1]["type"]), (&"reasoning".into(), &"message".into()));
    assert_eq!(complete["usage"]["total_tokens"], 9);
    let natural = post(json!({"input": "Hi", "stream": true})).await.body;
    assert_eq!(typed_events(&natural).last().unwrap().0, "response.completed");
}

#[tokio::test]
async fn a_message_is_a_stream_of_content_blocks_or_one_object() {
    let endpoint = Endpoint::start(SimulatorOptions { reasoning_tokens: 3, ..fast() });
    let post = async |stream: bool, version: Option<&str>| {
        let message = json!({"role": "user", "content": "Hi"});
        let body = json!({"messages": [message], "max_tokens": 8, "stream": stream});
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/v1/messages", endpoint.address()));
        if let Some(version) = version {
            request = request.header("anthropic-version", version);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let (head, body) = endpoint.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, stream) = post(true, Some("2023-06-01")).await;
    assert_eq!(status, StatusCode::OK);
    let events = typed_events(&stream);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let thinking = [
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
    ];
    let text = [&thinking[..4], &["content_block_delta"; 2], &thinking[4..]].concat();
    let expected =
        [&["message_start", "ping"][..], &thinking, &text, &["message_delta", "message_stop"]];
    assert_eq!(names, expected.concat());
    assert_eq!(events[0].1["message"]["usage"]["input_tokens"], 1);
    let end = &events[events.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&"max_tokens".into(), &8.into())
    );

    let (_, complete) = post(false, Some("2023-06-01")).await;
    let complete: Value = serde_json::from_str(&complete).unwrap();
    let kinds = complete["content"].as_array().unwrap().iter().map(|block| &block["type"]);
    assert_eq!(kinds.collect::<Vec<_>>(), ["thinking", "text"]);
    assert_eq!(
        (&complete["type"], &complete["stop_reason"]),
        (&"message".into(), &"max_tokens".into())
    );

    let (status, refused) = post(true, None).await;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((status, &refused["type"]), (StatusCode::BAD_REQUEST, &"error".into()));
    assert_eq!(refused["error"]["message"], "anthropic-version: the header is required");
}

#[tokio::test]
async fn a_vector_is_a_list_of_numbers_or_base64() {
    let endpoint = Endpoint::start(fast());
    let post =
        async |body: Value| endpoint.fetch(Method::POST, "/v1/embeddings", body.to_string()).await;
    let floats = post(json!({"input": ["Hi", "there", "Hi"], "dimensions": 3})).await.json();
    let vectors = floats["data"].as_array().unwrap();
    assert_eq!((vectors.len(), &vectors[2]["index"]), (3, &2.into()));
    assert_eq!(vectors[0]["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(vectors[0]["embedding"], vectors[2]["embedding"]);
    assert_eq!(floats["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let coded =
        post(json!({"input": "Hi", "dimensions": 3, "encoding_format": "base64"})).await.json();
    assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), 16, "12 bytes");
    let refused = post(json!({"input": []})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(endpoint.metric("vllm:generation_tokens_total").await, 0);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answers() {
    let answers = async |seed| {
        let endpoint = Endpoint::start(SimulatorOptions { seed, ..fast() });
        let mut texts = Vec::new();
        for _ in 0..5 {
            let answer = endpoint.chat(&chat_body(json!({}))).await.json();
            texts.push(answer["choices"][0]["message"]["content"].clone());
        }
        texts
    };
    let first = answers(1).await;
    assert_eq!(first, answers(1).await);
    assert_ne!(first, answers(2).await);
}

#[tokio::test]
async fn the_api_exists_only_below_v1_and_the_other_pages_only_at_the_root() {
    let endpoint = Endpoint::start(fast());
    let body = chat_body(json!({})).to_string();
    let answer = endpoint.fetch(Method::POST, "/v1/chat/completions", body.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let models = endpoint.get("/v1/models").await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 1);
    assert_eq!(models["data"][0]["id"], "simulated-8b");
    assert_eq!(endpoint.get("/health").await.status, StatusCode::OK);
    assert!(endpoint.get("/version").await.json()["version"].is_string());
    let metrics = endpoint.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for (method, path) in [
        (Method::POST, "/chat/completions"),
        (Method::POST, "/completions"),
        (Method::POST, "/v1/v1/chat/completions"),
        (Method::POST, "/v1/chat/completions/"),
        (Method::GET, "/models"),
        (Method::GET, "/v1/health"),
        (Method::GET, "/v1/metrics"),
        (Method::GET, "/"),
    ] {
        let answer = endpoint.fetch(method, path, body.clone()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(&format!("{path};")) && message.contains("below /v1"),
            "{message}"
        );
    }
    assert_eq!(endpoint.metric("simulator_requests_total").await, 1);
}

#[tokio::test]
async fn an_invalid_request_gets_an_error_in_the_format_of_openai() {
    let endpoint = Endpoint::start(fast());
    let chat = "/v1/chat/completions";
    let other_model = chat_body(json!({"model": "other"})).to_string();
    for (method, path, body, status) in [
        (Method::GET, "/v1/nothing", String::new(), 404),
        (Method::GET, chat, String::new(), 405),
        (Method::POST, "/v1/models", String::new(), 405),
        (Method::POST, chat, "{\"messages\":".into(), 400),
        (Method::POST, chat, "{}".into(), 400),
        (Method::POST, chat, other_model, 404),
        (Method::POST, chat, " ".repeat((1 << 20) + 1), 413),
    ] {
        let answer = endpoint.fetch(method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        assert!(error["type"].is_string(), "{error}");
        assert_eq!(status == 405, answer.headers.contains_key("allow"));
    }
    let mut at_the_limit = chat_body(json!({"max_tokens": 1})).to_string();
    at_the_limit.push_str(&" ".repeat((1 << 20) - at_the_limit.len()));
    let answer = endpoint.fetch(Method::POST, chat, at_the_limit).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn only_metrics_are_served_while_the_model_loads() {
    let endpoint = Endpoint::start(SimulatorOptions { loading: Duration::from_hours(1), ..fast() });
    for path in ["/v1/models", "/health", "/version"] {
        assert_eq!(endpoint.get(path).await.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    let answer = endpoint.chat(&chat_body(json!({}))).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["error"]["code"], "loading");
    assert_eq!(endpoint.metric("simulator_requests_total").await, 1);
}

/// At most `slots` requests run and `queue` requests wait. A running request keeps its slot until
/// its client disconnects.
fn stalling(slots: u32, queue: u32) -> SimulatorOptions {
    SimulatorOptions { slots, queue, ..faulty(Faults { stall: 1.0, ..Faults::default() }) }
}

#[tokio::test]
async fn a_request_beyond_slots_and_queue_is_refused() {
    let endpoint = Endpoint::start(stalling(2, 1));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(endpoint.open(&stream(50)).await);
    }
    endpoint.until(RUNNING, 2).await;
    endpoint.until(WAITING, 1).await;
    let refused = endpoint.chat(&stream(50)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"]["type"], "overloaded_error");
    assert_eq!(endpoint.metric("simulator_requests_refused_total").await, 1);
    assert_eq!(endpoint.metric("simulator_requests_total").await, 4);
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_slot_for_the_next_in_the_queue() {
    let endpoint = Endpoint::start(stalling(1, 2));
    let first = endpoint.open(&stream(50)).await;
    endpoint.until(RUNNING, 1).await;
    let second = endpoint.open(&stream(50)).await;
    let mut third = endpoint.open(&stream(50)).await;
    endpoint.until(WAITING, 2).await;
    // First the waiting request leaves the queue, and then the running one leaves its slot. So the
    // third request gets the slot.
    drop(second);
    endpoint.until(WAITING, 1).await;
    drop(first);
    endpoint.until(WAITING, 0).await;
    read_events(&mut third, 2).await;
    assert_eq!(endpoint.metric(RUNNING).await, 1);
    drop(third);
    endpoint.until(RUNNING, 0).await;
    assert_eq!(endpoint.metric("vllm:request_success_total{finished_reason=\"abort\"").await, 3);
}

#[tokio::test]
async fn a_client_without_streaming_frees_its_slot_when_it_disconnects() {
    let endpoint = Endpoint::start(stalling(1, 0));
    let mut socket = TcpStream::connect(endpoint.address()).await.unwrap();
    socket.write_all(raw_chat(&chat_body(json!({}))).as_bytes()).await.unwrap();
    endpoint.until(RUNNING, 1).await;
    drop(socket);
    endpoint.until(RUNNING, 0).await;
}

fn raw_chat(body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn the_fault_http_429_has_a_retry_after_header() {
    let endpoint = Endpoint::start(faulty(Faults { http_429: 1.0, ..Faults::default() }));
    let answer = endpoint.chat(&stream(5)).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(endpoint.metric("simulator_faults_total{fault=\"http_429\"}").await, 1);
}

#[tokio::test]
async fn the_fault_http_500_is_a_server_error() {
    let endpoint = Endpoint::start(faulty(Faults { http_500: 1.0, ..Faults::default() }));
    let answer = endpoint.chat(&stream(5)).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["error"]["type"], "server_error");
}

#[tokio::test]
async fn the_fault_reset_resets_the_connection_before_the_first_byte() {
    let endpoint = Endpoint::start(faulty(Faults { reset: 1.0, ..Faults::default() }));
    for body in [stream(5), chat_body(json!({}))] {
        let mut socket = TcpStream::connect(endpoint.address()).await.unwrap();
        socket.write_all(raw_chat(&body).as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let error = socket.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(read.is_empty(), "{}", String::from_utf8_lossy(&read));
    }
}

#[tokio::test]
async fn the_fault_stall_sends_nothing_more_after_a_few_tokens() {
    let endpoint = Endpoint::start(stalling(1, 0));
    let mut response = endpoint.open(&stream(50)).await;
    endpoint.until("simulator_faults_total{fault=\"stall\"}", 1).await;
    let tokens = usize::try_from(endpoint.metric("vllm:generation_tokens_total").await).unwrap();
    assert!((1..=5).contains(&tokens), "{tokens}");
    let text = read_events(&mut response, 1 + tokens).await;
    assert_eq!(events(&text).0.len(), 1 + tokens);
    let more = tokio::time::timeout(Duration::from_millis(20), response.frame()).await;
    assert!(more.is_err());
    assert_eq!(endpoint.metric(RUNNING).await, 1);
}

#[tokio::test]
async fn the_fault_stream_error_sends_an_error_event_and_ends_the_stream_normally() {
    let endpoint = Endpoint::start(faulty(Faults { stream_error: 1.0, ..Faults::default() }));
    let answer = endpoint.chat(&stream(50)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let (events, done) = answer.events();
    assert!(!done);
    let (error, tokens) = events.split_last().unwrap();
    assert_eq!(error["error"]["type"], "server_error");
    assert!((2..=6).contains(&tokens.len()), "{tokens:?}");
    assert!(tokens.iter().all(|e| e["choices"][0]["finish_reason"].is_null()));
    let complete = endpoint.chat(&chat_body(json!({}))).await;
    assert_eq!(complete.status, StatusCode::OK);
    assert_eq!(complete.json()["error"]["type"], "server_error");
    assert_eq!(endpoint.metric("vllm:request_success_total{finished_reason=\"error\"").await, 2);
}

#[tokio::test]
async fn the_fault_truncation_breaks_the_body_after_a_few_tokens() {
    let endpoint = Endpoint::start(faulty(Faults { truncation: 1.0, ..Faults::default() }));
    let mut response = endpoint.open(&stream(50)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut text = String::new();
    while let Ok(frame) = response.frame().await.expect("a broken body has no end") {
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let (events, done) = events(&text);
    assert!(!done);
    assert!((2..=6).contains(&events.len()), "{text}");

    let mut complete = endpoint.open(&chat_body(json!({}))).await;
    let first = complete.frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"{\"id\":"));
    assert!(complete.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn a_broken_stream_has_no_last_chunk() {
    let endpoint = Endpoint::start(faulty(Faults { truncation: 1.0, ..Faults::default() }));
    let mut socket = TcpStream::connect(endpoint.address()).await.unwrap();
    socket.write_all(raw_chat(&stream(50)).as_bytes()).await.unwrap();
    let mut read = Vec::new();
    socket.read_to_end(&mut read).await.unwrap();
    let read = String::from_utf8(read).unwrap();
    assert!(read.contains("transfer-encoding: chunked"), "{read}");
    assert!(read.contains("\"role\":\"assistant\""), "{read}");
    assert!(!read.ends_with("0\r\n\r\n"), "{read}");
}

#[tokio::test]
async fn all_of_many_concurrent_clients_get_a_response_and_are_counted() {
    let faults = Faults { http_429: 0.2, http_500: 0.1, stream_error: 0.1, ..Faults::default() };
    let endpoint = Endpoint::start(SimulatorOptions { slots: 4, queue: 200, ..faulty(faults) });
    let body = stream(10);
    let answers = join_all((0..200).map(|_| endpoint.chat(&body))).await;
    let count = |status: u16| answers.iter().filter(|a| a.status == status).count() as u64;
    let broken = answers.iter().filter(|a| a.status == 200 && !a.events().1).count() as u64;
    assert_eq!(count(200) + count(429) + count(500), 200);
    for (name, seen) in [
        ("simulator_requests_total", 200),
        ("simulator_requests_refused_total", 0),
        ("simulator_faults_total{fault=\"http_429\"}", count(429)),
        ("simulator_faults_total{fault=\"http_500\"}", count(500)),
        ("simulator_faults_total{fault=\"stream_error\"}", broken),
        ("vllm:request_success_total{", count(200)),
        (RUNNING, 0),
        (WAITING, 0),
    ] {
        assert_eq!(endpoint.metric(name).await, seen, "{name}");
    }
    assert!(broken > 0 && count(429) > broken);
}

#[tokio::test]
async fn dropping_the_simulator_ends_open_streams_and_the_thread() {
    let endpoint = Endpoint::start(stalling(1, 0));
    let mut response = endpoint.open(&stream(50)).await;
    read_events(&mut response, 2).await;
    let Endpoint { simulator, client } = endpoint;
    // `drop` returns after the thread of the simulator has ended.
    drop(simulator);
    while let Some(Ok(_)) = response.frame().await {}
    drop(client);
}
