//! The words for each trouble, from what is known of it.

use super::*;
use crate::measurement::FailureDetail;
use crate::protocol;

const URL: &str = "http://localhost:8000/v1";

fn target(keys: &str) -> Target {
    let text = format!("target: {{base_url: '{URL}'{keys}}}\nrate: 1/s\n");
    let key = |name: &str| (name == "KEY").then(|| "sk-0123456789".to_owned());
    let plan = crate::config::parse(&text, "test", None, &key).unwrap();
    Target::clone(&plan.scenarios[0].target)
}

fn asked(keys: &str, address: &str, status: u16, models: &[&str]) -> (Option<String>, String) {
    let models: Vec<_> = models.iter().map(|&model| model.to_owned()).collect();
    let target = target(keys);
    let (model, doubt) = DiagnosedTarget { target: &target, address }.model(status, &models);
    (model, doubt.map(|doubt| doubt.to_string()).unwrap_or_default())
}

fn said(keys: &str, address: &str, status: u16, models: &[&str]) -> String {
    asked(keys, address, status, models).1
}

fn remedy(address: &str, detail: &FailureDetail) -> String {
    let target = target("");
    DiagnosedTarget { target: &target, address }.remedy(detail.failure, &detail.message)
}

fn refused(address: &str, status: u16, body: &str) -> String {
    remedy(address, &protocol::failure_of_status(status, body.as_bytes()))
}

#[test]
fn a_key_that_is_refused_is_named_by_its_origin() {
    let key = ", api_key_env: KEY";
    assert_eq!(
        said(key, URL, 401, &[]),
        "/models answers 401: the key from the variable KEY is not accepted; \
         check what the variable KEY holds, and what that key may do"
    );
    assert_eq!(asked(&format!("{key}, model: m"), URL, 403, &["m"]).0.as_deref(), Some("m"));
    assert!(
        said(&format!("{key}, model: m"), URL, 403, &["m"])
            .contains("the variable KEY is not accepted")
    );
    let none = said("", URL, 401, &[]);
    assert!(none.contains("no key is set; ") && none.contains("`--api-key-env`"), "{none}");
    let header = ", headers: {Authorization: {env: KEY}}";
    assert!(said(header, URL, 403, &[]).ends_with("check what the header `authorization` holds"));
}

#[test]
fn a_path_that_is_not_there_asks_for_the_usual_one() {
    assert_eq!(
        said("", "http://localhost:8000/", 404, &[]),
        "there is no /models under http://localhost:8000/; \
         write http://localhost:8000/v1, if `/v1` is missing"
    );
    assert!(said(", model: m", URL, 404, &[]).ends_with("check its path, /v1"));
    for (path, remedy) in [
        ("/v2", "check the path /v2: most servers have their API at http://h/v1"),
        ("/v1/x/", "check the path /v1/x: most servers have their API at http://h/v1"),
        ("/x/v1", "check the path /x/v1: most servers have their API at http://h/v1"),
        (
            "/api",
            "check the path /api: most servers have their API at http://h/api/v1, others at http://h/v1",
        ),
    ] {
        let said = said("", &format!("http://h{path}"), 404, &[]);
        assert!(said.ends_with(&format!("; {remedy}")), "{said}");
    }
    assert_eq!(
        asked("", URL, 404, &["m"]),
        (Some("m".to_owned()), String::new()),
        "a list is a list"
    );
    assert_eq!(asked(", model: m", URL, 418, &[]), (Some("m".to_owned()), String::new()));
    assert!(said("", URL, 302, &[]).contains("redirect"));
}

#[test]
fn a_model_that_is_not_listed_or_cannot_be_a_label_is_told() {
    assert_eq!(
        asked(", model: a", URL, 200, &["b", "c"]),
        (
            Some("a".into()),
            "/models does not list `a`; set `model` (or `--model`) to one of `b`, `c`".into()
        )
    );
    assert_eq!(asked(", model: a", URL, 200, &["b", "a"]), (Some("a".into()), String::new()));
    assert_eq!(asked("", URL, 200, &["a"]), (Some("a".into()), String::new()));
    let several = asked("", URL, 200, &["a", "b"]);
    assert_eq!(
        several,
        (
            None,
            "/models lists 2, and none is named; set `model` (or `--model`) to one of `a`, `b`"
                .into()
        )
    );
    let (model, none) = asked("", "http://localhost:3000", 200, &[]);
    assert!(
        model.is_none()
            && none.contains("lists none; ")
            && none.contains("http://localhost:3000/v1")
    );
    for name in ["", "a\nb", &"x".repeat(257)] {
        let (model, said) = asked("", URL, 200, &[name]);
        assert!(model.is_none());
        assert!(said.starts_with("the name of the only one that /models lists "), "{said}");
    }
}

