//! How targets are reached, with real sockets: certificates, HTTP/2, proxies, idle connections, and what
//! the heads of requests and answers carry beside the protocol.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use llmload::config;
use llmload::endpoint::{Endpoint as _, HttpEndpoint, Request, Response as _};
use llmload::event::{Arrival, Event, Observe};
use llmload::exchange::exchange;
use llmload::measurement::Failure;
use llmload::plan::{Location, Target};
use llmload::protocol::Trace;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::binary::{Daemon, sample};
use crate::upstream::{
    Act, DONE, FINISH, USAGE, Upstream, arrival_now, chunk, good, head, last_chunk, plain,
    stream_head, token,
};

// ---- What is asked, and what came of it ---------------------------------------------------------

/// The target of a file with these keys, and its client.
fn target(url: &str, keys: &str) -> (Arc<Target>, HttpEndpoint) {
    target_in(std::path::Path::new("."), url, keys)
}

fn target_in(folder: &std::path::Path, url: &str, keys: &str) -> (Arc<Target>, HttpEndpoint) {
    let yaml = format!("target: {{base_url: '{url}', model: m{keys}}}\nrate: 1/s\n");
    let key = |name: &str| (name == "KEY").then(|| "sk-0123456789".to_owned());
    let plan = config::parse(&yaml, "llmload.yml", Some(folder), &key).unwrap();
    let target = Arc::clone(&plan.scenarios[0].target);
    let Location::Url(base) = &target.location else { unreachable!() };
    let endpoint = HttpEndpoint::new(&target, base).unwrap();
    (target, endpoint)
}

/// What observers were told of one request.
#[derive(Debug, Default)]
struct Told {
    connected: Mutex<Vec<(bool, Duration)>>,
    limits: Mutex<Vec<llmload::protocol::RateLimits>>,
    failed: Mutex<Option<(String, llmload::event::RequestIds)>>,
}

impl Observe for Told {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Connected { dns, connect } => {
                self.connected.lock().unwrap().push((dns.is_some(), connect));
            }
            Event::RateLimits(limits) => self.limits.lock().unwrap().push(*limits),
            Event::Failed { detail, ids, .. } => {
                *self.failed.lock().unwrap() = Some((detail.message.clone(), ids.clone()));
            }
            _ => {}
        }
    }
}

async fn ask(
    (target, endpoint): &(Arc<Target>, HttpEndpoint),
    stream: bool,
) -> (Result<(), Failure>, Told) {
    let order = crate::faults::order(target, stream);
    let told = Told::default();
    let finished = exchange(endpoint, arrival_now(), || Ok(order), &told).await;
    let outcome = finished.outcome.map(|_| ());
    finished.drain_body().await;
    (outcome, told)
}

// ---- A server of hyper's, with or without TLS ---------------------------------------------------

const WHOLE: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

/// Serves good answers; which versions of HTTP were spoken is kept.
struct Server {
    address: SocketAddr,
    spoken: Arc<Mutex<Vec<Version>>>,
}

impl Server {
    async fn start(tls: Option<rustls::ServerConfig>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spoken = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&spoken);
        let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
                tokio::spawn(async move {
                    let service = service_fn(move |request: HttpRequest<_>| {
                        let _: &HttpRequest<hyper::body::Incoming> = &request;
                        heard.lock().unwrap().push(request.version());
                        async {
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                                WHOLE.as_bytes(),
                            ))))
                        }
                    });
                    match acceptor {
                        None => {
                            let served =
                                hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            let _ended =
                                served.serve_connection(TokioIo::new(stream), service).await;
                        }
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            let version2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            let stream = TokioIo::new(stream);
                            if version2 {
                                let served =
                                    hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                                let _ended = served.serve_connection(stream, service).await;
                            } else {
                                let served = hyper::server::conn::http1::Builder::new();
                                let _ended = served.serve_connection(stream, service).await;
                            }
                        }
                    }
                });
            }
        });
        Server { address, spoken }
    }

    fn spoken(&self) -> Vec<Version> {
        self.spoken.lock().unwrap().clone()
    }
}

