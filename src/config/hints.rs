//! What was probably meant: near names, and words for keys and forms that people bring from elsewhere.

use std::net::IpAddr;

use super::tree::Value;

/// The keys that say where the prompts of a source come from, and how it is gone through.
const SOURCE_KEYS: [&str; 9] =
    ["lines", "pairs", "payloads", "sharegpt", "jsonl", "template", "field", "order", "mix"];

/// The name nearest to `word`, if any is near enough to be a slip of the finger.
pub fn nearest_name<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `` `a`, `b` or `c` ``.
pub fn or_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The message for a key that is not one of `known`.
pub fn unknown_key(key: &str, known: &[&str]) -> String {
    let shown = super::tree::excerpt(key);
    if let Some(hint) = remedy_for_foreign_key(key, known) {
        return format!("unknown key `{shown}`; {hint}");
    }
    match nearest_name(key, known.iter().copied()) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => {
            format!("unknown key `{shown}`; the keys here are {}", and_list(known.iter().copied()))
        }
    }
}

/// What was meant by a value of a form that does not belong there.
pub fn remedy_for_shape(path: &str, value: &Value) -> Option<&'static str> {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    Some(match (above, key, value) {
        ("", "target", Value::List(_)) => {
            "for several write `targets: {a: …, b: …}` and a scenario with `targets: [a, b]`"
        }
        (_, "target", Value::List(_)) => "for several write `targets: [a, b]`",
        (_, "targets", Value::Text(_)) => "write `target` for one, or a list `[a, b]`",
        ("", "prompts", Value::Text(_)) => {
            "write the prompts themselves, `[\"Say hello.\"]`, or a name and a file, \
             `{mine: {lines: prompts.txt}}`"
        }
        ("prompts", key, Value::Text(_)) if is_source_key(key) => {
            "a source has a name first, write `prompts: {mine: {lines: prompts.txt}}`"
        }
        ("prompts", _, Value::Text(_)) => {
            "write the prompts themselves, `[\"Say hello.\"]`, or a file, `{lines: prompts.txt}`"
        }
        (above, "prompts", Value::Map(_)) if !above.is_empty() => {
            "define it at the top, `prompts: {mine: {lines: prompts.txt}}`, and write `prompts: mine` here"
        }
        (above, item, Value::Map(_))
            if item.starts_with("prompts[") || above == "prompts" && item.ends_with(']') =>
        {
            "write each prompt as text, or keep objects in a file, `prompts: {mine: {jsonl: prompts.jsonl}}`"
        }
        _ => return None,
    })
}

/// Whether what stands for the name of a source is a key of one.
pub fn is_source_key(name: &str) -> bool {
    SOURCE_KEYS.contains(&name)
}

/// A URL that lacks only its scheme, with it; `None` for what may be something else, such as a key in
/// the wrong place, which must not be quoted.
pub fn url_with_scheme(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_~:/[]".contains(c);
    let authority =
        text.split('/').next().filter(|_| !text.contains("://") && text.chars().all(plain))?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let near = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let far = host.contains('.') && text.contains("/v1");
    let scheme = match port {
        Some(443) => "https",
        None if far && !near => "https",
        Some(_) => "http",
        None if near => "http",
        None => return None,
    };
    (!host.is_empty()).then(|| format!("{scheme}://{text}"))
}

/// The message for a reference to something that is not there.
pub fn unknown_reference<'a>(
    noun: &str,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let shown = super::tree::excerpt(name);
    let there = and_list(names.clone());
    let file = noun == "source of prompts" && (name.contains('/') || name.contains('.'));
    match (nearest_name(name, names), there.as_str()) {
        (None, _) if file => format!(
            "there is no {noun} `{shown}`; a file has a name first, write `prompts: {{mine: {{lines: FILE}}}}` \
             at the top and `prompts: mine` here"
        ),
        (_, "") => format!("there is no {noun} `{shown}`; none is defined"),
        (Some(near), _) => {
            format!("there is no {noun} `{shown}`; did you mean `{near}`? (there: {there})")
        }
        (None, _) => format!("there is no {noun} `{shown}`; there: {there}"),
    }
}

/// The message for a time zone that is not there: a near name, or the one that ends in this city.
pub fn unknown_zone(name: &str, zones: &[String]) -> String {
    let shown = super::tree::excerpt(name);
    let city = name.trim().to_lowercase().replace(' ', "_");
    let ends =
        |zone: &&String| zone.rsplit('/').next().is_some_and(|end| end.to_lowercase() == city);
    let near = || nearest_name(name, zones.iter().map(String::as_str));
    match zones.iter().find(ends).map(String::as_str).or_else(near) {
        Some(near) => format!("there is no time zone `{shown}`; did you mean `{near}`?"),
        None => {
            format!(
                "there is no time zone `{shown}`; write an IANA name such as `Europe/Berlin` or `UTC`"
            )
        }
    }
}

fn and_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Keys whose right form no likeness of letters would find.
fn remedy_for_foreign_key(key: &str, known: &[&str]) -> Option<&'static str> {
    let has = |name: &str| known.contains(&name);
    Some(match key {
        "<<" => "merge keys have no meaning here, repeat the keys",
        "api_key" | "apikey" | "key" | "token" | "password" if has("api_key_env") => {
            "a secret never stands in the file, name the variable that holds it with `api_key_env` \
             or the file with `api_key_file`"
        }
        "url" | "endpoint" | "host" if has("base_url") => "did you mean `base_url`?",
        "duration" | "length" if has("for") => "did you mean `for`?",
        "qps" | "rps" | "requests_per_second" if has("rate") => "write `rate: 5/s`",
        "input_tokens" | "output_tokens" if has("synthetic") => {
            "it stands inside of `synthetic`, write `synthetic: {input_tokens: 512}`"
        }
        "tz" | "zone" if has("timezone") => "did you mean `timezone`?",
        "users" | "vus" | "workers" if has("concurrency") => "did you mean `concurrency`?",
        "n" if has("max_tokens") => "each request asks for one answer",
        "target" | "rate" | "concurrency" | "schedule" | "request" | "repeat" | "start"
        | "active" | "arrivals" | "max_concurrency" | "max_lag" | "slo"
            if has("scenarios") =>
        {
            "at the top it belongs to the short form, a file without `targets` and `scenarios`; \
             write it inside a scenario"
        }
        "model" | "api" | "api_key_env" | "api_key_file" | "base_url" | "timeouts" | "headers"
        | "auth" | "prices" | "tls" | "terminal"
            if has("target") && !has("base_url") =>
        {
            "it belongs to the target, write `target: {base_url: http://localhost:8000/v1, …}` with it"
        }
        _ => return None,
    })
}
