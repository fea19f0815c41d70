//! Suggests remedies: a similar name, or the llmload form of a key or value from another tool.

use std::net::IpAddr;

use super::problem::{Mistake, ProblemKind};
use super::tree::{Value, excerpt};

/// Keys of a source of prompts. If the name of a source is one of them, the user probably forgot to
/// give the source a name.
const SOURCE_KEYS: [&str; 10] = [
    "lines",
    "pairs",
    "payloads",
    "sharegpt",
    "jsonl",
    "conversations",
    "template",
    "field",
    "order",
    "mix",
];

/// Examples of values, for the remedy of a value of the wrong type. `*` stands for a key that the
/// user chooses, and `[]` for an entry of a list.
const EXAMPLES: [(&str, &str); 57] = [
    ("targets", "{main: {base_url: http://localhost:8000/v1}}"),
    ("targets.*", "{base_url: http://localhost:8000/v1}"),
    ("base_url", "http://localhost:8000/v1"),
    ("simulator", "{}"),
    ("faults", "{http_429: 1%}"),
    ("extra_body", "{min_tokens: 1}"),
    ("headers", "{x-team: staging}"),
    ("headers.*", "{env: TEAM_TOKEN}"),
    ("query", "{api-version: \"2024-10-21\"}"),
    ("query.*", "{env: TEAM_TOKEN}"),
    ("tls", "{ca_file: ca.pem}"),
    ("timeouts", "{first_token: 10s, total: 2m}"),
    ("rate_limits", "{requests_per_minute: 600}"),
    ("prices", "{input_per_million: 0.15, output_per_million: 0.60}"),
    ("prompts", "[\"Say hello.\"]"),
    ("prompts.*", "[\"Say hello.\"]"),
    ("inline", "[\"Say hello.\"]"),
    ("synthetic", "{input_tokens: 512, output_tokens: 128}"),
    ("input_tokens", "{mean: 512, stddev: 128}"),
    ("output_tokens", "{mean: 128, stddev: 32}"),
    ("turns", "{mean: 4, stddev: 2}"),
    ("think_time", "{mean: 5s, stddev: 2s}"),
    ("mix", "{short: 3, long: 1}"),
    ("scenarios", "{main: {rate: 5/s}}"),
    ("scenarios.*", "{rate: 5/s}"),
    ("request", "{max_tokens: 128}"),
    ("extra", "{top_p: 0.9}"),
    ("arrivals", "poisson"),
    ("start", "when_ready"),
    ("wall_clock", "{timezone: Europe/Berlin}"),
    ("active", "{days: mon-fri, hours: \"08:00-20:00\"}"),
    ("active[]", "{days: mon-fri, hours: \"08:00-20:00\"}"),
    ("schedule", "[{constant: 5/s, for: 10m}]"),
    ("schedule[]", "{constant: 5/s, for: 10m}"),
    ("phases", "[{constant: 5/s, for: 10m}]"),
    ("phases[]", "{constant: 5/s, for: 10m}"),
    ("ramp", "{to: 50/s}"),
    ("steps", "{from: 10/s, to: 50/s, by: 10/s}"),
    ("sine", "{mean: 20/s, amplitude: 15/s, period: 1h}"),
    ("replay", "{file: trace.jsonl}"),
    ("breaker", "{failures: 50%, over: 60s}"),
    ("budgets", "[{per: day, requests: 20000}]"),
    ("budgets[]", "{per: day, requests: 20000}"),
    ("slo", "{ttft: {p99: 1s}}"),
    ("ttft", "{p99: 1s}"),
    ("tpot", "{p99: 50ms}"),
    ("e2e_latency", "{p99: 30s}"),
    ("failures", "{dir: failures}"),
    ("resources", "{host: true, gpu: true}"),
    ("observe", "{vllm: /metrics}"),
    ("metrics", "{max_combinations: 32}"),
    ("buckets", "{time_to_first_token_seconds: [0.1, 0.5, 1, 5]}"),
    ("buckets.*", "[0.1, 0.5, 1, 5]"),
    // Of the web configuration file.
    ("tls_server_config", "{cert_file: server.crt, key_file: server.key}"),
    ("http_server_config", "{http2: false}"),
    ("basic_auth_users", "{alice: HASH}"),
    ("rate_limit", "{interval: 1s, burst: 20}"),
];

