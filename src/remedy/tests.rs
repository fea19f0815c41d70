//! Tests of the remedies.

use std::collections::BTreeSet;

use super::*;
use crate::measurement::{LookupFault, TlsFault};
use crate::protocol;

const URL: &str = "http://localhost:8000/v1";

fn target(keys: &str) -> Target {
    let text = format!("target: {{base_url: '{URL}'{keys}}}\nrate: 1/s\n");
    let key = |name: &str| (name == "KEY").then(|| "sk-0123456789".into());
    let plan = crate::config::parse(&text, "test", None, &key).unwrap();
    Target::clone(&plan.scenarios[0].target)
}

fn chosen(keys: &str, address: &str, status: u16, models: &[&str]) -> (Option<String>, String) {
    let models: Vec<_> = models.iter().map(|&model| model.to_owned()).collect();
    let target = target(keys);
    let target = DiagnosedTarget { target: &target, address };
    let (model, problem) = target.choose_model(status, &models);
    (model, problem.map(|problem| problem.to_string()).unwrap_or_default())
}

fn problem(keys: &str, address: &str, status: u16, models: &[&str]) -> String {
    chosen(keys, address, status, models).1
}

fn remedy(address: &str, detail: &FailureDetail) -> String {
    let target = target("");
    DiagnosedTarget { target: &target, address }.remedy(detail)
}

fn refused(address: &str, status: u16, body: &str) -> String {
    remedy(address, &protocol::failure_of_status(status, body.as_bytes()))
}

#[test]
fn the_problem_of_a_refused_key_names_the_origin_of_the_key() {
    let key = ", api_key_env: KEY";
    assert_eq!(
        problem(key, URL, 401, &[]),
        "/models returned 401: the key from the variable KEY is not accepted; \
         check that the variable KEY holds a valid key, and that this key has access"
    );
    assert_eq!(chosen(&format!("{key}, model: m"), URL, 403, &["m"]).0.as_deref(), Some("m"));
    assert!(
        problem(&format!("{key}, model: m"), URL, 403, &["m"])
            .contains("the variable KEY is not accepted")
    );
    let none = problem("", URL, 401, &[]);
    assert!(none.contains("no key is set; ") && none.contains("`--api-key-env`"), "{none}");
    let header = ", headers: {Authorization: {env: KEY}}";
    assert!(
        problem(header, URL, 403, &[])
            .ends_with("check that the header `authorization` holds a valid key")
    );
}

#[test]
fn the_remedy_for_a_missing_path_names_the_usual_one() {
    assert_eq!(
        problem("", "http://localhost:8000/", 404, &[]),
        "there is no /models under http://localhost:8000/; \
         use http://localhost:8000/v1 if `/v1` is missing"
    );
    assert!(problem("", URL, 404, &[]).ends_with("check the path /v1"));
    assert_eq!(
        chosen(", model: m", URL, 404, &[]),
        (Some("m".to_owned()), String::new()),
        "an endpoint without /models is no problem if the model is known"
    );
    for (path, remedy) in [
        ("/v2", "check the path /v2: most servers have their API at http://h/v1"),
        ("/v1/x/", "check the path /v1/x: most servers have their API at http://h/v1"),
        ("/x/v1", "check the path /x/v1: most servers have their API at http://h/v1"),
        (
            "/api",
            "check the path /api: most servers have their API at http://h/api/v1, others at http://h/v1",
        ),
    ] {
        let problem = problem("", &format!("http://h{path}"), 404, &[]);
        assert!(problem.ends_with(&format!("; {remedy}")), "{problem}");
    }
    assert_eq!(
        chosen("", URL, 404, &["m"]),
        (Some("m".to_owned()), String::new()),
        "a list of models is accepted with any status"
    );
    assert_eq!(chosen(", model: m", URL, 418, &[]), (Some("m".to_owned()), String::new()));
    assert!(problem("", URL, 302, &[]).contains("redirect"));
}

