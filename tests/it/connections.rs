//! Tests of connections to targets over real sockets: certificates, HTTP/2, proxies, idle
//! connections, and the headers of requests and responses.

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
use llmload::measurement::{Failure, FailureCause, TlsFault};
use llmload::plan::{Location, Target};
use llmload::protocol::Trace;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::binary::{Daemon, sample};
use crate::upstream::{
    Act, DONE, FINISH, USAGE, Upstream, arrival_now, chunk, good, head, last_chunk, plain,
    stream_head, token,
};

// ---- One request and its events -----------------------------------------------------------------

/// Returns a target with these configuration keys, and the client of this target.
pub fn target(url: &str, keys: &str) -> (Arc<Target>, HttpEndpoint) {
    target_in(std::path::Path::new("."), url, keys)
}

fn target_in(folder: &std::path::Path, url: &str, keys: &str) -> (Arc<Target>, HttpEndpoint) {
    let (target, base) = parse_target(folder, url, keys);
    let endpoint = HttpEndpoint::new(&target, &base).unwrap();
    (target, endpoint)
}

/// As [`target`], with this time for pings.
pub fn target_with_ping(url: &str, keys: &str, ping: Duration) -> (Arc<Target>, HttpEndpoint) {
    let (target, base) = parse_target(std::path::Path::new("."), url, keys);
    let endpoint = HttpEndpoint::with_ping(&target, &base, ping).unwrap();
    (target, endpoint)
}

fn parse_target(folder: &std::path::Path, url: &str, keys: &str) -> (Arc<Target>, url::Url) {
    let yaml = format!("target: {{base_url: '{url}', model: m{keys}}}\nrate: 1/s\n");
    let key = |name: &str| (name == "KEY").then(|| "sk-0123456789".into());
    let plan = config::parse(&yaml, "llmload.yml", Some(folder), &key).unwrap();
    let target = Arc::clone(&plan.scenarios[0].target);
    let Location::Url(base) = target.location.clone() else { unreachable!() };
    (target, base)
}

/// Records the events of one request.
#[derive(Debug, Default)]
pub struct Observed {
    pub connected: Mutex<Vec<(bool, Duration)>>,
    limits: Mutex<Vec<llmload::protocol::RateLimits>>,
    pub failed: Mutex<Option<(String, llmload::event::RequestIds)>>,
    cause: Mutex<Option<FailureCause>>,
    pub retries: AtomicU64,
}

impl Observe for Observed {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Connected { dns, connect } => {
                self.connected.lock().unwrap().push((dns.is_some(), connect));
            }
            Event::ConnectionRetried => _ = self.retries.fetch_add(1, Ordering::Relaxed),
            Event::RateLimits(limits) => self.limits.lock().unwrap().push(*limits),
            Event::Failed { detail, ids, .. } => {
                *self.failed.lock().unwrap() = Some((detail.message.clone(), ids.clone()));
                *self.cause.lock().unwrap() = detail.cause;
            }
            _ => {}
        }
    }
}

pub async fn request(
    (target, endpoint): &(Arc<Target>, HttpEndpoint),
    stream: bool,
) -> (Result<(), Failure>, Observed) {
    let spec = crate::faults::request_spec(target, stream);
    let observed = Observed::default();
    let finished = exchange(endpoint, arrival_now(), || Ok(spec), &observed).await;
    let outcome = finished.outcome.map(|_| ());
    finished.drain_body().await;
    (outcome, observed)
}

// ---- A hyper server with or without TLS ---------------------------------------------------------

const COMPLETION: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

/// A server that responds with [`COMPLETION`] and records the HTTP version of each request.
struct Server {
    address: SocketAddr,
    versions: Arc<Mutex<Vec<Version>>>,
}