/// Returns the name that `word` probably misspells.
pub fn nearest_name<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1.max(name.len() / 3))
        // If every letter differs, the names have nothing in common.
        .filter(|(distance, name)| *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Formats names as a list of alternatives: `` `a`, `b` or `c` ``.
pub fn or_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn comma_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Returns the mistake for a text that is none of the allowed choices.
pub fn not_a_choice<'a>(text: &str, choices: impl Iterator<Item = &'a str>) -> Mistake {
    let remedy = format!("write {}", or_list(choices));
    Mistake::new(format!("`{}` is not a valid choice", excerpt(text)), remedy)
}

/// Returns the mistake for a key that is not among the `known` keys of its map.
pub fn unknown_key(key: &str, known: &[&str]) -> Mistake {
    let message = format!("unknown key `{}`", excerpt(key));
    let misspelled = |name: &str| {
        let remedy = format!("did you mean `{name}`?");
        Mistake::new(message.as_str(), remedy).of_kind(ProblemKind::MisspelledKey)
    };
    if let Some(name) = synonym(key, known) {
        return misspelled(name);
    }
    if let Some(remedy) = remedy_for_foreign_key(key, known) {
        return Mistake::new(message, remedy).of_kind(ProblemKind::UnknownKey);
    }
    if let Some(name) = nearest_name(key, known.iter().copied()) {
        return misspelled(name);
    }
    // Only the map `request` has both of these keys. Its unknown keys are usually fields of the
    // request body.
    let remedy = if known.contains(&"max_tokens") && known.contains(&"extra") {
        format!("write it in `extra: {{{}: …}}`", excerpt(key))
    } else {
        format!("the keys here are {}", comma_list(known.iter().copied()))
    };
    Mistake::new(message, remedy).of_kind(ProblemKind::UnknownKey)
}

/// Returns the key in `known` that has the same meaning as `key`, a name from other tools.
fn synonym(key: &str, known: &[&str]) -> Option<&'static str> {
    let name = match key {
        "url" | "endpoint" | "host" => "base_url",
        "duration" | "length" => "for",
        "tz" | "zone" => "timezone",
        "users" | "vus" | "workers" => "concurrency",
        _ => return None,
    };
    known.contains(&name).then_some(name)
}

/// Returns the remedy for a key that belongs elsewhere in the file, or to another tool.
fn remedy_for_foreign_key(key: &str, known: &[&str]) -> Option<&'static str> {
    let has = |name: &str| known.contains(&name);
    Some(match key {
        "<<" => "llmload does not support merge keys, so write the keys again",
        "api_key" | "apikey" | "key" | "token" | "password" if has("api_key_env") => {
            "never write the secret here; write `api_key_env: NAME` or `api_key_file: PATH`"
        }
        "qps" | "rps" | "requests_per_second" if has("rate") => "write `rate: 5/s`",
        "input_tokens" | "output_tokens" if has("synthetic") => {
            "the key belongs inside `synthetic`, so write `synthetic: {input_tokens: 512}`"
        }
        "n" if has("max_tokens") => "remove it, because each request has exactly one response",
        "target" if has("scenarios") => {
            "with `scenarios`, write `targets: {main: …}` instead of `target`"
        }
        "rate" | "concurrency" | "schedule" | "request" | "repeat" | "start" | "active"
        | "arrivals" | "max_concurrency" | "max_lag" | "breaker" | "slo" | "history"
        | "max_sessions" | "max_history" | "session_header"
            if has("scenarios") =>
        {
            "move it into a scenario, because the file has `targets` or `scenarios`"
        }
        "model" | "api" | "api_key_env" | "api_key_file" | "base_url" | "timeouts" | "headers"
        | "auth" | "prices" | "rate_limits" | "tls" | "terminal"
            if has("target") && !has("base_url") =>
        {
            "move it into the target: `target: {base_url: http://localhost:8000/v1, …}`"
        }
        _ => return None,
    })
}

/// Returns the remedy for a value of the wrong type at the key `path`.
pub fn remedy_for_wrong_type(path: &str, value: &Value) -> Option<String> {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    let intended = remedy_for_intention(above, key, value).map(str::to_owned);
    intended.or_else(|| {
        let example = example_of(above, key)?;
        let layout = match value {
            _ if example.starts_with("[{") => {
                let entry = if key == "budgets" { "budget" } else { "phase" };
                format!(", or begin each {entry} with `- `")
            }
            Value::Null if example.starts_with('{') && !key.ends_with(']') => {
                format!(", or indent its keys below `{key}:`")
            }
            _ => String::new(),
        };
        Some(format!("write `{example}`{layout}"))
    })
}