/// An authority of our own, and what it vouches for, as files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn signed(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes `cert.pem` and `key.pem` for a client.
    fn client(&self) {
        let (certificate, key) = self.signed("client", ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(self.folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    }

    /// For `127.0.0.1`; clients have to show a certificate where `clients` is set.
    fn server(&self, alpn: &[&str], clients: bool) -> rustls::ServerConfig {
        let (certificate, key) = self.signed("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

// ---- Certificates -------------------------------------------------------------------------------

#[tokio::test]
async fn an_authority_of_ones_own_vouches_for_the_endpoint_and_no_other_does() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let server = Server::start(Some(ours.server(&[], false))).await;
    let url = format!("https://{}/v1", server.address);
    let trusting = target_in(ours.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(ask(&trusting, false).await.0, Ok(()));
    let misled = target_in(stranger.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(ask(&misled, false).await.0, Err(Failure::Tls));
    let careless = target(&url, ", tls: {insecure_skip_verify: true}");
    assert_eq!(ask(&careless, false).await.0, Ok(()));
    assert_eq!(server.spoken(), [Version::HTTP_11; 2]);
}

#[tokio::test]
async fn a_certificate_of_the_client_is_shown_where_there_is_one() {
    let authority = Authority::new();
    authority.client();
    let server = Server::start(Some(authority.server(&[], true))).await;
    let url = format!("https://{}/v1", server.address);
    let keys = ", tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}";
    assert_eq!(ask(&target_in(authority.folder.path(), &url, keys), false).await.0, Ok(()));
    let nameless = target_in(authority.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(ask(&nameless, false).await.0, Err(Failure::Tls));
}

// ---- HTTP/2 -------------------------------------------------------------------------------------

#[tokio::test]
async fn http_2_is_spoken_where_it_is_asked_for_and_over_tls_where_both_want_it() {
    let plain = Server::start(None).await;
    let url = format!("http://{}/v1", plain.address);
    let target = target(&url, ", http2: true");
    assert_eq!(ask(&target, false).await.0, Ok(()));
    let (second, told) = ask(&target, false).await;
    assert_eq!(second, Ok(()));
    assert_eq!(told.connected.lock().unwrap().len(), 0, "on the same connection");
    assert_eq!(plain.spoken(), [Version::HTTP_2; 2]);

    let authority = Authority::new();
    for (offered, keys, version) in [
        (&["h2", "http/1.1"][..], ", http2: true", Version::HTTP_2),
        (&["http/1.1"], ", http2: true", Version::HTTP_11),
        (&["h2", "http/1.1"], "", Version::HTTP_11),
    ] {
        let server = Server::start(Some(authority.server(offered, false))).await;
        let url = format!("https://{}/v1", server.address);
        let target =
            target_in(authority.folder.path(), &url, &format!("{keys}, tls: {{ca_file: ca.pem}}"));
        assert_eq!(ask(&target, false).await.0, Ok(()), "{offered:?} {keys}");
        assert_eq!(server.spoken(), [version], "{offered:?} {keys}");
    }
}

/// Frames by hand: the settings, the head of an answer, the start of its body, and then the end.
#[tokio::test]
async fn an_end_in_the_midst_of_http_2_has_its_class() {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let settings = frame(4, 0, 0, &[]);
    // `:status: 200` of the static table, and a literal content type.
    let kind = b"text/event-stream";
    let fields = [&[0x88, 0x5f, u8::try_from(kind.len()).unwrap()], &kind[..]].concat();
    let answer = frame(1, 4, 1, &fields);
    let body = frame(0, 0, 1, token("a").as_bytes());
    let reset = |code: u8| frame(3, 0, 1, &[0, 0, 0, code]);
    let goodbye = |code: u8| frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, code]);
    for (name, frames, class) in [
        ("the stream is given up", vec![&answer, &body, &reset(2)], Failure::Truncated),
        ("the connection is cut", vec![&answer, &body], Failure::Truncated),
        (
            "they say that we broke the rules",
            vec![&answer, &body, &goodbye(1)],
            Failure::HttpProtocol,
        ),
        (
            "they break the rules",
            vec![&answer, &body, &frame(0, 0, 0, b"x")],
            Failure::HttpProtocol,
        ),
        ("refused before the head", vec![&reset(7)], Failure::Reset),
    ] {
        let bytes: Vec<u8> = frames.into_iter().flatten().copied().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let settings = settings.clone();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&settings).await.unwrap();
            // The request's head is in once its path is.
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            while !heard.windows(4).any(|four| four == b"\"max") {
                let n = stream.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
        let (outcome, told) = ask(&target(&url, ", http2: true"), true).await;
        assert_eq!(outcome, Err(class), "{name}: {:?}", told.failed.lock().unwrap());
    }
}

// ---- Names, connections, proxies ----------------------------------------------------------------

#[tokio::test]
async fn a_connection_is_timed_once_and_its_name_where_it_has_one() {
    let upstream = Upstream::start(|_| good()).await;
    let named = target(&format!("http://localhost:{}/v1", upstream.address.port()), "");
    let (outcome, told) = ask(&named, true).await;
    assert_eq!(outcome, Ok(()));
    assert!(matches!(told.connected.lock().unwrap()[..], [(true, _)]), "{told:?}");
    let (_, told) = ask(&named, true).await;
    assert!(told.connected.lock().unwrap().is_empty(), "it was there already");
    let (_, told) = ask(&target(&upstream.url(), ""), true).await;
    assert!(matches!(told.connected.lock().unwrap()[..], [(false, _)]), "{told:?}");
}

/// F05: a server that closes connections after five idle seconds, and a request every six, would make
/// an error of each second request. The sockets are real; only the time between is not waited for.
#[tokio::test]
async fn no_connection_is_used_that_was_idle_as_long_as_servers_keep_theirs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(|_: HttpRequest<hyper::body::Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(WHOLE.as_bytes()))))
            });
            let served = hyper::server::conn::http1::Builder::new();
            tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
        }
    });
    let target = target(&url, "");
    for (idle, expected) in [(0, 1), (3, 1), (6, 2), (6, 3), (3, 3)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(idle)).await;
        tokio::time::resume();
        assert_eq!(ask(&target, false).await.0, Ok(()));
        assert_eq!(connections.load(Ordering::Relaxed), expected, "after {idle} s");
    }
}

