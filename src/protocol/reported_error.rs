//! Reads errors from an error event, or from the body of a response with an error status.
//!
//! Nearly every server has a different format. This module reduces an error to a message, a code
//! and a kind from a closed set. It runs only for failed requests, so it can be slow.

use std::borrow::Cow;

use serde_json::Value;

use crate::measurement::{Failure, FailureCause, FailureDetail};

/// In bytes. A longer report is quoted without parsing.
const MAX_PARSED: usize = 64 << 10;
/// In bytes. [`FailureDetail`] shortens the message further.
const MAX_MESSAGE: usize = 1 << 10;

/// The kind of a reported error, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    RateLimited,
    Overloaded,
    /// The quota, budget or balance of the account is used up, so waiting does not help.
    Quota,
    Filtered,
    Invalid,
    Server,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedError {
    /// Not safe to print: use [`ReportedError::detail`].
    pub message: String,
    pub code: Option<String>,
    pub kind: ErrorKind,
}

impl ReportedError {
    /// Reads a body, or the data of an error event. The text is JSON with an `error` in any form,
    /// plain text or HTML.
    pub fn from_body(body: &[u8]) -> ReportedError {
        let head = &body[..body.len().min(MAX_PARSED)];
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim();
        if body.len() <= MAX_PARSED
            && let Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) =
                serde_json::from_str(text)
        {
            return ReportedError::from_value(&value);
        }
        let message =
            if text.starts_with('<') { Cow::Owned(strip_tags(text)) } else { Cow::Borrowed(text) };
        ReportedError::from_message(&message, None, None, "")
    }

    fn from_value(value: &Value) -> ReportedError {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let inner = [
            &value["error"],
            &value["response"]["error"],
            &value["choices"][0]["error"],
            &value["detail"]["error"],
        ]
        .into_iter()
        .find(|error| is_truthy(error));
        let subject = inner.unwrap_or(value);

        let names = ["message", "detail", "msg", "error", "description"];
        let message =
            names.iter().map(|name| &subject[name]).find(|text| is_truthy(text)).unwrap_or(subject);
        let code = [&subject["code"], &value["code"]].into_iter().find_map(scalar);
        let status = ["http_status_code", "status_code", "status", "code"]
            .iter()
            .flat_map(|key| [&subject[key], &value[key]])
            .filter_map(scalar)
            .find_map(|status| status.parse().ok().filter(|status| (100..600).contains(status)));
        let type_name = scalar(&subject["type"]).unwrap_or_default();
        ReportedError::from_message(&sentence(message), code, status, &type_name)
    }

    fn from_message(
        message: &str,
        code: Option<String>,
        status: Option<u16>,
        type_name: &str,
    ) -> ReportedError {
        let names =
            format!("{} {type_name}", code.as_deref().unwrap_or_default()).to_ascii_lowercase();
        let kind = classify(&names, &message.to_ascii_lowercase(), status);
        ReportedError { message: cut(message, MAX_MESSAGE).to_owned(), code, kind }
    }

    /// Returns true if the quota is used up. Then a status 429 is not a rate limit.
    pub fn is_quota(&self) -> bool {
        self.kind == ErrorKind::Quota
    }

    /// Returns a failure of this class with a message that is safe to print.
    pub fn detail(&self, failure: Failure) -> FailureDetail {
        FailureDetail::new(failure, &self.message)
    }
}

/// Parts of codes and types that mean an exhausted quota.
const QUOTA: [&str; 6] = [
    "insufficient_quota",
    "budget_exceeded",
    "billing",
    "insufficient_balance",
    "insufficient_credit",
    "payment_required",
];

