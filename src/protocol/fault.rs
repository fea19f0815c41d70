//! What endpoints say when they fail: an event inside a stream, or the body of an error status.
//!
//! There are as many shapes as servers. All are boiled down to a sentence for people, a code, and
//! one reason of a closed set. Nothing here is on the measured path.

use std::borrow::Cow;

use serde_json::Value;

use crate::measurement::{Failure, FailureCause, FailureDetail};

/// Longer reports are not parsed, only quoted.
const PARSED: usize = 64 << 10;
/// The longest message carried along; [`FailureDetail`] cuts it again for display.
const MESSAGE: usize = 1 << 10;

/// What kind of trouble an endpoint reports. Closed, unlike the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultReason {
    /// Too many requests or tokens for now.
    RateLimited,
    /// The endpoint cannot take more work.
    Overloaded,
    /// The account's quota, budget or balance is used up: waiting will not help.
    Quota,
    /// A content rule.
    Filtered,
    /// The request is at fault.
    Invalid,
    /// The endpoint is at fault.
    Server,
    /// It does not say.
    Other,
}

/// A failure in the endpoint's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For people; not yet made safe to print (see [`Fault::detail`]).
    pub message: String,
    /// The endpoint's code for it, if any.
    pub code: Option<String>,
    /// What kind of trouble it is.
    pub reason: FaultReason,
}

impl Fault {
    /// Reads the body of an error status: the usual `error` object, its many relatives, plain text or HTML.
    /// An empty or unreadable body gives an empty message.
    pub fn from_body(body: &[u8]) -> Fault {
        let head = &body[..body.len().min(PARSED)];
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim();
        if body.len() <= PARSED
            && let Ok(value @ (Value::Object(_) | Value::Array(_) | Value::String(_))) =
                serde_json::from_str(text)
        {
            return Fault::from_value(&value);
        }
        let said =
            if text.starts_with('<') { Cow::Owned(strip_tags(text)) } else { Cow::Borrowed(text) };
        Fault::from_words(&said, None, None, "")
    }

    fn from_value(value: &Value) -> Fault {
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

        let words = ["message", "detail", "msg", "error", "description"];
        let message =
            words.iter().map(|word| &subject[word]).find(|said| is_truthy(said)).unwrap_or(subject);
        let code = [&subject["code"], &value["code"]].into_iter().find_map(scalar);
        let status = ["http_status_code", "status_code", "status", "code"]
            .iter()
            .flat_map(|key| [&subject[key], &value[key]])
            .filter_map(scalar)
            .find_map(|status| status.parse().ok().filter(|status| (100..600).contains(status)));
        let kind = scalar(&subject["type"]).unwrap_or_default();
        Fault::from_words(&sentence(message), code, status, &kind)
    }

    fn from_words(message: &str, code: Option<String>, status: Option<u16>, kind: &str) -> Fault {
        let names = format!("{} {kind}", code.as_deref().unwrap_or_default()).to_ascii_lowercase();
        let reason = classify(&names, &message.to_ascii_lowercase(), status);
        Fault { message: cut(message, MESSAGE).to_owned(), code, reason }
    }

    /// Whether the account is used up: then a 429 is no rate limit.
    pub fn is_quota(&self) -> bool {
        self.reason == FaultReason::Quota
    }

    /// This fault as the detail of a failure class.
    pub fn detail(&self, failure: Failure) -> FailureDetail {
        FailureDetail::new(failure, &self.message)
    }
}

/// Codes and types that say that the account is used up.
const QUOTA: [&str; 6] = [
    "insufficient_quota",
    "budget_exceeded",
    "billing",
    "insufficient_balance",
    "insufficient_credit",
    "payment_required",
];