/// The same from the server's side, at its worst: a request that comes after five idle seconds meets a
/// reset, never an answer, as when it crosses the closing of its connection.
#[tokio::test]
async fn a_server_that_closes_what_idles_fails_no_request_whatever_lies_between_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (reused, resets) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (again, reset) = (Arc::clone(&reused), Arc::clone(&resets));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (again, reset) = (Arc::clone(&again), Arc::clone(&reset));
            let answered = Arc::new(Mutex::new(None::<Instant>));
            let service = service_fn(move |_: HttpRequest<hyper::body::Incoming>| {
                let idle =
                    answered.lock().unwrap().replace(Instant::now()).map(|then| then.elapsed());
                again.fetch_add(u64::from(idle.is_some()), Ordering::Relaxed);
                let gone = idle.is_some_and(|idle| idle >= Duration::from_secs(5));
                reset.fetch_add(u64::from(gone), Ordering::Relaxed);
                let answer = Response::new(Full::new(Bytes::from_static(WHOLE.as_bytes())));
                std::future::ready(
                    if gone { Err(std::io::ErrorKind::TimedOut) } else { Ok(answer) }
                        .map_err(std::io::Error::from),
                )
            });
            let served = hyper::server::conn::http1::Builder::new();
            tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
        }
    });
    let target = target(&url, "");
    // Twenty requests six seconds apart, then ever longer waits about the limits of both sides.
    let waits = [6000; 20].into_iter().chain((3000..6000).step_by(250));
    for millis in waits {
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(millis)).await;
        tokio::time::resume();
        assert_eq!(ask(&target, false).await.0, Ok(()), "after {millis} ms");
    }
    assert_eq!(resets.load(Ordering::Relaxed), 0);
    assert!(reused.load(Ordering::Relaxed) > 0, "what idled for three seconds is used again");
}

#[tokio::test]
async fn a_proxy_is_used_only_where_the_file_names_it() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let proxy = Upstream::reading(move |_, request| {
        heads.lock().unwrap().push(request.lines().next().unwrap().to_owned());
        good()
    })
    .await;
    let keys = format!(", proxy: 'http://{}'", proxy.address);
    let through = target("http://no-such-host.invalid/v1", &keys);
    assert_eq!(ask(&through, true).await.0, Ok(()));
    assert_eq!(
        *asked.lock().unwrap(),
        ["POST http://no-such-host.invalid/v1/chat/completions HTTP/1.1"]
    );
    // A proxy that will not let it through is not the target's failure to answer.
    let closed = Upstream::start(|_| plain("403 Forbidden", "text/plain", "no")).await;
    let keys = format!(", proxy: 'http://{}', tls: {{insecure_skip_verify: true}}", closed.address);
    let barred = target("https://no-such-host.invalid/v1", &keys);
    assert_eq!(ask(&barred, true).await.0, Err(Failure::ConnectOther));
}