/// Returns an example of the value of a key, from [`EXAMPLES`].
fn example_of(above: &str, key: &str) -> Option<&'static str> {
    let map = above.rsplit('.').next().unwrap_or_default();
    let has_free_keys = match map {
        "targets" | "scenarios" | "prompts" => above == map,
        "headers" | "query" | "buckets" => true,
        _ => false,
    };
    let wanted = match key.split_once('[') {
        Some((list, _)) if !has_free_keys => format!("{list}[]"),
        None if has_free_keys => format!("{map}.*"),
        None => key.to_owned(),
        Some(_) => return None,
    };
    EXAMPLES.iter().find(|(key, _)| *key == wanted).map(|(_, example)| *example)
}

/// Returns the remedy for a common confusion, such as a list of targets under `target`.
fn remedy_for_intention(above: &str, key: &str, value: &Value) -> Option<&'static str> {
    Some(match (above, key, value) {
        ("http_server_config", "headers", _) => "write `{X-Frame-Options: deny}`",
        ("", "target", Value::List(_)) => {
            "for several targets write `targets: {a: …, b: …}` and a scenario with \
             `targets: [a, b]`"
        }
        (_, "target", Value::List(_)) => "for several targets write `targets: [a, b]`",
        (above, "targets", _) if !above.is_empty() => {
            "write `target` for one target, or a list `[a, b]`"
        }
        ("prompts", key, Value::Text(_)) if is_source_key(key) => {
            "give the source a name, `prompts: {mine: {lines: prompts.txt}}`"
        }
        ("prompts", _, Value::Text(_)) => {
            "write the prompts themselves, `[\"Say hello.\"]`, or a file, `{lines: prompts.txt}`"
        }
        (above, "prompts", Value::Map(_)) if !above.is_empty() => {
            "define the source at the top, `prompts: {mine: {lines: prompts.txt}}`, and write \
             `prompts: mine` here"
        }
        (above, item, Value::Map(_))
            if item.starts_with("prompts[") || above == "prompts" && item.ends_with(']') =>
        {
            "write each prompt as text, or keep objects in a file, \
             `prompts: {mine: {jsonl: prompts.jsonl}}`"
        }
        _ => return None,
    })
}

pub fn is_source_key(name: &str) -> bool {
    SOURCE_KEYS.contains(&name)
}

/// Adds `http://` or `https://` to a URL that lacks only its scheme. Returns `None` for any other
/// text: it can be an API key, which no message must quote.
pub fn url_with_scheme(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_~:/[]".contains(c);
    let authority =
        text.split('/').next().filter(|_| !text.contains("://") && text.chars().all(is_plain))?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let is_local = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_public_api = host.contains('.') && text.contains("/v1");
    let scheme = match port {
        Some(443) => "https",
        None if is_public_api && !is_local => "https",
        Some(_) => "http",
        None if is_local => "http",
        None => return None,
    };
    (!host.is_empty()).then(|| format!("{scheme}://{text}"))
}

/// Returns the mistake for a reference to an undefined name. `names` are the defined names.
pub fn unknown_reference<'a>(
    noun: &str,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Mistake {
    let message = format!("there is no {noun} `{}`", excerpt(name));
    let defined = comma_list(names.clone());
    let is_file = noun == "source of prompts" && (name.contains('/') || name.contains('.'));
    let remedy = match (nearest_name(name, names), defined.as_str()) {
        (None, _) if is_file => "give the file a name at the top, \
                                 `prompts: {mine: {lines: FILE}}`, and write `prompts: mine` here"
            .to_owned(),
        (_, "") => format!("define a {noun} first"),
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, _) => format!("write one of {defined}"),
    };
    Mistake::new(message, remedy)
}

/// Returns the mistake for an unknown time zone. For a city, the remedy is the time zone of the
/// city. For any other name, it is a similar name.
pub fn unknown_zone(name: &str, zones: &[String]) -> Mistake {
    let city = name.trim().to_lowercase().replace(' ', "_");
    let is_of_city =
        |zone: &&String| zone.rsplit('/').next().is_some_and(|end| end.to_lowercase() == city);
    let near = || nearest_name(name, zones.iter().map(String::as_str));
    let remedy = match zones.iter().find(is_of_city).map(String::as_str).or_else(near) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write an IANA name such as `Europe/Berlin` or `UTC`".to_owned(),
    };
    Mistake::new(format!("there is no time zone `{}`", excerpt(name)), remedy)
}