fn classify(names: &str, message: &str, status: Option<u16>) -> FaultReason {
    let is_named = |words: &[&str]| words.iter().any(|word| names.contains(word));
    if is_named(&QUOTA)
        || names.split_whitespace().any(|name| name == "1113")
        || status == Some(402)
    {
        FaultReason::Quota
    } else if is_named(&["content_filter", "content_policy", "safety", "moderation", "sensitive"]) {
        FaultReason::Filtered
    } else if status == Some(429)
        || is_named(&["rate_limit", "ratelimit", "too_many", "throttl", "resource_exhausted"])
    {
        FaultReason::RateLimited
    } else if matches!(status, Some(498 | 503 | 529))
        || is_named(&["overload", "unavailable", "capacity"])
        || message.contains("overload")
    {
        FaultReason::Overloaded
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
        FaultReason::Invalid
    } else if matches!(status, Some(500..=599))
        || is_named(&["server", "internal", "timeout", "api_error"])
    {
        FaultReason::Server
    } else {
        FaultReason::Other
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

/// A message as one sentence, also where it is a validator's list of problems or an object.
fn sentence(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().take(8).map(problem).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

fn problem(value: &Value) -> String {
    let Some(said) = value["msg"].as_str().or_else(|| value["message"].as_str()) else {
        return value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    };
    let place: Vec<String> =
        value["loc"].as_array().into_iter().flatten().filter_map(scalar).collect();
    if place.is_empty() { said.to_owned() } else { format!("{said} at {}", place.join(".")) }
}

/// What a page says once its tags, scripts and styles are gone.
fn strip_tags(html: &str) -> String {
    let mut said = String::new();
    let mut rest = html;
    while let Some((text, tag)) = rest.split_once('<') {
        said.push_str(text);
        said.push(' ');
        let hidden = ["script", "style"].into_iter().find(|name| {
            tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        });
        let tag = match hidden.and_then(|name| find_ignoring_case(tag, &format!("</{name}"))) {
            Some(end) => &tag[end..],
            None => tag,
        };
        rest = tag.split_once('>').map_or("", |(_, after)| after);
        if said.len() > 4 * MESSAGE {
            break;
        }
    }
    said.push_str(rest);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn find_ignoring_case(text: &str, what: &str) -> Option<usize> {
    text.as_bytes()
        .windows(what.len())
        .position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// What an answer with another status than 200 amounts to, by its status and the start of its body.
pub fn refusal(status: u16, body: &[u8]) -> FailureDetail {
    let fault = Fault::from_body(body);
    let failure = match status {
        402 => Failure::Quota,
        400..=499 if fault.is_quota() => Failure::Quota,
        401 | 403 => Failure::Auth,
        429 => Failure::RateLimited,
        498 | 503 | 529 => Failure::Overloaded,
        400..=499 => Failure::Http4xx,
        500..=599 => Failure::Http5xx,
        _ => Failure::HttpUnexpected,
    };
    let words = if fault.message.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {}", fault.message)
    };
    FailureDetail::new(failure, &words).with_cause(FailureCause::Status(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (String, Option<String>, FaultReason) {
        let fault = Fault::from_body(body.as_bytes());
        (fault.message, fault.code, fault.reason)
    }

    fn message(body: &str) -> String {
        read(body).0
    }

    #[test]
    fn messages_of_many_shapes() {
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
    fn a_page_is_reduced_to_what_it_says() {
        let page = "<!DOCTYPE html><html><HEAD><style>p{a:b}</style><title>502 Bad Gateway</title>\
                    <script>if (1<2) {}</SCRIPT></head>\n<body><h1>502  Bad&nbsp;Gateway</h1></body></html>";
        assert_eq!(message(page), "502 Bad Gateway 502 Bad&nbsp;Gateway");
        assert_eq!(message("<script"), "");
    }

    #[test]
    fn what_is_not_utf8_or_too_long_is_quoted_within_bounds() {
        assert_eq!(Fault::from_body(b"a\xffb").message, "a\u{fffd}b");
        let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(1 << 20));
        let said = Fault::from_body(long.as_bytes()).message;
        assert!(said.starts_with("{\"error\"") && said.len() <= MESSAGE);
    }

    #[test]
    fn reasons() {
        use FaultReason::{Filtered, Invalid, Other, Overloaded, Quota, RateLimited, Server};
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
        let fault = Fault::from_body(br#"{"error":"a\nlevel=ERROR \u001b[31mb"}"#);
        let detail = fault.detail(Failure::Http4xx);
        assert_eq!(detail.message, "a level=ERROR  [31mb");
    }
}