// ---- What is bounded ----------------------------------------------------------------------------

#[tokio::test]
async fn neither_a_head_nor_an_answer_at_once_may_be_endless() {
    let header = format!("x-more: {}\r\n", "x".repeat(1000)).into_bytes();
    let head_without_end = || {
        vec![
            Act::Write(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Act::Trickle(header.clone(), Duration::ZERO),
        ]
    };
    let line = head_without_end();
    let upstream = Upstream::start(move |_| line.clone()).await;
    assert_eq!(ask(&target(&upstream.url(), ""), true).await.0, Err(Failure::TooLarge));

    let upstream = Upstream::start(|_| {
        let Act::Write(piece) = chunk(&" ".repeat(64 * 1024)) else { unreachable!() };
        let head =
            head("200 OK", &["content-type: application/json", "transfer-encoding: chunked"]);
        vec![head, Act::Trickle(piece, Duration::ZERO)]
    })
    .await;
    assert_eq!(ask(&target(&upstream.url(), ""), false).await.0, Err(Failure::TooLarge));
    // What is a failure already is read as far as words go, whatever follows.
    let upstream = Upstream::start(|_| {
        let Act::Write(piece) = chunk(&"no ".repeat(20_000)) else { unreachable!() };
        vec![head("500 Oops", &["transfer-encoding: chunked"]), Act::Trickle(piece, Duration::ZERO)]
    })
    .await;
    assert_eq!(ask(&target(&upstream.url(), ""), true).await.0, Err(Failure::Http5xx));
}

// ---- Dialects -----------------------------------------------------------------------------------

/// The head and the body of the one request that this target sends.
async fn sent(path: &str, keys: &str) -> (String, String) {
    let heard = Arc::new(Mutex::new(String::new()));
    let request = Arc::clone(&heard);
    let upstream = Upstream::reading(move |_, head| {
        head.clone_into(&mut request.lock().unwrap());
        good()
    })
    .await;
    let target = target(&format!("http://{}{path}", upstream.address), keys);
    assert_eq!(ask(&target, true).await.0, Ok(()));
    let parameters = llmload::plan::RequestParameters {
        max_tokens: 8.try_into().unwrap(),
        temperature: None,
        system: None,
        stream: true,
        extra: std::collections::BTreeMap::new(),
    };
    let body = target.0.dialect.encode("m", &parameters, &"hi".into());
    let head = heard.lock().unwrap().clone();
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn azure_is_asked_by_deployment_version_and_its_own_header() {
    let keys = ", query: {api-version: '2024-10-21'}, api_key_env: KEY, auth: api-key, max_tokens_field: max_completion_tokens";
    let (head, body) = sent("/openai/deployments/gpt", keys).await;
    assert!(
        head.starts_with(
            "POST /openai/deployments/gpt/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"
        ),
        "{head}"
    );
    assert!(
        head.contains("\r\napi-key: sk-0123456789") && !head.contains("authorization"),
        "{head}"
    );
    assert!(
        body.contains("\"max_completion_tokens\":8") && !body.contains("max_tokens\""),
        "{body}"
    );
}

#[tokio::test]
async fn completions_are_a_path_a_prompt_and_texts() {
    let (head, body) =
        sent("/v1", ", api: completions, stream_options: none, extra_body: {echo: false}").await;
    assert!(head.starts_with("POST /v1/completions HTTP/1.1\r\n"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!(
        {"model": "m", "prompt": "hi", "max_tokens": 8, "stream": true, "echo": false}
    );
    assert_eq!(body, expected);
    let text = |text: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"finish_reason\":null}}]}}\n\n"
        )
    };
    let finish = FINISH.replace("\"delta\":{}", "\"text\":\"\"");
    let acts = vec![
        stream_head(),
        chunk(&text("a")),
        chunk(&text("b")),
        chunk(&finish),
        chunk(USAGE),
        chunk(DONE),
        last_chunk(),
    ];
    let upstream = Upstream::start(move |_| acts.clone()).await;
    assert_eq!(ask(&target(&upstream.url(), ", api: completions"), true).await.0, Ok(()));
    let whole = r#"{"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]}"#;
    let upstream = Upstream::start(move |_| plain("200 OK", "application/json", whole)).await;
    assert_eq!(ask(&target(&upstream.url(), ", api: completions"), false).await.0, Ok(()));
}

// ---- Correlation --------------------------------------------------------------------------------

#[tokio::test]
async fn a_request_names_itself_and_its_failure_tells_both_names() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&heard);
    let upstream = Upstream::reading(move |_, request| {
        heads.lock().unwrap().push(request.to_ascii_lowercase());
        let mut acts = plain("500 Internal Server Error", "text/plain", "oops");
        let length = "content-length: 4";
        acts[0] = head("500 Internal Server Error", &["X-Request-Id: req-sk-0123456789-7", length]);
        acts
    })
    .await;
    let (outcome, told) = ask(&target(&upstream.url(), ", api_key_env: KEY"), true).await;
    assert_eq!(outcome, Err(Failure::Http5xx));
    let (_, names) = told.failed.lock().unwrap().clone().unwrap();
    assert_eq!(names.trace, Some(Trace::new(1, 2, 3)));
    assert_eq!(names.request_id.unwrap(), "req-[redacted]-7", "servers may quote the key anywhere");
    let line = format!("traceparent: {}", Trace::new(1, 2, 3));
    assert!(heard.lock().unwrap()[0].contains(&line), "{heard:?}");
    let (_, told) = ask(&target(&upstream.url(), ", traceparent: false"), true).await;
    assert!(!heard.lock().unwrap()[1].contains("traceparent"), "{heard:?}");
    assert_eq!(told.failed.lock().unwrap().clone().unwrap().1.trace, None);
}