fn classify(names: &str, message: &str, status: Option<u16>) -> ErrorKind {
    let is_named = |words: &[&str]| words.iter().any(|word| names.contains(word));
    if is_named(&QUOTA)
        || names.split_whitespace().any(|name| name == "1113")
        || status == Some(402)
    {
        ErrorKind::Quota
    } else if is_named(&["content_filter", "content_policy", "safety", "moderation", "sensitive"]) {
        ErrorKind::Filtered
    } else if status == Some(429)
        || is_named(&["rate_limit", "ratelimit", "too_many", "throttl", "resource_exhausted"])
    {
        ErrorKind::RateLimited
    } else if matches!(status, Some(498 | 503 | 529))
        || is_named(&["overload", "unavailable", "capacity"])
        || message.contains("overload")
    {
        ErrorKind::Overloaded
    } else if matches!(status, Some(400..=499))
        || is_named(&[
            "invalid",
            "bad_request",
            "badrequest",
            "not_found",
            "exceed_context",
            "context_length",
        ])
    {
        ErrorKind::Invalid
    } else if matches!(status, Some(500..=599))
        || is_named(&["server", "internal", "timeout", "api_error"])
    {
        ErrorKind::Server
    } else {
        ErrorKind::Other
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(cut(text, 64).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Formats a text, an object, or a list of problems from a validator.
fn sentence(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().take(8).map(problem).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

fn problem(value: &Value) -> String {
    let Some(message) = value["msg"].as_str().or_else(|| value["message"].as_str()) else {
        return value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    };
    let place: Vec<String> =
        value["loc"].as_array().into_iter().flatten().filter_map(scalar).collect();
    if place.is_empty() { message.to_owned() } else { format!("{message} at {}", place.join(".")) }
}

/// Removes tags, scripts and styles.
fn strip_tags(html: &str) -> String {
    let mut page_text = String::new();
    let mut rest = html;
    while let Some((text, tag)) = rest.split_once('<') {
        page_text.push_str(text);
        page_text.push(' ');
        let hidden = ["script", "style"].into_iter().find(|name| {
            tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        });
        let tag = match hidden.and_then(|name| find_ignoring_case(tag, &format!("</{name}"))) {
            Some(end) => &tag[end..],
            None => tag,
        };
        rest = tag.split_once('>').map_or("", |(_, after)| after);
        if page_text.len() > 4 * MAX_MESSAGE {
            break;
        }
    }
    page_text.push_str(rest);
    page_text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn find_ignoring_case(text: &str, what: &str) -> Option<usize> {
    text.as_bytes()
        .windows(what.len())
        .position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Returns the failure of a response with a status other than 200.
pub fn failure_of_status(status: u16, body: &[u8]) -> FailureDetail {
    let error = ReportedError::from_body(body);
    let failure = match status {
        402 => Failure::Quota,
        400..=499 if error.is_quota() => Failure::Quota,
        401 | 403 => Failure::Auth,
        429 => Failure::RateLimited,
        498 | 503 | 529 => Failure::Overloaded,
        400..=499 => Failure::Http4xx,
        500..=599 => Failure::Http5xx,
        _ => Failure::HttpUnexpected,
    };
    let message = if error.message.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {}", error.message)
    };
    FailureDetail::new(failure, &message).with_cause(FailureCause::Status(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (String, Option<String>, ErrorKind) {
        let error = ReportedError::from_body(body.as_bytes());
        (error.message, error.code, error.kind)
    }

    fn message(body: &str) -> String {
        read(body).0
    }

    #[test]
    fn messages_of_many_formats_are_read() {
        for (body, expected) in [
            (r#"{"error":{"message":"Invalid API Key","code":401}}"#, "Invalid API Key"),
            (r#"{"error":"no such model"}"#, "no such model"),
            (r#"{"object":"error","message":"flat","code":400}"#, "flat"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"[{"error":{"message":"in a list"}}]"#, "in a list"),
            (r#"{"detail":{"error":{"message":"deep"}}}"#, "deep"),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                "m",
            ),
            (r#"{"error":{"code":400}}"#, r#"{"code":400}"#),
            (r#""only a string""#, "only a string"),
            ("Internal Server Error\n", "Internal Server Error"),
            ("", ""),
            ("{\"error\":{\"mess", "{\"error\":{\"mess"),
        ] {
            assert_eq!(message(body), expected, "{body}");
        }
        assert_eq!(
            message(
                r#"{"detail":[{"type":"json_invalid","loc":["body",28],"msg":"JSON decode error"}]}"#
            ),
            "JSON decode error at body.28"
        );
    }

    #[test]
    fn an_html_page_becomes_its_text() {
        let page = "<!DOCTYPE html><html><HEAD><style>p{a:b}</style><title>502 Bad Gateway</title>\
                    <script>if (1<2) {}</SCRIPT></head>\n<body><h1>502  Bad&nbsp;Gateway</h1></body></html>";
        assert_eq!(message(page), "502 Bad Gateway 502 Bad&nbsp;Gateway");
        assert_eq!(message("<script"), "");
    }

    #[test]
    fn a_report_that_is_too_long_or_not_utf8_is_quoted_up_to_the_limit_of_a_message() {
        assert_eq!(ReportedError::from_body(b"a\xffb").message, "a\u{fffd}b");
        let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(1 << 20));
        let message = ReportedError::from_body(long.as_bytes()).message;
        assert!(message.starts_with("{\"error\"") && message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn the_kind_follows_from_the_code_or_type_or_status_or_message() {
        use ErrorKind::{Filtered, Invalid, Other, Overloaded, Quota, RateLimited, Server};
        for (body, expected) in [
            (
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Quota,
            ),
            (r#"{"error":{"message":"m","type":"budget_exceeded","code":"400"}}"#, Quota),
            (r#"{"error":{"message":"m","code":"billing_hard_limit_reached"}}"#, Quota),
            (r#"{"error":{"code":"1113","message":"unpaid"}}"#, Quota),
            (r#"{"error":{"code":1113,"message":"unpaid"}}"#, Quota),
            (r#"{"error":{"code":"1302","message":"m"}}"#, Other),
            (r#"{"error":{"code":402,"message":"m"}}"#, Quota),
            (r#"{"error":{"code":"content_filter","status":400}}"#, Filtered),
            (r#"{"error":{"message":"m","code":429}}"#, RateLimited),
            (r#"{"error":{"type":"rate_limit_exceeded"}}"#, RateLimited),
            (r#"{"error":{"message":"Model is overloaded","http_status_code":422}}"#, Overloaded),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, Overloaded),
            (
                r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
                Overloaded,
            ),
            (
                r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#,
                Invalid,
            ),
            (r#"{"error":{"message":"m","type":"server_error"}}"#, Server),
            (r#"{"error":{"message":"m","code":502}}"#, Server),
            (r#"{"error":{"message":"Model is overloaded"}}"#, Overloaded),
            (r#"{"error":{"code":400,"message":"Token limit reached"},"choices":[]}"#, Invalid),
            (r#"{"code":400,"message":"exceeds context","type":"invalid_request_error"}"#, Invalid),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                Server,
            ),
            (r#"{"error":"m"}"#, Other),
            ("Internal Server Error", Other),
        ] {
            assert_eq!(read(body).2, expected, "{body}");
        }
    }

    #[test]
    fn a_hostile_message_cannot_forge_log_lines() {
        let error = ReportedError::from_body(br#"{"error":"a\nlevel=ERROR \u001b[31mb"}"#);
        let detail = error.detail(Failure::Http4xx);
        assert_eq!(detail.message, "a level=ERROR  [31mb");
    }
}
