//! What was probably meant: near names, and words for keys that people bring from elsewhere.

/// The name nearest to `word`, if any is near enough to be a slip of the finger.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
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
    let shown = super::tree::shown(key);
    if let Some(hint) = familiar(key, known) {
        return format!("unknown key `{shown}`; {hint}");
    }
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => {
            format!("unknown key `{shown}`; the keys here are {}", and_list(known.iter().copied()))
        }
    }
}

/// The message for a reference to something that is not there.
pub fn dangling<'a>(noun: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown = super::tree::shown(name);
    let there = and_list(names.clone());
    match (nearest(name, names), there.as_str()) {
        (_, "") => format!("there is no {noun} `{shown}`; none is defined"),
        (Some(near), _) => {
            format!("there is no {noun} `{shown}`; did you mean `{near}`? (there: {there})")
        }
        (None, _) => format!("there is no {noun} `{shown}`; there: {there}"),
    }
}

/// The message for a time zone that is not there: a near name, or the one that ends in this city.
pub fn unknown_zone(name: &str, zones: &[String]) -> String {
    let shown = super::tree::shown(name);
    let city = name.trim().to_lowercase().replace(' ', "_");
    let ends = |zone: &&String| zone.rsplit('/').next().is_some_and(|end| end.to_lowercase() == city);
    let near = || nearest(name, zones.iter().map(String::as_str));
    match zones.iter().find(ends).map(String::as_str).or_else(near) {
        Some(near) => format!("there is no time zone `{shown}`; did you mean `{near}`?"),
        None => {
            format!("there is no time zone `{shown}`; write an IANA name such as `Europe/Berlin` or `UTC`")
        }
    }
}

fn and_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Keys whose right form no likeness of letters would find.
fn familiar(key: &str, known: &[&str]) -> Option<&'static str> {
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
        "tz" | "zone" if has("timezone") => "did you mean `timezone`?",
        "users" | "vus" | "workers" if has("concurrency") => "did you mean `concurrency`?",
        "n" if has("max_tokens") => "each request asks for one answer",
        "target" | "rate" | "concurrency" | "schedule" | "request" | "repeat" | "start" | "active"
        | "arrivals" | "max_concurrency" | "max_lag" | "slo"
            if has("scenarios") =>
        {
            "at the top it belongs to the short form, a file without `targets` and `scenarios`; \
             write it inside a scenario"
        }
        "model" | "api" | "api_key_env" | "api_key_file" | "base_url" | "timeouts" | "headers" | "auth"
        | "prices" | "tls" | "terminal"
            if has("target") && !has("base_url") =>
        {
            "it belongs to the target, write `target: {base_url: http://localhost:8000/v1, …}` with it"
        }
        _ => return None,
    })
}
