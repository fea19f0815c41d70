//! The web configuration file: TLS, client certificates, users and rate limits, with curl, Chromium
//! and a real Prometheus. And the unix socket of the web server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, llmload, pause, sample};
use crate::browser::chromium;
use crate::connections::Authority;
use crate::prometheus::Prometheus;

const IDLE: &str = "
targets: {sim: {simulator: {}, model: simulated-8b}}
scenarios: {idle: {target: sim, schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]}}
";
/// The example of the documentation, in the version that the Prometheus of the tests contains, and
/// in the newest version.
const EXAMPLES: [&str; 2] = [
    include_str!("../fixtures/web-config/exporter-toolkit-0.8.yml"),
    include_str!("../fixtures/web-config/exporter-toolkit-master.yml"),
];
/// The hashes are fast to verify. The password of `ann` is `correct horse`.
const ANN: &str = "ann: $2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";

/// A daemon with a web configuration file, and the authority of its certificates. Its address is
/// `127.0.0.1`.
struct Site {
    daemon: Daemon,
    authority: Authority,
}

impl Site {
    /// The folder of the daemon contains `server.crt`, `server.key` and the authority `ca.pem`.
    fn start(web_file: &str) -> Site {
        Site::start_with(web_file, &[])
    }

    fn start_with(web_file: &str, more: &[&str]) -> Site {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("llmload.yml"), IDLE).unwrap();
        std::fs::write(folder.path().join("web.yml"), web_file).unwrap();
        std::fs::copy(authority.folder.path().join("ca.pem"), folder.path().join("ca.pem"))
            .unwrap();
        write_server_certificate(&authority, folder.path());
        let file = folder.path().join("web.yml");
        let command = Command::new(env!("CARGO_BIN_EXE_llmload"));
        let arguments = [&["--web.config.file", file.to_str().unwrap()], more].concat();
        let daemon = Daemon::of(command, &arguments, folder);
        Site { daemon, authority }
    }

    fn path(&self, name: &str) -> String {
        self.daemon.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.daemon.address)
    }

    /// Requests a page with curl, which trusts only the authority.
    fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let ca = self.authority.folder.path().join("ca.pem");
        curl(&self.url(path), &[&["--cacert", ca.to_str().unwrap()], arguments].concat())
    }

    /// Replaces the file at once, so that the daemon never reads a part of it.
    fn write_web_file(&self, text: &str) {
        let new = self.path("web.yml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path("web.yml")).unwrap();
    }

    /// Replaces the file by one that the daemon rejects once, for this reason.
    fn write_rejected_web_file(&self, text: &str, reason: &str) {
        let count = |site: &Site| site.daemon.log.lock().unwrap().matches(reason).count();
        let before = count(self);
        self.write_web_file(text);
        let begun = Instant::now();
        while count(self) == before {
            let log = self.daemon.log.lock().unwrap();
            assert!(begun.elapsed() < TEST_TIMEOUT, "{text} was not rejected:\n{log}");
            drop(log);
            pause();
        }
        assert_eq!(count(self), before + 1, "{text}");
    }

    /// Repeats a request until it has this status.
    fn wait_for_status(&self, wanted: u16, arguments: &[&str]) {
        let begun = Instant::now();
        while self.curl("/-/healthy", arguments).status != wanted {
            let log = self.daemon.log.lock().unwrap();
            assert!(begun.elapsed() < TEST_TIMEOUT, "{arguments:?} never gave {wanted}:\n{log}");
            drop(log);
            pause();
        }
    }
}