impl Server {
    async fn start(tls: Option<rustls::ServerConfig>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let versions = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&versions);
        let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let service = service_fn(move |request: HttpRequest<_>| {
                        let _: &HttpRequest<hyper::body::Incoming> = &request;
                        seen.lock().unwrap().push(request.version());
                        async {
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                                COMPLETION.as_bytes(),
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
                            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            let stream = TokioIo::new(stream);
                            if is_http2 {
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
        Server { address, versions }
    }

    fn versions(&self) -> Vec<Version> {
        self.versions.lock().unwrap().clone()
    }
}

/// A certificate authority for one test, with a folder for its files.
pub struct Authority {
    pub folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed if it has the same name as its authority.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    /// The name is a DNS name or an IP address.
    pub fn signed(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a client certificate to `cert.pem`, and its key to `key.pem`.
    fn client(&self) {
        let (certificate, key) = self.signed("client", ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(self.folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    }

    /// Returns the configuration of a server on `127.0.0.1`. If `clients` is true, the server
    /// requires a client certificate.
    fn server(&self, alpn: &[&str], clients: bool) -> rustls::ServerConfig {
        let (certificate, key) = self.signed("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let clients = clients.then(|| self.issuer.der().clone());
        server_config(certificate.der().clone(), &key, alpn, clients)
    }
}

/// The configuration of a server with this certificate. With `clients`, it requires a certificate
/// that this authority has signed.
fn server_config(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    alpn: &[&str],
    clients: Option<CertificateDer<'static>>,
) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if let Some(authority) = clients {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A certificate that is its own authority, as `openssl req -x509` creates it.
pub fn own_authority(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

// ---- Certificates -------------------------------------------------------------------------------

#[tokio::test]
async fn only_the_configured_authority_is_trusted() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let server = Server::start(Some(ours.server(&[], false))).await;
    let url = format!("https://{}/v1", server.address);
    let trusting = target_in(ours.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(request(&trusting, false).await.0, Ok(()));
    let distrusting = target_in(stranger.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(request(&distrusting, false).await.0, Err(Failure::Tls));
    let unverified = target(&url, ", tls: {insecure_skip_verify: true}");
    assert_eq!(request(&unverified, false).await.0, Ok(()));
    assert_eq!(server.versions(), [Version::HTTP_11; 2]);
}

#[tokio::test]
async fn a_listed_certificate_is_trusted_even_if_it_is_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let unchanged = |_: &mut CertificateParams| {};
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let listed = own_authority("127.0.0.1", unchanged);
    let other = own_authority("127.0.0.1", unchanged);
    let stranger = own_authority("example.com", unchanged);
    let (expired, early) = (own_authority("127.0.0.1", expired), own_authority("127.0.0.1", early));
    let cases = [
        (&listed, &listed, None),
        // The same name, but another key.
        (&listed, &other, Some(TlsFault::UnlistedAuthority)),
        (&stranger, &other, Some(TlsFault::UnlistedAuthority)),
        (&stranger, &stranger, Some(TlsFault::WrongName)),
        (&expired, &expired, Some(TlsFault::Expired)),
        (&early, &early, Some(TlsFault::NotYetValid)),
    ];
    for ((server, trusted, fault), http2) in
        cases.into_iter().flat_map(|case| [(case, false), (case, true)])
    {
        let config = server_config(server.0.der().clone(), &server.1, &["h2", "http/1.1"], None);
        let started = Server::start(Some(config)).await;
        std::fs::write(folder.path().join("ca.pem"), trusted.0.pem()).unwrap();
        let keys = format!(", http2: {http2}, tls: {{ca_file: ca.pem}}");
        let url = format!("https://{}/v1", started.address);
        let client = target_in(folder.path(), &url, &keys);
        let (outcome, observed) = request(&client, false).await;
        assert_eq!(outcome, fault.map_or(Ok(()), |_| Err(Failure::Tls)));
        let cause = observed.cause.lock().unwrap().take();
        assert_eq!(cause, fault.map(FailureCause::Tls));
        let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let used = if fault.is_none() { vec![version] } else { Vec::new() };
        assert_eq!(started.versions(), used);
    }
}

#[tokio::test]
async fn a_configured_client_certificate_is_presented() {
    let authority = Authority::new();
    authority.client();
    let server = Server::start(Some(authority.server(&[], true))).await;
    let url = format!("https://{}/v1", server.address);
    let keys = ", tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}";
    assert_eq!(request(&target_in(authority.folder.path(), &url, keys), false).await.0, Ok(()));
    let anonymous = target_in(authority.folder.path(), &url, ", tls: {ca_file: ca.pem}");
    assert_eq!(request(&anonymous, false).await.0, Err(Failure::Tls));
}

// ---- HTTP/2 -------------------------------------------------------------------------------------

#[tokio::test]
async fn configured_http_2_is_used_over_tls_only_if_the_server_offers_it() {
    let plain = Server::start(None).await;
    let url = format!("http://{}/v1", plain.address);
    let target = target(&url, ", http2: true");
    assert_eq!(request(&target, false).await.0, Ok(()));
    let (second, observed) = request(&target, false).await;
    assert_eq!(second, Ok(()));
    assert_eq!(
        observed.connected.lock().unwrap().len(),
        0,
        "the second request uses the same connection"
    );
    assert_eq!(plain.versions(), [Version::HTTP_2; 2]);

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
        assert_eq!(request(&target, false).await.0, Ok(()), "{offered:?} {keys}");
        assert_eq!(server.versions(), [version], "{offered:?} {keys}");
    }
}

/// Returns an HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns the head of a stream of events on the first stream of an HTTP/2 connection.
pub fn http2_head() -> Vec<u8> {
    // 0x88 is `:status: 200` in the static table of HPACK. 0x5f is the name `content-type`, and its
    // value follows.
    let kind = b"text/event-stream";
    let fields = [&[0x88, 0x5f, u8::try_from(kind.len()).unwrap()], &kind[..]].concat();
    frame(1, 4, 1, &fields)
}

/// Starts a server that sends these bytes after the first request of its k-th connection. Then it
/// closes its side of the connection. Returns its URL.
async fn start_http2(bytes: impl Fn(usize) -> Vec<u8> + Send + 'static) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for k in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            // The start of the key `max_tokens`, which is in the body, shows that the request has
            // arrived.
            let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
            while !received.windows(4).any(|four| four == b"\"max") {
                let n = stream.read(&mut buffer).await.unwrap();
                received.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(&bytes(k)).await.unwrap();
            stream.shutdown().await.unwrap();
            tokio::spawn(
                async move { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} },
            );
        }
    });
    url
}

/// A server that refuses a stream, or that is about to close the connection, has not processed the
/// request.
#[tokio::test]
async fn a_request_that_an_http_2_server_has_not_processed_is_sent_once_more() {
    for (name, refusal) in [
        ("refused", frame(3, 0, 1, &[0, 0, 0, 7])),
        // The last processed stream is 0, and the error code is NO_ERROR.
        ("goodbye", frame(7, 0, 0, &[0; 8])),
    ] {
        for refused in [1, 2] {
            let refusal = refusal.clone();
            let url = start_http2(move |k| {
                let events: Vec<_> = [&token("a"), FINISH, USAGE, DONE]
                    .iter()
                    .map(|event| frame(0, 0, 1, event.as_bytes()))
                    .collect();
                let end = frame(0, 1, 1, &[]);
                if k < refused {
                    refusal.clone()
                } else {
                    [http2_head(), events.concat(), end].concat()
                }
            })
            .await;
            let (outcome, observed) = request(&target(&url, ", http2: true"), true).await;
            let expected = if refused == 1 { Ok(()) } else { Err(Failure::Reset) };
            assert_eq!(outcome, expected, "{name}: {:?}", observed.failed.lock().unwrap());
            assert_eq!(observed.retries.load(Ordering::Relaxed), 1, "{name}");
        }
    }
}

/// The server sends handmade frames: the settings, a response head, the start of the body, and then
/// the frames of one case.
#[tokio::test]
async fn an_http_2_response_that_ends_too_early_has_the_right_failure_class() {
    let response_head = http2_head();
    let body = frame(0, 0, 1, token("a").as_bytes());
    let reset = |code: u8| frame(3, 0, 1, &[0, 0, 0, code]);
    let goodbye = |code: u8| frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, code]);
    for (name, frames, class) in [
        ("the stream is cancelled", vec![&response_head, &body, &reset(2)], Failure::Truncated),
        ("the connection is cut", vec![&response_head, &body], Failure::Truncated),
        (
            "the server reports a protocol error",
            vec![&response_head, &body, &goodbye(1)],
            Failure::HttpProtocol,
        ),
        (
            "the server makes a protocol error",
            vec![&response_head, &body, &frame(0, 0, 0, b"x")],
            Failure::HttpProtocol,
        ),
        ("refused before the head", vec![&reset(7)], Failure::Reset),
    ] {
        let bytes: Vec<u8> = frames.into_iter().flatten().copied().collect();
        let url = start_http2(move |_| bytes.clone()).await;
        let (outcome, observed) = request(&target(&url, ", http2: true"), true).await;
        assert_eq!(outcome, Err(class), "{name}: {:?}", observed.failed.lock().unwrap());
    }
}

// ---- Names, connections, proxies ----------------------------------------------------------------

#[tokio::test]
async fn each_connection_reports_its_connect_and_lookup_times_once() {
    let upstream = Upstream::start(|_| good()).await;
    let named = target(&format!("http://localhost:{}/v1", upstream.address.port()), "");
    let (outcome, observed) = request(&named, true).await;
    assert_eq!(outcome, Ok(()));
    assert!(matches!(observed.connected.lock().unwrap()[..], [(true, _)]), "{observed:?}");
    let (_, observed) = request(&named, true).await;
    assert!(observed.connected.lock().unwrap().is_empty(), "the connection is reused");
    let (_, observed) = request(&target(&upstream.url(), ""), true).await;
    assert!(matches!(observed.connected.lock().unwrap()[..], [(false, _)]), "{observed:?}");
}

/// Common servers close a connection after five idle seconds. If llmload reused connections after
/// this time and a request were due every six seconds, each request would fail. The sockets are
/// real. Only the clock is advanced.
#[tokio::test]
async fn a_connection_is_not_reused_after_the_idle_timeout_of_common_servers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(|_: HttpRequest<hyper::body::Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                    COMPLETION.as_bytes(),
                ))))
            });
            let served = hyper::server::conn::http1::Builder::new();
            tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
        }
    });
    for (keys, waits) in [
        ("", &[(0, 1), (3, 1), (6, 2), (6, 3), (3, 3)][..]),
        (", keep_alive: 10s", &[(0, 1), (6, 1), (11, 2)]),
        (", keep_alive: 1s", &[(0, 1), (3, 2)]),
        (", keep_alive: off", &[(0, 1), (0, 2)]),
    ] {
        let target = target(&url, keys);
        connections.store(0, Ordering::Relaxed);
        for &(idle, expected) in waits {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(idle)).await;
            tokio::time::resume();
            assert_eq!(request(&target, false).await.0, Ok(()));
            let opened = connections.load(Ordering::Relaxed);
            assert_eq!(opened, expected, "`{keys}` after {idle} s");
        }
    }
}

