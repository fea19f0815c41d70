//! Reads rate limits and request ids from a response head. Endpoints use many formats, and llmload
//! ignores values in unknown formats.

use std::time::{Duration, SystemTime};

use crate::measurement::printable;

/// A higher value is a defect of the server, or a Unix time instead of a duration.
const MAX_AMOUNT: f64 = 1e12;
/// In seconds. A longer wait is a Unix time instead of a duration.
const MAX_WAIT: f64 = 366.0 * 24.0 * 3600.0;

/// The headers with the id of a request, the best known first.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "apim-request-id", "x-ms-request-id", "request-id"];
/// In bytes.
const MAX_REQUEST_ID: usize = 64;

/// The rate limits that an endpoint reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateLimits {
    pub requests: Allowance,
    pub tokens: Allowance,
    /// The value of `retry-after`.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Allowance {
    pub limit: Option<f64>,
    pub remaining: Option<f64>,
    /// The time until the full `limit` is available again.
    pub reset: Option<Duration>,
}

impl RateLimits {
    /// Reads the limits from a response head. `header` returns the value of a header by name. A
    /// `retry-after` with a date needs `now`. Returns `None` if the head has no limits.
    pub fn read<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
        now: SystemTime,
    ) -> Option<RateLimits> {
        let allowance = |unit: &str| Allowance {
            limit: header(&format!("x-ratelimit-limit-{unit}")).and_then(amount),
            remaining: header(&format!("x-ratelimit-remaining-{unit}")).and_then(amount),
            reset: header(&format!("x-ratelimit-reset-{unit}")).and_then(duration),
        };
        let millis =
            header("retry-after-ms").and_then(amount).and_then(|millis| wait(millis / 1e3));
        let date = |text: &str| {
            let date = httpdate::parse_http_date(text).ok()?;
            wait(date.duration_since(now).unwrap_or_default().as_secs_f64())
        };
        let seconds =
            || header("retry-after").and_then(|text| duration(text).or_else(|| date(text)));
        let limits = RateLimits {
            requests: allowance("requests"),
            tokens: allowance("tokens"),
            retry_after: millis.or_else(seconds),
        };
        (limits != RateLimits::default()).then_some(limits)
    }
}

/// Returns the id that the endpoint gave to the request, safe to print.
pub fn request_id<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let id =
        REQUEST_IDS.into_iter().find_map(|name| header(name).filter(|id| !id.trim().is_empty()))?;
    Some(printable(id, MAX_REQUEST_ID))
}

/// Parses a number without a unit. Azure sends `-1` for an unknown value, which becomes `None`.
fn amount(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|amount| plain && *amount <= MAX_AMOUNT)
}

/// Parses seconds, or a duration in Go's format, such as `6m0s`, `2m59.56s` or `120ms`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(seconds) = amount(text) {
        return wait(seconds);
    }
    let (mut seconds, mut rest) = (0.0, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += amount(number)? * unit;
        rest = after;
    }
    wait(seconds)
}

fn wait(seconds: f64) -> Option<Duration> {
    (0.0..=MAX_WAIT).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Option<RateLimits> {
        let header =
            |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        // Sun, 06 Nov 1994 08:49:37 GMT
        RateLimits::read(header, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    fn retry(name: &str, value: &str) -> Option<u128> {
        Some(read(&[(name, value)])?.retry_after?.as_millis())
    }

    #[test]
    fn retry_after_is_read_as_seconds_date_or_duration() {
        for (value, millis) in [
            ("2", Some(2000)),
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30_000)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("inf", None),
            ("1e3", None),
            ("", None),
            ("1784111777", None),
        ] {
            assert_eq!(retry("retry-after", value), millis, "{value}");
        }
        assert_eq!(retry("retry-after-ms", "250"), Some(250));
        let both = read(&[("retry-after-ms", "250"), ("retry-after", "1")]).unwrap();
        assert_eq!(
            both.retry_after,
            Some(Duration::from_millis(250)),
            "the more precise header is used"
        );
    }

    #[test]
    fn rate_limits_are_read_in_the_formats_of_endpoints() {
        let openai = read(&[
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-limit-tokens", "800000"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "2m59.56s"),
        ])
        .unwrap();
        let (requests, tokens) = (openai.requests, openai.tokens);
        assert_eq!((requests.limit, requests.remaining), (Some(5000.0), Some(4999.0)));
        assert_eq!(requests.reset, Some(Duration::from_millis(12)));
        assert_eq!((tokens.limit, tokens.remaining), (Some(800_000.0), None), "-1 means unknown");
        assert_eq!(tokens.reset, Some(Duration::from_millis(179_560)));
        for odd in ["6m0", "m", "5x", "1h-3m", "..s", "9999999h"] {
            assert_eq!(read(&[("x-ratelimit-reset-requests", odd)]), None, "{odd}");
        }
        assert_eq!(read(&[("content-type", "text/html")]), None);
    }

    #[test]
    fn a_request_id_is_read_from_the_best_known_header() {
        let id = |headers: &[(&str, &str)]| {
            request_id(|name| {
                headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
            })
        };
        assert_eq!(id(&[("apim-request-id", "a"), ("x-request-id", "x")]).unwrap(), "x");
        assert_eq!(id(&[("apim-request-id", "a"), ("x-request-id", " ")]).unwrap(), "a");
        assert_eq!(id(&[]), None);
        let long = id(&[("x-request-id", &"x".repeat(500))]).unwrap();
        assert!(long.len() <= MAX_REQUEST_ID, "{long}");
    }

    proptest! {
        #[test]
        fn a_rate_limit_is_never_higher_than_the_plausible_maximum(text in ".{0,40}") {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-limit-requests"] {
                if let Some(limits) = read(&[(name, &text)]) {
                    prop_assert!(limits.retry_after.is_none_or(|wait| wait.as_secs_f64() <= MAX_WAIT));
                    prop_assert!(limits.requests.limit.is_none_or(|limit| (0.0..=MAX_AMOUNT).contains(&limit)));
                }
            }
        }

        #[test]
        fn a_duration_in_the_format_of_go_is_parsed(h in 0u32..9, m in 0u32..60, s in 0u32..60, ms in 1u32..1000) {
            let limits = read(&[("x-ratelimit-reset-tokens", &format!("{h}h{m}m{s}.{ms:03}s"))]).unwrap();
            let millis = u128::from(((h * 60 + m) * 60 + s) * 1000 + ms);
            prop_assert!(limits.tokens.reset.unwrap().as_millis().abs_diff(millis) <= 1);
        }
    }
}