fn write_server_certificate(authority: &Authority, folder: &Path) {
    let (certificate, key) = authority.signed("127.0.0.1", ServerAuth);
    std::fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

/// Writes `NAME.crt` and `NAME.key` for a client, and returns the arguments for curl.
fn client_certificate(authority: &Authority, name: &str) -> [String; 4] {
    let (certificate, key) = authority.signed(name, ClientAuth);
    let file = |ending: &str| authority.folder.path().join(format!("{name}.{ending}"));
    std::fs::write(file("crt"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    let path = |ending: &str| file(ending).to_str().unwrap().to_owned();
    ["--cert".to_owned(), path("crt"), "--key".to_owned(), path("key")]
}

struct Answer {
    /// The exit code of curl.
    code: Option<i32>,
    /// 0 if there was no response.
    status: u16,
    /// The version of HTTP.
    version: String,
    head: String,
    body: String,
    error: String,
}

fn curl(url: &str, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "60"])
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl must be installed");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let (response, written) = out.rsplit_once('\n').unwrap();
    let (status, version) = written.split_once(' ').unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    Answer {
        code: output.status.code(),
        status: status.parse().unwrap(),
        version: version.to_owned(),
        head: head.to_lowercase(),
        body: body.to_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

// ---- The example of the documentation -----------------------------------------------------------

#[test]
fn the_example_of_the_documentation_of_prometheus_works_as_it_stands() {
    for example in EXAMPLES {
        let site = Site::start(example);
        let alice = ["--user", "alice:alice123"];
        for path in ["/", "/metrics", "/-/healthy", "/-/ready", "/config", "/nowhere"] {
            let refused = site.curl(path, &[]);
            assert_eq!(refused.status, 401, "{path}: {}", refused.error);
            assert!(refused.head.contains("www-authenticate: basic realm="), "{}", refused.head);
            assert!(!refused.body.contains("llmload_"), "{}", refused.body);
        }
        let page = site.curl("/metrics", &alice);
        assert_eq!(page.status, 200, "{}", page.error);
        assert_eq!(sample(&page.body, "llmload_paused", &[]), 0.0);
        assert_eq!(site.curl("/metrics", &["--user", "bob:bob123"]).status, 200);
        assert_eq!(site.curl("/metrics", &["--user", "alice:bob123"]).status, 401);
        assert_eq!(site.curl("/-/pause", &["--request", "POST"]).status, 401);
        let paused = site.curl("/-/pause", &[&["--request", "POST"], &alice[..]].concat());
        assert_eq!(paused.status, 200, "{}", paused.body);
        let plain = curl(&format!("http://{}/", site.daemon.address), &[]);
        assert_eq!((plain.code, plain.status), (Some(0), 400), "{}", plain.error);
        assert!(plain.body.contains("https"), "{}", plain.body);
        let log = site.daemon.log.lock().unwrap().clone();
        assert!(log.contains("/metrics on https://") && !log.contains("$2y"), "{log}");
        let (code, out, err) = llmload(&["check", "--web.config.file", &site.path("web.yml")]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.ends_with("web.yml: valid\n"), "{out}");
    }
}

/// The Prometheus of the tests is older than `rate_limit`.
#[test]
fn llmload_and_promtool_agree_about_web_configuration_files() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    write_server_certificate(&authority, folder.path());
    std::fs::copy(authority.folder.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    let file = folder.path().join("web.yml");
    let pair = "tls_server_config: {cert_file: server.crt, key_file: server.key";
    let clients = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
    for (is_valid, text) in [
        (true, EXAMPLES[0].to_owned()),
        (true, "{}".to_owned()),
        (true, "# nothing yet\n".to_owned()),
        (true, "basic_auth_users:\ntls_server_config:\n".to_owned()),
        (true, format!("{pair}, {clients}}}")),
        (true, format!("{pair}, min_version: TLS13, curve_preferences: [X25519, CurveP256]}}")),
        (true, format!("{pair}, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}}")),
        (
            true,
            format!(
                "{pair}}}\nhttp_server_config: {{http2: false, headers: {{X-Frame-Options: deny}}}}"
            ),
        ),
        (false, "tls_server_config: {cert_file: server.crt}".to_owned()),
        (false, "tls_server_config: {cert_file: server.crt, key_file: absent.key}".to_owned()),
        (false, "tls_server_config: {cert_file: ca.pem, key_file: server.key}".to_owned()),
        (false, "tls_server_config: {cert_file: empty.pem, key_file: server.key}".to_owned()),
        (false, format!("{pair}, client_ca_file: ca.pem}}")),
        (false, format!("{pair}, client_auth_type: Sometimes}}")),
        (false, format!("{pair}, min_version: TLS14}}")),
        (false, format!("{pair}, cipher_suites: [TLS_INVENTED]}}")),
        (false, format!("{pair}, curve_preferences: [CurveP1]}}")),
        (false, format!("{pair}, certificates: 3}}")),
        (false, "basic_auth_users: {ann: secret}".to_owned()),
        (false, "basic_auth_users:\n  ann:\n".to_owned()),
        (false, format!("basic_auth_users:\n  {ANN}\n  eve: ~\n")),
        (false, "http_server_config: {headers: {X-Frame-Options: never}}".to_owned()),
        (false, "http_server_config: {headers: {X-Other: never}}".to_owned()),
    ] {
        std::fs::write(&file, &text).unwrap();
        let promtool = Command::new("promtool")
            .args(["check", "web-config", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("promtool must be installed");
        assert_eq!(promtool.success(), is_valid, "promtool: {text}");
        let (code, _, err) = llmload(&["check", "--web.config.file", file.to_str().unwrap()]);
        assert_eq!(code, Some(if is_valid { 0 } else { 2 }), "{text}: {err}");
    }
}

#[test]
fn the_status_page_works_in_a_browser_over_tls_with_a_password() {
    let site = Site::start(EXAMPLES[0]);
    let url = site.url("/").replacen("https://", "https://alice:alice123@", 1);
    let arguments = ["--ignore-certificate-errors", "--virtual-time-budget=9000", "--dump-dom"];
    let (page, log) = chromium(&arguments, &url);
    assert!(page.contains("<h2>idle</h2>"), "{page}\n{log}");
    assert!(!log.contains(":CONSOLE"), "{log}");
    let (page, _) = chromium(&arguments, &site.url("/"));
    assert!(!page.contains("<h2>idle</h2>"), "{page}");
}

#[test]
fn no_log_and_no_page_contains_a_password_a_hash_or_a_key() {
    let site = Site::start_with(
        &format!(
            "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n\
             basic_auth_users: {{{ANN}}}\n"
        ),
        // With the lines of the libraries.
        &["--log.level", "trace,llmload=trace"],
    );
    let user = ["--user", "ann:correct horse"];
    let mut texts = String::new();
    for version in ["--http1.1", "--http2"] {
        for (path, user, status) in [
            ("/config", user, 200),
            ("/api/v1/status", user, 200),
            ("/metrics", user, 200),
            ("/metrics", ["--user", "ann:canary-word"], 401),
            ("/metrics", ["--header", "authorization: Basic canary-header"], 401),
        ] {
            let answer = site.curl(path, &[&[version], &user[..]].concat());
            assert_eq!(answer.status, status, "{path} {user:?}: {}", answer.error);
            texts += &answer.body;
        }
    }
    let web_file = site.path("web.yml");
    std::fs::write(&web_file, format!("basic_auth_users: {{{ANN}, eve: canary-hash}}\n")).unwrap();
    let mut site = site;
    site.daemon.wait_for_log("web configuration rejected");
    let log = site.daemon.log.lock().unwrap();
    assert!(log.contains("TRACE"), "{log}");
    let key = std::fs::read_to_string(site.path("server.key")).unwrap();
    texts += &log;
    for secret in [
        "correct horse",
        "YW5uOmNvcnJlY3QgaG9yc2U",
        "canary-",
        "YW5uOmNhbmFyeS13b3Jk",
        "ydTOSfIH",
        key.lines().nth(1).unwrap(),
    ] {
        let found = texts.find(secret).map(|at| &texts[at.saturating_sub(300)..at + secret.len()]);
        assert!(found.is_none(), "{secret}: {found:?}");
    }
}

// ---- TLS ----------------------------------------------------------------------------------------

#[test]
fn prometheus_scrapes_with_a_client_certificate_and_a_password() {
    let site = Site::start(&format!(
        "tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.example]
basic_auth_users:
  {ANN}
"
    ));
    client_certificate(&site.authority, "prometheus.example");
    let folder = site.authority.folder.path().display();
    let job = |job: &str, more: &str| {
        format!(
            "{{job_name: {job}, scheme: https, {more}, static_configs: [{{targets: ['{}']}}]}}",
            site.daemon.address
        )
    };
    let tls = format!(
        "tls_config: {{ca_file: '{folder}/ca.pem', cert_file: '{folder}/prometheus.example.crt', \
         key_file: '{folder}/prometheus.example.key'}}"
    );
    let anonymous = format!("tls_config: {{ca_file: '{folder}/ca.pem'}}");
    let password = "basic_auth: {username: ann, password: correct horse}";
    let prometheus = Prometheus::with_jobs(&[
        job("complete", &format!("{tls}, {password}")),
        job("without_password", &tls),
        job("without_certificate", &format!("{anonymous}, {password}")),
    ]);
    prometheus.wait_for_value("llmload_paused{job='complete'} + 1");
    assert_eq!(prometheus.wait_for_value("up{job='without_password'}"), 0.0);
    assert_eq!(prometheus.wait_for_value("up{job='without_certificate'}"), 0.0);
}

#[test]
fn each_policy_for_client_certificates_admits_only_its_clients() {
    // For each policy: without a certificate, from a stranger, from the authority.
    for (policy, admitted) in [
        ("client_auth_type: NoClientCert", [true, true, true]),
        ("client_auth_type: RequestClientCert", [true, true, true]),
        ("client_auth_type: RequireAnyClientCert", [false, true, true]),
        ("client_auth_type: RequireClientCert", [false, true, true]),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem",
            [true, false, true],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem",
            [false, false, true],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
             client_allowed_sans: [friend, other.example]",
            [false, false, true],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
             client_allowed_sans: [other.example, 192.0.2.1]",
            [false; 3],
        ),
        (
            "client_auth_type: RequireAnyClientCert\n  client_allowed_sans: ['friend']",
            [false, false, true],
        ),
    ] {
        let site = Site::start(&format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  {policy}\n"
        ));
        let stranger = Authority::new();
        let friend = client_certificate(&site.authority, "friend");
        let stranger = client_certificate(&stranger, "stranger");
        for version in ["--tls-max", "--tlsv1.3"] {
            let version: &[&str] =
                if version == "--tls-max" { &["--tls-max", "1.2"] } else { &[version] };
            for (client, is_admitted) in
                [&[][..], &stranger[..], &friend[..]].into_iter().zip(admitted)
            {
                let client: Vec<&str> = client.iter().map(String::as_str).collect();
                let answer = site.curl("/-/healthy", &[version, &client].concat());
                let status = if is_admitted { 200 } else { 0 };
                assert_eq!(answer.status, status, "{policy} {client:?}: {}", answer.error);
            }
        }
    }
}

#[test]
fn a_client_certificate_can_have_an_address_as_its_allowed_name() {
    let site = Site::start(
        "tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: ['192.0.2.7']
",
    );
    for (name, status) in [("192.0.2.7", 200), ("192.0.2.8", 0), ("friend", 0)] {
        let client = client_certificate(&site.authority, name);
        let client: Vec<&str> = client.iter().map(String::as_str).collect();
        assert_eq!(site.curl("/-/healthy", &client).status, status, "{name}");
    }
}

#[test]
fn versions_suites_and_http_2_follow_the_file() {
    let pair = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    let site = Site::start(&format!(
        "{pair}  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  \
         curve_preferences: [CurveP384]\nhttp_server_config: {{http2: false}}\n"
    ));
    let statuses = |site: &Site, arguments: &[&[&str]]| -> Vec<u16> {
        arguments.iter().map(|arguments| site.curl("/-/healthy", arguments).status).collect()
    };
    let found = statuses(
        &site,
        &[
            &[],
            &["--tlsv1.3"],
            &["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            &["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            &["--curves", "X25519:P-256"],
            &["--curves", "P-384:P-256"],
        ],
    );
    assert_eq!(found, [200, 0, 0, 200, 0, 200]);
    assert_eq!(site.curl("/-/healthy", &["--http2"]).version, "1.1");
    let site = Site::start(&format!("{pair}  min_version: TLS13\n"));
    assert_eq!(statuses(&site, &[&[], &["--tls-max", "1.2"]]), [200, 0]);
    assert_eq!(site.curl("/-/healthy", &["--http2"]).version, "2");
    assert_eq!(site.curl("/-/healthy", &["--http1.1"]).version, "1.1");
}

/// A monitor can check a page with HEAD.
#[test]
fn the_response_to_head_has_the_length_of_the_page_and_no_body() {
    let site = Site::start("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let length = site.curl("/-/healthy", &[]).body.len();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let head = site.curl("/-/healthy", &[option, "--head"]);
        let Answer { code, status, .. } = head;
        assert_eq!(
            (code, status, head.version.as_str()),
            (Some(0), 200, version),
            "{}",
            head.error
        );
        assert!(head.head.contains(&format!("content-length: {length}")), "{}", head.head);
        assert_eq!(head.body.trim(), "");
    }
}

/// Over HTTP/2, curl requests all pages on one connection.
#[test]
fn requests_at_once_over_http_2_get_all_their_responses() {
    let site = Site::start("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let ca = site.authority.folder.path().join("ca.pem");
    let mut command = Command::new("curl");
    command.args(["--silent", "--parallel", "--http2", "--max-time", "60", "--cacert"]).arg(ca);
    command.args(["--write-out", "%{http_code} %{http_version}\n"]);
    for _ in 0..40 {
        command.args(["--output", "/dev/null"]).arg(site.url("/metrics"));
    }
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(out.matches("200 2\n").count(), 40, "{out}");
    // The browser proves the name of an https URL, so another name is allowed.
    let name = format!("load.example:{}", site.daemon.address.port());
    let to = format!("{name}:127.0.0.1:{}", site.daemon.address.port());
    let arguments = ["--insecure", "--http2", "--connect-to", to.as_str()];
    assert_eq!(curl(&format!("https://{name}/api/v1/status"), &arguments).status, 200);
    // A page of another site is still refused.
    let other = ["--header", "origin: https://evil.example", "--request", "POST"];
    let answer = site.curl("/-/pause", &other);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert_eq!(site.curl("/-/pause", &["--request", "POST"]).status, 200);
}

#[test]
fn clients_that_stall_the_handshake_do_not_block_others() {
    let site = Site::start("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let stall = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(site.daemon.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let mut stalled: Vec<_> = (0..50).map(|_| stall(b"\x16\x03\x01\x02\x00\x01")).collect();
    stalled.extend((0..50).map(|_| stall(b"")));
    assert_eq!(site.curl("/-/healthy", &[]).status, 200);
    for mut stream in stalled {
        // The server closes or resets the connection. Otherwise the read would time out.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn the_health_check_uses_tls_a_client_certificate_and_a_password() {
    let site = Site::start(&format!(
        "tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
basic_auth_users:
  {ANN}
"
    ));
    std::fs::write(site.path("password"), "correct horse\n").unwrap();
    std::fs::write(site.path("wrong"), "correct").unwrap();
    let [_, certificate, _, key] = client_certificate(&site.authority, "probe");
    let url = site.url("/-/healthy");
    let (ca, password, wrong) = (site.path("ca.pem"), site.path("password"), site.path("wrong"));
    let client = ["--cert-file", certificate.as_str(), "--key-file", key.as_str()];
    let user = ["--user", "ann", "--password-file", password.as_str()];
    let impostor = ["--user", "ann", "--password-file", wrong.as_str()];
    let trusting = ["--ca-file", ca.as_str()];
    let check =
        |parts: &[&[&str]]| llmload(&[&["health", url.as_str()], &parts.concat()[..]].concat());
    assert_eq!(check(&[&trusting, &client, &user]), (Some(0), String::new(), String::new()));
    assert_eq!(check(&[&["--insecure-skip-verify"], &client, &user]).0, Some(0));
    for (parts, reason) in [
        (&[&client[..], &user[..]][..], "; name the authority of the server's certificate with"),
        (&[&trusting[..], &user[..]], "; write --cert-file and --key-file"),
        (&[&trusting[..], &client[..]], "`HTTP/1.1 401`; write --user, and --password-file"),
        (&[&trusting[..], &client[..], &impostor[..]], "401`; correct the user or the password"),
    ] {
        let (code, _, err) = check(parts);
        assert_eq!(code, Some(1), "{parts:?}");
        assert!(err.contains(reason), "{parts:?}: {err}");
        assert!(!err.contains("horse"), "{err}");
    }
    let (code, _, err) = check(&[&trusting, &["--user", "ann"]]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--password-file"), "{err}");
}

#[test]
fn the_health_check_accepts_a_listed_certificate_and_names_a_wrong_scheme() {
    let site = Site::start("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let (certificate, key) = crate::connections::own_authority("127.0.0.1", |_| {});
    std::fs::write(site.path("own.pem"), certificate.pem()).unwrap();
    std::fs::write(site.path("server.crt"), certificate.pem()).unwrap();
    std::fs::write(site.path("server.key"), key.serialize_pem()).unwrap();
    let (own, other) = (site.path("own.pem"), site.path("ca.pem"));
    let url = site.url("/-/healthy");
    let begun = Instant::now();
    while llmload(&["health", &url, "--ca-file", &own]).0 != Some(0) {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{}", site.daemon.log.lock().unwrap());
        pause();
    }
    let plain = url.replace("https:", "http:");
    for (arguments, remedy) in [
        (&[url.as_str(), "--ca-file", &other][..], "; name the server's certificate with"),
        (&[url.as_str()], "; name the server's certificate with --ca-file"),
        (&[plain.as_str()], "; use https:// if the port expects TLS"),
    ] {
        let (code, _, err) = llmload(&[&["health"], arguments].concat());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(remedy), "{err}");
    }
    let daemon = Daemon::start("target: http://127.0.0.1:1/v1\nrate: 1/s\n");
    let over_tls = format!("https://{}/-/healthy", daemon.address);
    let (code, _, err) = llmload(&["health", &over_tls, "--insecure-skip-verify"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("; use http://, because the port does not expect TLS"), "{err}");
}

// ---- Changes of the files -----------------------------------------------------------------------

#[test]
fn new_certificates_and_users_are_used_and_broken_files_are_not() {
    let users = |user: &str| {
        format!(
            "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n\
             basic_auth_users: {{{user}}}\n"
        )
    };
    let mut site = Site::start(&users(&ANN.replace("ann", "'ann'")));
    let ann = ["--user", "ann:correct horse"];
    assert_eq!(site.curl("/-/healthy", &ann).status, 200);
    // The certificate and the key of a new authority.
    let old = std::mem::replace(&mut site.authority, Authority::new());
    assert_eq!(site.curl("/-/healthy", &ann).status, 0, "curl trusts the new authority only");
    write_server_certificate(&site.authority, site.daemon.folder.path());
    site.wait_for_status(200, &ann);
    let before = old.folder.path().join("ca.pem");
    assert_eq!(curl(&site.url("/"), &["--cacert", before.to_str().unwrap()]).status, 0);
    // A new name for the same password.
    site.write_web_file(&users(&ANN.replace("ann", "eve")));
    let eve = ["--user", "eve:correct horse"];
    site.wait_for_status(200, &eve);
    assert_eq!(site.curl("/-/healthy", &ann).status, 401);
    let broken = [
        ("tls_server_config: {cert_file: absent.crt, key_file: server.key}", "No such file"),
        ("basic_auth_users: {", "not valid YAML"),
        ("", "TLS on or off"),
        ("basic_auth_users:\n  eve:\n", "not a bcrypt hash"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key}", "has no users"),
    ];
    for (text, reason) in broken {
        site.write_rejected_web_file(text, reason);
        assert_eq!(site.curl("/-/healthy", &eve).status, 200, "{text}");
        assert_eq!(site.curl("/-/healthy", &[]).status, 401, "{text}");
    }
    site.write_web_file(&users(&ANN.replace("ann", "sue")));
    site.wait_for_status(200, &["--user", "sue:correct horse"]);
}

#[test]
fn a_new_file_cannot_weaken_the_policy_for_client_certificates() {
    let file = |policy: &str| {
        format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  {policy}\n")
    };
    let policy = "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem";
    let names = |names: &str| format!("{policy}\n  client_allowed_sans:{names}");
    let site = Site::start(&file(&names(" [friend]")));
    let [friend, other] = ["friend", "other"].map(|name| client_certificate(&site.authority, name));
    let friend: Vec<&str> = friend.iter().map(String::as_str).collect();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    let weaker = [
        ("client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [friend]", "weakens"),
        ("client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem", "weakens"),
        ("client_auth_type: NoClientCert", "weakens"),
        (policy, "removes `client_allowed_sans`"),
        (&names(""), "`client_allowed_sans` has no value"),
        ("client_auth_type:", "`client_auth_type` has no value"),
    ];
    for (policy, reason) in weaker {
        site.write_rejected_web_file(&file(policy), reason);
        assert_eq!(site.curl("/-/healthy", &friend).status, 200, "{policy}");
        assert_eq!(site.curl("/-/healthy", &other).status, 0, "{policy}");
    }
    site.write_web_file(&file(&names(" [other]")));
    site.wait_for_status(200, &other);
    assert_eq!(site.curl("/-/healthy", &friend).status, 0);
}

#[test]
fn the_rate_limit_and_the_headers_apply_to_every_response() {
    let site = Site::start(
        "tls_server_config: {cert_file: server.crt, key_file: server.key}
http_server_config:
  headers:
    X-Content-Type-Options: nosniff
    X-Frame-Options: sameorigin
    Strict-Transport-Security: max-age=9
rate_limit: {interval: 1h, burst: 3}
",
    );
    // The status page has its own `x-frame-options`.
    let pages = ["/", "/metrics", "/-/healthy", "/", "/"];
    let answers: Vec<_> = pages.iter().map(|page| site.curl(page, &[])).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    for answer in answers {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "sameorigin"),
            ("strict-transport-security", "max-age=9"),
        ] {
            let lines = answer.head.lines().filter(|line| line.starts_with(name));
            let lines: Vec<&str> = lines.collect();
            assert_eq!(lines, [format!("{name}: {value}")], "{}", answer.head);
        }
    }
}

// ---- Unix sockets and several addresses ---------------------------------------------------------

fn start_with(folder: tempfile::TempDir, addresses: &[&str]) -> Daemon {
    std::fs::write(folder.path().join("llmload.yml"), IDLE).unwrap();
    let more: Vec<&str> =
        addresses.iter().flat_map(|address| ["--web.listen-address", address]).collect();
    Daemon::of(Command::new(env!("CARGO_BIN_EXE_llmload")), &more, folder)
}

#[test]
fn a_unix_socket_is_local_and_replaces_only_a_socket_without_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("llmload.sock");
    let address = format!("unix:{}", socket.display());
    let mut daemon = start_with(folder, &[&address, "127.0.0.1:0"]);
    let by_socket = ["--unix-socket", socket.to_str().unwrap()];
    assert_eq!(curl("http://localhost/metrics", &by_socket).status, 200);
    let pause = [&by_socket[..], &["--request", "POST"]].concat();
    assert_eq!(curl("http://localhost/-/pause", &pause).status, 200);
    assert!(daemon.get("/metrics").2.contains("llmload_paused 1"));
    daemon.wait_for_log(&format!("/metrics on {address}"));
    let log = daemon.log.lock().unwrap().clone();
    assert_eq!(log.matches("/metrics on http://127.0.0.1:").count(), 2, "{log}");
    assert_eq!(llmload(&["health", &address]), (Some(0), String::new(), String::new()));
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (code, _, err) = llmload(&["demo", "--web.listen-address", &address]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&address) && err.contains("in use"), "{err}");
    // A killed daemon leaves its socket, and the next daemon replaces it.
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(socket.exists());
    let second = start_with(tempfile::tempdir().unwrap(), &[&address]);
    assert_eq!(curl("http://localhost/-/healthy", &by_socket).status, 200);
    second.signal("TERM");
    let (status, log) = second.wait();
    assert!(status.success() && !socket.exists(), "{log}");
}

#[test]
fn the_addresses_of_a_daemon_are_independent() {
    let daemon = start_with(tempfile::tempdir().unwrap(), &["127.0.0.1:0", "[::1]:0"]);
    let begun = Instant::now();
    let addresses = loop {
        let log = daemon.log.lock().unwrap().clone();
        let of_line = |line: &str| -> Option<SocketAddr> {
            line.split_once("/metrics on http://")?.1.split('/').next()?.parse().ok()
        };
        let found: Vec<_> = log.lines().filter_map(of_line).collect();
        if found.len() == 3 {
            break found;
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "{log}");
        pause();
    };
    for address in addresses {
        assert_eq!(curl(&format!("http://{address}/metrics"), &[]).status, 200, "{address}");
    }
}