/// This server is the worst case. It never closes an idle connection, but resets it if a request
/// arrives after five idle seconds. llmload sees the same if the server closes the connection just
/// when the request is sent.
#[tokio::test]
async fn no_request_fails_on_a_server_that_closes_idle_connections() {
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
                let answer = Response::new(Full::new(Bytes::from_static(COMPLETION.as_bytes())));
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
    // The test sends twenty requests six seconds apart, and then requests after gaps from 3 s to
    // 6 s. llmload closes idle connections after 4 s, the server resets them after 5 s.
    let waits = [6000; 20].into_iter().chain((3000..6000).step_by(250));
    for millis in waits {
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(millis)).await;
        tokio::time::resume();
        assert_eq!(request(&target, false).await.0, Ok(()), "after {millis} ms");
    }
    assert_eq!(resets.load(Ordering::Relaxed), 0);
    assert!(
        reused.load(Ordering::Relaxed) > 0,
        "a connection that idled for three seconds is reused"
    );
}

#[tokio::test]
async fn a_proxy_is_used_only_if_it_is_configured() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let proxy = Upstream::start_with_head(move |_, request| {
        heads.lock().unwrap().push(request.lines().next().unwrap().to_owned());
        good()
    })
    .await;
    let keys = format!(", proxy: 'http://{}'", proxy.address);
    let through = target("http://no-such-host.invalid/v1", &keys);
    assert_eq!(request(&through, true).await.0, Ok(()));
    assert_eq!(
        *seen.lock().unwrap(),
        ["POST http://no-such-host.invalid/v1/chat/completions HTTP/1.1"]
    );
    // A proxy that refuses the connection is not a failure of the target.
    let closed = Upstream::start(|_| plain("403 Forbidden", "text/plain", "no")).await;
    let keys = format!(", proxy: 'http://{}', tls: {{insecure_skip_verify: true}}", closed.address);
    let barred = target("https://no-such-host.invalid/v1", &keys);
    assert_eq!(request(&barred, true).await.0, Err(Failure::ConnectOther));
}