#[test]
fn the_words_of_a_refusal_say_what_is_to_be_mended() {
    for body in [
        r#"{"object":"error","message":"The model `x` does not exist.","code":404}"#,
        r#"{"error":{"message":"model \"x\" not found, try pulling it first"}}"#,
    ] {
        assert_eq!(
            refused(URL, 404, body),
            "set `model` (or `--model`) to one that /models lists",
            "{body}"
        );
    }
    let bad = refused(URL, 400, r#"{"error":{"message":"x is not a valid model ID"}}"#);
    assert_eq!(bad, "set `model` (or `--model`) to one that /models lists");
    assert!(
        refused("http://h:1", 404, r#"{"detail":"Not Found"}"#).starts_with("write http://h:1/v1")
    );
    assert!(refused(URL, 404, "").contains("http://localhost:8000/v1/chat/completions"));
    assert!(
        refused(URL, 400, "This model's maximum context length is 512").starts_with("send what")
    );
    let field =
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead with this model.";
    assert!(refused(URL, 400, field).contains("`max_tokens_field: max_completion_tokens`"));
    let unknown = r#"{"detail":"Extra inputs are not permitted: stream_options"}"#;
    assert!(refused(URL, 422, unknown).contains("`stream_options: none`"));
    let plain = "Client sent an HTTP request to an HTTPS server.";
    assert!(refused(URL, 400, plain).contains("https://localhost:8000/v1"));
    assert!(refused(URL, 308, "").contains("the address that it leads to"));
    assert!(refused(URL, 204, "").contains("no chat API"));
}

#[test]
fn a_scheme_that_does_not_fit_the_port_is_told_from_a_certificate() {
    let tls = |words: &str| remedy("https://h:1/v1", &FailureDetail::new(Failure::Tls, words));
    assert!(tls("received corrupt message of type InvalidContentType").contains("http://h:1/v1"));
    assert!(tls("invalid peer certificate: UnknownIssuer").contains("SSL_CERT_FILE"));
    assert!(tls("invalid peer certificate: Expired").contains("renew"));
    assert!(
        tls("invalid peer certificate: certificate not valid for name \"h\"").contains("host name")
    );
    let http = |failure| remedy("http://h:1/v1", &FailureDetail::new(failure, ""));
    assert!(http(Failure::Reset).starts_with("write https://h:1/v1"));
    assert!(http(Failure::HttpProtocol).starts_with("write https://h:1/v1"));
    let over_tls = remedy("https://h/v1", &FailureDetail::new(Failure::Reset, ""));
    assert!(!over_tls.contains("write"), "{over_tls}");
}

#[test]
fn places_are_named_with_their_port() {
    let refused = |address| remedy(address, &FailureDetail::new(Failure::ConnectRefused, ""));
    assert!(refused("http://localhost:81/v1").contains("localhost:81 (within a container"));
    assert!(refused("http://[::1]/v1").contains("[::1]:80 (within a container"));
    assert!(refused("https://api.example.com/v1").ends_with("api.example.com:443"));
    let dns = remedy("http://nowhere.invalid:81/v1", &FailureDetail::new(Failure::Dns, ""));
    assert!(dns.contains("`nowhere.invalid`"), "{dns}");
}

/// What stands after `; ` is the remedy: it holds no second one.
#[test]
fn every_failure_has_one_remedy() {
    for failure in Failure::ALL {
        for words in
            ["", "[DONE] without a finish reason", "a whole completion", "HTTP 404", "HTTP 302"]
        {
            for address in ["http://h:1", "https://localhost/v1"] {
                let remedy = remedy(address, &FailureDetail::new(failure, words));
                assert!(remedy.len() > 20 && !remedy.ends_with('.'), "{failure}: {remedy}");
                assert!(!remedy.contains("; "), "{failure}: {remedy}");
            }
        }
    }
}

/// A remedy that the file refuses would be none.
#[test]
fn the_keys_that_remedies_name_are_keys_of_the_file() {
    target(
        ", max_tokens_field: max_completion_tokens, stream_options: none, terminal: done, model: m",
    );
    for (failure, words, key) in [
        (Failure::Incomplete, "[DONE] without a finish reason", "terminal: done"),
        (Failure::Incomplete, "the body ended without [DONE]", "terminal: finish_reason"),
        (Failure::Incomplete, "the body ended before any text", "terminal: eof"),
    ] {
        assert!(
            remedy(URL, &FailureDetail::new(failure, words)).contains(&format!("`{key}`")),
            "{words}"
        );
        target(&format!(", {key}"));
    }
}