#[tokio::test]
async fn what_an_endpoint_says_of_its_limits_is_told_and_nothing_is_made_up() {
    let upstream = Upstream::start(|k| {
        let lines = ["content-length: 0", "retry-after: 2", "x-ratelimit-remaining-tokens: 7"];
        vec![head("429 Too Many Requests", if k == 0 { &lines } else { &lines[..1] })]
    })
    .await;
    let target = target(&upstream.url(), "");
    let (outcome, told) = ask(&target, true).await;
    assert_eq!(outcome, Err(Failure::RateLimited));
    let limits = told.limits.lock().unwrap()[0];
    assert_eq!(
        (limits.retry_after, limits.tokens.remaining),
        (Some(Duration::from_secs(2)), Some(7.0))
    );
    assert_eq!((limits.tokens.limit, limits.requests.limit), (None, None));
    assert!(ask(&target, true).await.1.limits.lock().unwrap().is_empty());
    let answer =
        target.1.send(Request { path: "chat/completions", ..Request::default() }).await.unwrap();
    assert_eq!((answer.rate_limits(), answer.request_id()), (None, None));
}

/// The daemon as a whole: gauges, the version, and the names in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_shows_limits_version_connections_and_names() {
    let upstream = Upstream::reading(|_, request| {
        let path = request.split(' ').nth(1).unwrap();
        match path {
            "/version" => plain("200 OK", "application/json", r#"{"version":"0.11.0"}"#),
            "/v1/models" => plain("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#),
            _ => vec![head(
                "429 Too Many Requests",
                &[
                    "content-length: 0",
                    "retry-after: 3",
                    "x-ratelimit-limit-requests: 60",
                    "x-request-id: req-7",
                ],
            )],
        }
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}\nscenarios: {{s: {{target: t, rate: 50/s}}}}\n",
        upstream.url()
    );
    let mut daemon = Daemon::start(&yaml);
    let text = tokio::task::spawn_blocking(move || {
        let version = "llmload_target_info{target=\"t\",version=\"0.11.0\"} 1";
        let text = daemon.wait_for("/metrics", |text| {
            let there =
                text.contains(version) && sample(text, "llmload_retry_after_seconds", &[]) > 0.0;
            there.then(|| text.to_owned())
        });
        let log = daemon.log.lock().unwrap().clone();
        assert!(log.contains("request_id=\"req-7\"") || log.contains("request_id=req-7"), "{log}");
        assert!(log.contains("trace_id="), "{log}");
        text
    })
    .await
    .unwrap();
    assert_eq!(text.matches("llmload_target_info{").count(), 1, "the one before is gone: {text}");
    assert_eq!(sample(&text, "llmload_retry_after_seconds", &["target=\"t\""]), 3.0);
    assert_eq!(sample(&text, "llmload_rate_limit_requests_limit", &["scenario=\"s\""]), 60.0);
    assert!(!text.contains("llmload_rate_limit_requests_remaining{"), "nobody told");
    assert!(text.contains("llmload_connect_duration_seconds_count{"), "{text}");
}