/// The header of basic auth for the user `me@here` and the password `p/ss:wörd`, from
/// `printf 'me@here:p/ss:wörd' | base64`.
const BASIC: &str = "Basic bWVAaGVyZTpwL3NzOnfDtnJk";
const USER_INFO: &str = "me%40here:p%2Fss:w%C3%B6rd";

#[tokio::test]
async fn the_user_of_the_url_is_sent_as_basic_auth_to_the_target_only() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let upstream = Upstream::start_with_head(move |_, request| {
        heads.lock().unwrap().push(request.to_owned());
        good()
    })
    .await;
    let direct = target(&format!("http://{USER_INFO}@{}/v1", upstream.address), "");
    assert_eq!(request(&direct, true).await.0, Ok(()));
    assert_eq!(direct.1.models(Duration::from_mins(1)).await.unwrap().0, 200);
    // `seen` is also the head of the list of models.
    for head in std::mem::take(&mut *seen.lock().unwrap()) {
        assert!(head.contains(&format!("\r\nauthorization: {BASIC}")), "{head}");
        assert!(!head.contains("%40") && !head.contains("proxy-authorization"), "{head}");
    }

    // The upstream is the proxy now.
    let keys = format!(", proxy: 'http://{USER_INFO}@{}'", upstream.address);
    let proxied = target("http://no-such-host.invalid/v1", &keys);
    assert_eq!(request(&proxied, true).await.0, Ok(()));
    let head = seen.lock().unwrap().pop().unwrap();
    assert!(head.contains(&format!("\r\nproxy-authorization: {BASIC}")), "{head}");
    assert!(!head.contains("\r\nauthorization:"), "{head}");
}