#[test]
fn a_model_that_is_not_listed_or_cannot_be_a_label_is_a_problem() {
    assert_eq!(
        chosen(", model: a", URL, 200, &["b", "c"]),
        (
            Some("a".into()),
            "/models does not list `a`; set `model` (or `--model`) to one of `b`, `c`".into()
        )
    );
    assert_eq!(chosen(", model: a", URL, 200, &["b", "a"]), (Some("a".into()), String::new()));
    assert_eq!(chosen("", URL, 200, &["a"]), (Some("a".into()), String::new()));
    let several = chosen("", URL, 200, &["a", "b"]);
    assert_eq!(
        several,
        (
            None,
            "/models lists 2 models, and no `model` is set; set `model` (or `--model`) to one of `a`, `b`"
                .into()
        )
    );
    let (model, none) = chosen("", "http://localhost:3000", 200, &[]);
    assert!(
        model.is_none()
            && none.contains("lists no model; ")
            && none.contains("http://localhost:3000/v1")
    );
    for name in ["", "a\nb", &"x".repeat(257)] {
        let (model, problem) = chosen("", URL, 200, &[name]);
        assert!(model.is_none());
        assert!(problem.starts_with("the name of the only model that /models lists "), "{problem}");
    }
}

#[test]
fn the_remedy_for_a_refusal_follows_from_its_message() {
    for body in [
        r#"{"object":"error","message":"The model `x` does not exist.","code":404}"#,
        r#"{"error":{"message":"model \"x\" not found, try pulling it first"}}"#,
    ] {
        assert_eq!(
            refused(URL, 404, body),
            "set `model` (or `--model`) to a model that /models lists",
            "{body}"
        );
    }
    let bad = refused(URL, 400, r#"{"error":{"message":"x is not a valid model ID"}}"#);
    assert_eq!(bad, "set `model` (or `--model`) to a model that /models lists");
    assert!(
        refused("http://h:1", 404, r#"{"detail":"Not Found"}"#).starts_with("use http://h:1/v1")
    );
    assert!(refused(URL, 404, "").contains("http://localhost:8000/v1/chat/completions"));
    assert!(
        refused(URL, 400, "This model's maximum context length is 512")
            .starts_with("change the request")
    );
    let field =
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead with this model.";
    assert!(refused(URL, 400, field).contains("`max_tokens_field: max_completion_tokens`"));
    let unknown = r#"{"detail":"Extra inputs are not permitted: stream_options"}"#;
    assert!(refused(URL, 422, unknown).contains("`stream_options: none`"));
    let plain = "Client sent an HTTP request to an HTTPS server.";
    assert!(refused(URL, 400, plain).contains("https://localhost:8000/v1"));
    assert!(refused(URL, 308, "").contains("the address that the redirect points to"));
    assert!(refused(URL, 204, "").contains("no API of a model"));
}

#[test]
fn a_wrong_scheme_and_a_bad_certificate_have_different_remedies() {
    let tls = |fault| {
        let detail = FailureDetail::new(Failure::Tls, "").with_cause(FailureCause::Tls(fault));
        remedy("https://h:1/v1", &detail)
    };
    assert!(tls(TlsFault::NotTls).contains("http://h:1/v1"));
    assert!(tls(TlsFault::UntrustedIssuer).contains("SSL_CERT_FILE"));
    assert!(tls(TlsFault::UnlistedAuthority).contains("to the file of `tls.ca_file`"));
    assert!(tls(TlsFault::NoClientCertificate).contains("set `tls.cert_file`"));
    assert!(tls(TlsFault::Expired).contains("renew"));
    assert!(!tls(TlsFault::NotYetValid).contains("renew"));
    assert!(tls(TlsFault::NotYetValid).starts_with("correct the clock"));
    assert!(tls(TlsFault::Reset).contains("reset the connection in the TLS handshake"));
    assert!(tls(TlsFault::WrongName).contains("host name"));
    let unknown = remedy("https://h:1/v1", &FailureDetail::new(Failure::Tls, "Expired"));
    assert!(
        unknown.starts_with("check the TLS settings"),
        "the message does not decide the remedy"
    );
    let http = |failure| remedy("http://h:1/v1", &FailureDetail::new(failure, ""));
    assert!(http(Failure::Reset).starts_with("check the server's log, or use https://h:1/v1"));
    assert!(http(Failure::HttpProtocol).starts_with("use https://h:1/v1"));
    let over_tls = remedy("https://h/v1", &FailureDetail::new(Failure::Reset, ""));
    assert!(!over_tls.contains("https://"), "{over_tls}");
}

#[test]
fn an_address_is_quoted_with_its_port() {
    let refused = |address| remedy(address, &FailureDetail::new(Failure::ConnectRefused, ""));
    assert!(refused("http://localhost:81/v1").contains("localhost:81 (inside a container"));
    assert!(refused("http://[::1]/v1").contains("[::1]:80 (inside a container"));
    assert!(refused("https://api.example.com/v1").ends_with("api.example.com:443"));
    let dns = remedy("http://nowhere.invalid:81/v1", &FailureDetail::new(Failure::Dns, ""));
    assert!(dns.contains("check the spelling of `nowhere.invalid`"), "{dns}");
    let silent = FailureDetail::new(Failure::Dns, "")
        .with_cause(FailureCause::Lookup(LookupFault::NoAnswer));
    let silent = remedy("http://nowhere.invalid:81/v1", &silent);
    assert!(silent.starts_with("check the name servers"), "{silent}");
    assert!(silent.contains("getent hosts nowhere.invalid`"), "{silent}");
}

/// A remedy names only the cause that llmload saw.
#[test]
fn a_failure_of_llmload_or_its_machine_has_the_remedy_for_its_cause() {
    use ClientFault::{Defect, LocalPorts, Memory, OpenFiles, PromptFile, Streams, Threads};
    let words = [
        (LocalPorts, "ip_local_port_range"),
        (OpenFiles, "ulimit -n"),
        (Memory, "more memory"),
        (Threads, "ulimit -u"),
        (Streams, "`http2: false`"),
        (PromptFile, "prompt file"),
        (Defect, "bug in llmload"),
    ];
    for (fault, own) in words {
        let failure = if fault == Defect { Failure::Internal } else { Failure::ClientResource };
        let detail = FailureDetail::new(failure, "").with_cause(FailureCause::Client(fault));
        let text = remedy(URL, &detail);
        for (_, word) in words {
            assert_eq!(text.contains(word), word == own, "{fault:?}: {text}");
        }
    }
    let no_ports = FailureDetail::new(Failure::ClientResource, "")
        .with_cause(FailureCause::Client(LocalPorts));
    assert!(remedy("http://[::1]:8000/v1", &no_ports).contains("IPv6"));
    assert!(remedy(URL, &FailureDetail::new(Failure::Internal, "")).contains("bug in llmload"));
}

#[test]
fn a_timeout_has_a_remedy_for_the_request_that_timed_out() {
    let timeout = FailureDetail::new(Failure::TimeoutTotal, "");
    assert!(remedy(URL, &timeout).contains("`timeouts.total`"));
    let models = remedy(URL, &timeout.with_cause(FailureCause::NoMetadata));
    assert!(models.contains("list of models"), "{models}");
    assert!(!models.contains("max_tokens") && !models.contains("timeouts"), "{models}");
    let connect = FailureDetail::new(Failure::ConnectTimeout, "");
    assert!(remedy("https://h/v1", &connect).contains("TLS handshake"));
    assert!(!remedy(URL, &connect).contains("TLS"));
}

/// llmload connects to the proxy, not to the target.
#[test]
fn an_error_while_connecting_names_the_proxy() {
    let target = target(", proxy: 'http://me:pass@proxy.internal:3128'");
    let address = "http://h:1/v1";
    let target = DiagnosedTarget { target: &target, address };
    for (failure, named) in [
        (Failure::Dns, "spelling of `proxy.internal`"),
        (Failure::ConnectRefused, "start the proxy, or correct the port: nothing listens at proxy"),
        (Failure::ConnectTimeout, "check the address proxy.internal:3128"),
    ] {
        let remedy = target.remedy(&FailureDetail::new(failure, ""));
        assert!(remedy.contains(named) && !remedy.contains("pass"), "{remedy}");
    }
}

/// The causes that change a remedy, with one example for each kind of cause that has many values.
const CAUSES: [Option<FailureCause>; 11] = [
    None,
    Some(FailureCause::NoFinishReason),
    Some(FailureCause::NoEndMarker),
    Some(FailureCause::UnstreamedCompletion),
    Some(FailureCause::Status(404)),
    Some(FailureCause::Status(302)),
    Some(FailureCause::Tls(TlsFault::UntrustedIssuer)),
    Some(FailureCause::NoMetadata),
    Some(FailureCause::Client(ClientFault::Memory)),
    Some(FailureCause::Client(ClientFault::Streams)),
    Some(FailureCause::Lookup(LookupFault::NoAnswer)),
];

/// A diagnosis is displayed as `problem; remedy`, so a remedy must not contain `; `.
#[test]
fn every_failure_class_has_a_remedy() {
    for failure in Failure::ALL {
        for cause in CAUSES {
            for address in ["http://h:1", "https://localhost/v1"] {
                let detail = FailureDetail { cause, ..FailureDetail::new(failure, "") };
                let remedy = remedy(address, &detail);
                assert!(remedy.len() > 20 && !remedy.ends_with('.'), "{failure}: {remedy}");
                assert!(!remedy.contains("; "), "{failure}: {remedy}");
            }
        }
    }
}

/// Returns the texts in backticks that are a key with a value, such as `terminal: done`.
fn settings(remedy: &str) -> Vec<String> {
    let quoted = remedy.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains(": ")).map(str::to_owned).collect()
}

#[test]
fn the_configuration_accepts_every_setting_in_a_remedy() {
    let mut remedies: Vec<String> = Vec::new();
    for failure in Failure::ALL {
        for cause in CAUSES {
            let detail = FailureDetail { cause, ..FailureDetail::new(failure, "") };
            remedies.push(remedy(URL, &detail));
        }
    }
    for field in ["max_completion_tokens", "stream_options"] {
        remedies.push(refused(URL, 400, &format!("{field} is unknown")));
    }
    let found: BTreeSet<_> = remedies.iter().flat_map(|remedy| settings(remedy)).collect();
    for setting in &found {
        let text = if setting.starts_with("request: ") {
            format!("target: '{URL}'\nrate: 1/s\n{setting}\n")
        } else {
            format!("target: {{base_url: '{URL}', {setting}}}\nrate: 1/s\n")
        };
        let plan = crate::config::parse(&text, "test", None, &|_| None);
        assert!(plan.is_ok(), "{setting}: {plan:?}");
    }
    let expected = [
        "http2: false",
        "max_tokens_field: max_completion_tokens",
        "request: {stream: false}",
        "stream_options: none",
        "terminal: done",
        "terminal: eof",
        "terminal: finish_reason",
    ];
    assert_eq!(Vec::from_iter(found), expected);
}

#[test]
fn the_remedy_for_an_incomplete_response_names_the_terminal_that_accepts_it() {
    for (cause, setting) in [
        (Some(FailureCause::NoFinishReason), "terminal: done"),
        (Some(FailureCause::NoEndMarker), "terminal: finish_reason"),
        (None, "terminal: eof"),
    ] {
        let detail = FailureDetail { cause, ..FailureDetail::new(Failure::Incomplete, "") };
        assert_eq!(settings(&remedy(URL, &detail)), [setting], "{cause:?}");
    }
}