/// For an https target, the proxy sees only the request for a tunnel, and the target sees only the
/// request in the tunnel.
#[tokio::test]
async fn the_user_of_the_proxy_is_sent_to_the_proxy_and_not_through_the_tunnel() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let authority = Authority::new();
    let (mut tls, heads) = (authority.server(&[], false), Arc::new(Mutex::new(Vec::new())));
    tls.alpn_protocols.clear();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        let head_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        seen.lock().unwrap().push(head_of(&buffer[..length]));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // The proxy is also the target at the end of the tunnel.
        let mut stream = acceptor.accept(stream).await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        seen.lock().unwrap().push(head_of(&buffer[..length]));
        let length = COMPLETION.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{COMPLETION}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ended = stream.read(&mut buffer).await;
    });
    let keys = format!(", proxy: 'http://{USER_INFO}@{proxy}', tls: {{ca_file: ca.pem}}");
    let url = "https://user:other@127.0.0.1:1/v1";
    let tunnelled = target_in(authority.folder.path(), url, &keys);
    assert_eq!(request(&tunnelled, false).await.0, Ok(()));
    let heads = heads.lock().unwrap();
    let [tunnel, inner] = &heads[..] else { panic!("{heads:?}") };
    let tunnel = tunnel.to_ascii_lowercase();
    let basic = BASIC.to_ascii_lowercase();
    assert!(tunnel.starts_with("connect 127.0.0.1:1 http/1.1\r\n"), "{tunnel}");
    assert!(tunnel.contains(&format!("proxy-authorization: {basic}")), "{tunnel}");
    assert!(!tunnel.contains("\r\nauthorization:"), "{tunnel}");
    assert!(inner.contains("authorization: Basic dXNlcjpvdGhlcg=="), "{inner}");
    assert!(!inner.contains("proxy-authorization"), "{inner}");
}

// ---- Limits -------------------------------------------------------------------------------------

#[tokio::test]
async fn an_endless_head_or_body_is_read_only_up_to_a_limit() {
    let header = format!("x-more: {}\r\n", "x".repeat(1000)).into_bytes();
    let head_without_end = || {
        vec![
            Act::Write(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Act::Trickle(header.clone(), Duration::ZERO),
        ]
    };
    let line = head_without_end();
    let upstream = Upstream::start(move |_| line.clone()).await;
    assert_eq!(request(&target(&upstream.url(), ""), true).await.0, Err(Failure::TooLarge));

    let upstream = Upstream::start(|_| {
        let Act::Write(piece) = chunk(&" ".repeat(64 * 1024)) else { unreachable!() };
        let head =
            head("200 OK", &["content-type: application/json", "transfer-encoding: chunked"]);
        vec![head, Act::Trickle(piece, Duration::ZERO)]
    })
    .await;
    assert_eq!(request(&target(&upstream.url(), ""), false).await.0, Err(Failure::TooLarge));
    // llmload reads only the start of the body of a failed response.
    let upstream = Upstream::start(|_| {
        let Act::Write(piece) = chunk(&"no ".repeat(20_000)) else { unreachable!() };
        vec![head("500 Oops", &["transfer-encoding: chunked"]), Act::Trickle(piece, Duration::ZERO)]
    })
    .await;
    assert_eq!(request(&target(&upstream.url(), ""), true).await.0, Err(Failure::Http5xx));
}

// ---- APIs and headers ---------------------------------------------------------------------------

/// Sends one request to a target with these keys. Returns the head and the body of the request.
async fn sent(path: &str, keys: &str) -> (String, String) {
    let received = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&received);
    let upstream = Upstream::start_with_head(move |_, head| {
        head.clone_into(&mut copy.lock().unwrap());
        good()
    })
    .await;
    let target = target(&format!("http://{}{path}", upstream.address), keys);
    assert_eq!(request(&target, true).await.0, Ok(()));
    let parameters = llmload::plan::RequestParameters {
        max_tokens: 8.try_into().unwrap(),
        temperature: None,
        system: None,
        stream: true,
        extra: std::collections::BTreeMap::new(),
    };
    let body = target.0.dialect.encode("m", &parameters, &"hi".into());
    let head = received.lock().unwrap().clone();
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn azure_gets_deployment_and_version_in_the_url_and_the_key_in_a_header() {
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
async fn the_completions_api_has_its_own_path_prompt_field_and_text_field() {
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
    assert_eq!(request(&target(&upstream.url(), ", api: completions"), true).await.0, Ok(()));
    let completion = r#"{"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]}"#;
    let upstream = Upstream::start(move |_| plain("200 OK", "application/json", completion)).await;
    assert_eq!(request(&target(&upstream.url(), ", api: completions"), false).await.0, Ok(()));
}

#[tokio::test]
async fn the_messages_api_has_its_own_path_version_and_key_header() {
    let events = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let received = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&received);
    let upstream = Upstream::start_with_head(move |_, head| {
        head.clone_into(&mut copy.lock().unwrap());
        vec![stream_head(), chunk(events), last_chunk()]
    })
    .await;
    let url = upstream.url();
    let head_of = async |keys: &str| {
        let target = target(&url, &format!(", api: messages{keys}"));
        assert_eq!(request(&target, true).await.0, Ok(()), "{keys}");
        received.lock().unwrap().to_ascii_lowercase()
    };
    let head = head_of(", api_key_env: KEY").await;
    assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nanthropic-version: 2023-06-01\r\n"), "{head}");
    assert!(head.contains("\r\nx-api-key: sk-0123456789"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let keys = ", api_key_env: KEY, auth: bearer, headers: {Anthropic-Version: '2030-01-01'}";
    let head = head_of(keys).await;
    assert!(head.contains("\r\nanthropic-version: 2030-01-01\r\n"), "{head}");
    assert!(!head.contains("2023-06-01") && !head.contains("x-api-key"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer sk-0123456789"), "{head}");
}

// ---- Ids, rate limits and versions --------------------------------------------------------------

#[tokio::test]
async fn a_failure_is_reported_with_the_trace_id_and_the_request_id() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&received);
    let upstream = Upstream::start_with_head(move |_, request| {
        heads.lock().unwrap().push(request.to_ascii_lowercase());
        let mut acts = plain("500 Internal Server Error", "text/plain", "oops");
        let length = "content-length: 4";
        acts[0] = head("500 Internal Server Error", &["X-Request-Id: req-sk-0123456789-7", length]);
        acts
    })
    .await;
    let (outcome, observed) = request(&target(&upstream.url(), ", api_key_env: KEY"), true).await;
    assert_eq!(outcome, Err(Failure::Http5xx));
    let (_, names) = observed.failed.lock().unwrap().clone().unwrap();
    assert_eq!(names.trace, Some(Trace::new(1, 2, 3)));
    assert_eq!(names.request_id.unwrap(), "req-[redacted]-7", "the key is masked in a header too");
    let line = format!("traceparent: {}", Trace::new(1, 2, 3));
    assert!(received.lock().unwrap()[0].contains(&line), "{received:?}");
    let (_, observed) = request(&target(&upstream.url(), ", traceparent: false"), true).await;
    assert!(!received.lock().unwrap()[1].contains("traceparent"), "{received:?}");
    assert_eq!(observed.failed.lock().unwrap().clone().unwrap().1.trace, None);
}

#[tokio::test]
async fn only_the_rate_limits_that_an_endpoint_sends_are_reported() {
    let upstream = Upstream::start(|k| {
        let lines = ["content-length: 0", "retry-after: 2", "x-ratelimit-remaining-tokens: 7"];
        vec![head("429 Too Many Requests", if k == 0 { &lines } else { &lines[..1] })]
    })
    .await;
    let target = target(&upstream.url(), "");
    let (outcome, observed) = request(&target, true).await;
    assert_eq!(outcome, Err(Failure::RateLimited));
    let limits = observed.limits.lock().unwrap()[0];
    assert_eq!(
        (limits.retry_after, limits.tokens.remaining),
        (Some(Duration::from_secs(2)), Some(7.0))
    );
    assert_eq!((limits.tokens.limit, limits.requests.limit), (None, None));
    assert!(request(&target, true).await.1.limits.lock().unwrap().is_empty());
    let response = target
        .1
        .send(Request { path: "chat/completions", ..Request::default() }, |_| ())
        .await
        .unwrap();
    assert_eq!((response.rate_limits(), response.request_id()), (None, None));
}

/// Runs the complete daemon and checks the gauges, the version of the server, and the ids in the
/// log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_shows_limits_version_connections_and_request_ids() {
    let upstream = Upstream::start_with_head(|_, request| {
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
            let complete =
                text.contains(version) && sample(text, "llmload_retry_after_seconds", &[]) > 0.0;
            complete.then(|| text.to_owned())
        });
        let log = daemon.log.lock().unwrap().clone();
        assert!(log.contains("request_id=\"req-7\"") || log.contains("request_id=req-7"), "{log}");
        assert!(log.contains("trace_id="), "{log}");
        text
    })
    .await
    .unwrap();
    assert_eq!(
        text.matches("llmload_target_info{").count(),
        1,
        "the previous version is removed: {text}"
    );
    assert_eq!(sample(&text, "llmload_retry_after_seconds", &["target=\"t\""]), 3.0);
    assert_eq!(sample(&text, "llmload_rate_limit_requests_limit", &["scenario=\"s\""]), 60.0);
    assert!(
        !text.contains("llmload_rate_limit_requests_remaining{"),
        "no limit is shown that the server does not report"
    );
    assert!(text.contains("llmload_connect_duration_seconds_count{"), "{text}");
}
