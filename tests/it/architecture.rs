//! Checks the rules of the architecture in the source text: imports between modules, and the use of
//! outside crates.
//!
//! The tables define the rules. Each test also applies its rule to an example that breaks the rule.
//! This proves that the test can fail.

use std::path::{Path, PathBuf};

#[path = "../messages/lexer.rs"]
mod lexer;

/// The layers of `src/lib.rs`, the lowest first. A module can import from lower layers, and from
/// the modules before it in its layer.
const LAYERS: &[&[&str]] = &[
    &["simulator"],
    &[
        "random",
        "buckets",
        "measurement",
        "slo",
        "schedule",
        "capacity",
        "calendar",
        "protocol",
        "prompts",
    ],
    &["event", "ledger", "schedule_state", "pairing"],
    &["plan", "config"],
    &["pacer", "timetable", "guard"],
    &["deadline", "endpoint", "exchange", "launch"],
    &[
        "stderr",
        "remedy",
        "generator",
        "machine",
        "archive",
        "budget_state",
        "metrics",
        "check",
        "probe",
        "failures",
        "incidents",
        "recent",
        "tally",
        "observe",
        "status",
        "control",
        "web",
        "report",
    ],
    &["scenario", "daemon", "cli"],
];

/// For each outside crate, the modules that can use it. The longest matching row applies: for
/// `hyper::server::conn`, this is `hyper::server` and not `hyper`.
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", &["cli"]),
    ("base64", &["endpoint", "web/security", "simulator"]),
    // The configuration checks that a text is a hash.
    ("bcrypt", &["config/web_file", "web/security"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli/manual"]),
    ("clap_mangen", &["cli/manual"]),
    ("csv_core", &["config/trace/row"]),
    ("governor", &["guard/bucket", "pacer"]),
    // Only `h2` defines the kinds of HTTP/2 errors.
    ("h2", &["endpoint"]),
    ("hdrhistogram", &["tally"]),
    ("http_body_util", &["web", "simulator"]),
    // `endpoint` distinguishes the errors of the HTTP client, which are from hyper.
    ("hyper", &["web", "simulator", "endpoint"]),
    ("hyper::server", &["web", "simulator"]),
    ("hyper_util", &["web", "simulator", "endpoint"]),
    ("hyper_util::server", &["web", "simulator"]),
    ("httparse", &["endpoint/http1/head"]),
    ("httpdate", &["protocol"]),
    ("jiff", &["calendar", "config"]),
    ("memchr", &["config", "observe", "protocol", "prompts"]),
    ("minijinja", &["prompts", "report"]),
    ("percent_encoding", &["config", "plan/unix_socket"]),
    ("prometheus", &["metrics"]),
    ("rand", &["random", "prompts", "schedule", "simulator"]),
    ("rand_chacha", &["random", "schedule", "simulator"]),
    ("rand_distr", &["prompts", "schedule"]),
    ("reqwest", &["endpoint"]),
    ("rlimit", &["check", "daemon"]),
    ("ring", &["web/security"]),
    ("rustls", &["endpoint", "web/security"]),
    // The configuration and `llmload health` check that a file contains certificates.
    (
        "rustls::pki_types",
        &[
            "cli/health",
            "config/validate/connection",
            "config/web_file",
            "endpoint",
            "web/security",
        ],
    ),
    ("rustls_platform_verifier", &["endpoint/tls"]),
    ("schemars", &["config"]),
    // `config` reads secrets, `plan` stores them, and `endpoint` sends them. `web` compares
    // passwords.
    ("secrecy", &["config", "plan", "endpoint", "web/security"]),
    ("serde_yaml", &["config/yaml"]),
    // `web` sets the permissions of a unix socket before its file exists.
    ("socket2", &["endpoint/http1/socket", "web/listen", "cli/health/connection"]),
    ("std::env", &["cli", "machine/query"]),
    // If another module wrote to stderr, it would wait for the reader of stderr.
    ("std::io::stderr", &["stderr"]),
    ("strsim", &["config"]),
    ("terminal_size", &["cli", "stderr"]),
    ("tokio::signal", &["cli"]),
    ("tokio_rustls", &["endpoint/http1", "web"]),
    ("tower_layer", &["endpoint"]),
    ("tower_service", &["endpoint"]),
    ("tracing_subscriber", &["cli"]),
    // The width of a text on a terminal.
    ("unicode_width", &["check"]),
    ("url", &["config", "plan", "endpoint", "probe", "failures", "daemon", "cli", "web"]),
    // Only this crate defines some kinds of certificate errors.
    ("webpki", &["endpoint", "web/security"]),
];

/// Outside crates that every module can use.
const EVERYWHERE: &[&str] = &[
    "bytes",
    "futures_util",
    "http",
    "serde",
    "serde_json",
    "thiserror",
    "tokio",
    "tokio_util",
    "tracing",
];

/// The results of pure modules depend only on their arguments. They do not use the runtime, the
/// clock, the log or I/O.
const PURE: &[&str] = &[
    "random",
    "buckets",
    "schedule",
    "calendar",
    "measurement",
    "slo",
    "capacity",
    "protocol",
    "prompts",
    "event",
    "ledger",
    "schedule_state",
    "pairing",
    "pacer",
    "timetable",
    "guard",
    "archive/share",
    "remedy",
    "generator/distortion",
    "generator/event_loop",
    "machine/gpu",
    "observe/catalog",
    "observe/exposition",
    "observe/series",
    "stderr/backlog",
];

/// Paths that pure modules must not use, each with its only exception. [`TIME`] is always allowed,
/// because a time is a value.
const IMPURE: &[(&str, Option<&str>)] = &[
    ("std::env", None),
    // Reads the prompt files once, with the configuration.
    ("std::fs", Some("prompts/load")),
    ("std::net", None),
    ("std::process", None),
    ("std::thread::sleep", None),
    ("std::thread::spawn", None),
    ("tokio", None),
    ("tracing", None),
];
const TIME: &str = "tokio::time::Instant";
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now"];

const VAGUE_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"];

const MAX_LINES: usize = 450;
/// The files that are allowed to be longer than [`MAX_LINES`], each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

// ---- The rules -------------------------------------------------------------------------------

fn opens_with_its_purpose(file: &Source) -> Vec<String> {
    let opens = file.text.starts_with("//! ");
    if opens { Vec::new() } else { vec![format!("{}: does not open with `//!`", file.path)] }
}

fn imports_point_down(file: &Source) -> Vec<String> {
    // `lib.rs` lists all modules, and `main.rs` is in no layer.
    let Some(own) = file.top_module() else { return Vec::new() };
    let Some(own_rank) = rank(own) else {
        return vec![format!("{}: `{own}` is in no layer", file.path)];
    };
    let wrong = |mention: &Mention| {
        let imported = mention.path.strip_prefix("crate::")?.split("::").next()?;
        let why = match rank(imported) {
            _ if imported == own => return None,
            Some(other) if other < own_rank => return None,
            Some(_) => "is not below it",
            None => "is in no layer",
        };
        Some(format!(
            "{}:{}: `{own}` imports `{}`, which {why}",
            file.path, mention.line, mention.path
        ))
    };
    // Tests can import every public module.
    let mentions = file.mentions();
    let mut wrong: Vec<_> = mentions.iter().filter(|m| !m.in_test).filter_map(wrong).collect();
    for mention in mentions {
        let climbs = mention.path.split("::").take_while(|part| *part == "super").count();
        if climbs >= file.depth() + usize::from(mention.in_test) {
            wrong.push(format!(
                "{}:{}: climbs out of its module; write `crate::`",
                file.path, mention.line
            ));
        }
    }
    wrong
}

fn crates_are_used_only_at_home(file: &Source) -> Vec<String> {
    // Integration tests can use every crate.
    if file.module().is_none() {
        return Vec::new();
    }
    let homeless = |mention: Mention| {
        let rows = HOMES.iter().filter(|(name, _)| starts_with(&mention.path, name));
        let (name, homes) = rows.max_by_key(|(name, _)| name.len())?;
        let at_home = homes.iter().any(|home| file.is_in(home));
        (!at_home && !mention.in_test).then(|| {
            format!(
                "{}:{}: `{}`; the home of `{name}` is {homes:?}",
                file.path, mention.line, mention.path
            )
        })
    };
    file.mentions().into_iter().filter_map(homeless).collect()
}

fn pure_modules_stay_pure(file: &Source) -> Vec<String> {
    if !PURE.iter().any(|module| file.is_in(module)) {
        return Vec::new();
    }
    let impure = |mention: &Mention| {
        let forbidden = IMPURE.iter().any(|(name, except)| {
            starts_with(&mention.path, name) && !except.is_some_and(|module| file.is_in(module))
        });
        let reads_clock = CLOCKS
            .iter()
            .any(|clock| mention.path == *clock || mention.path.ends_with(&format!("::{clock}")));
        (forbidden && mention.path != TIME) || reads_clock
    };
    let mut wrong: Vec<_> = file
        .mentions()
        .iter()
        .filter(|mention| !mention.in_test && impure(mention))
        .map(|mention| {
            format!("{}:{}: `{}` in a pure module", file.path, mention.line, mention.path)
        })
        .collect();
    // A call of the method `elapsed` reads the clock, but is not one of these paths.
    let code = code_of(&file.text);
    let production = &code[..test_start(&code)];
    if production.contains(".elapsed()") {
        wrong.push(format!("{}: `.elapsed()` in a pure module", file.path));
    }
    wrong
}

fn names_are_specific(file: &Source) -> Vec<String> {
    let code = code_of(&file.text);
    let modules = code.split_whitespace().zip(code.split_whitespace().skip(1));
    let inside =
        modules.filter(|(word, _)| *word == "mod").map(|(_, name)| name.trim_end_matches(';'));
    let parts = file.path.trim_end_matches(".rs").split('/').chain(inside);
    let empty = parts.filter(|part| VAGUE_NAMES.contains(part));
    empty.map(|part| format!("{}: `{part}` is a vague name", file.path)).collect()
}

fn is_short(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    let listed = LONG_FILES.iter().any(|(path, reason)| *path == file.path && !reason.is_empty());
    match (file.path.starts_with("src/") && lines > MAX_LINES, listed) {
        (true, false) => {
            vec![format!("{}: {lines} lines; split it if it has two purposes", file.path)]
        }
        (false, true) => {
            vec![format!("{}: {lines} lines; remove it from LONG_FILES", file.path)]
        }
        _ => Vec::new(),
    }
}

// ---- The sources -----------------------------------------------------------------------------

/// The path is relative to the repository.
struct Source {
    path: String,
    text: String,
}

/// A path in the code, such as `std::fs::read`. `use a::{b, c}` has two paths.
#[derive(Debug, PartialEq)]
struct Mention {
    line: usize,
    path: String,
    in_test: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// Returns `config/validate` for `src/config/validate.rs`; `None` outside `src/`.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.strip_suffix(".rs")
    }

    fn top_module(&self) -> Option<&str> {
        let top = self.module()?.split('/').next()?;
        Some(top).filter(|top| !matches!(*top, "lib" | "main"))
    }

    fn depth(&self) -> usize {
        self.module().map_or(usize::MAX - 1, |module| module.split('/').count())
    }

    fn is_in(&self, module: &str) -> bool {
        self.module().is_some_and(|own| {
            own.strip_prefix(module).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        })
    }

    /// Returns every path outside comments and string literals.
    fn mentions(&self) -> Vec<Mention> {
        let code = code_of(&self.text);
        let test = if self.path.ends_with("/tests.rs") { 0 } else { test_start(&code) };
        let mut tokens = Tokens { code: &code, at: 0 };
        let (mut found, mut after_use) = (Vec::new(), false);
        while let Some((at, token)) = tokens.next() {
            if !is_identifier(token) {
                continue;
            }
            let mut paths = Vec::new();
            tokens.path("", token, &mut paths);
            let line = code[..at].matches('\n').count() + 1;
            let paths = paths.into_iter().filter(|path| after_use || path.contains("::"));
            found.extend(paths.map(|path| Mention { line, path, in_test: at >= test }));
            after_use = matches!(token, "use" | "crate");
        }
        found
    }
}

struct Tokens<'a> {
    code: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = &self.code[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.code[start..];
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next()?.len_utf8(),
            word => word,
        };
        self.at = start + length;
        Some((start, &rest[..length]))
    }

    fn peek(&self) -> &'a str {
        Tokens { ..*self }.next().map_or("", |(_, token)| token)
    }

    /// Collects every path that begins with `first`.
    fn path(&mut self, prefix: &str, first: &str, paths: &mut Vec<String>) {
        let path = if prefix.is_empty() { first.to_owned() } else { format!("{prefix}::{first}") };
        if self.peek() != "::" {
            return paths.push(path);
        }
        self.next();
        match self.peek() {
            "{" => {
                self.next();
                self.tree(&path, paths);
            }
            next if is_identifier(next) => {
                self.next();
                self.path(&path, next, paths);
            }
            // `<` or `*` follows, so the path ends here.
            _ => paths.push(path),
        }
    }

    fn tree(&mut self, prefix: &str, paths: &mut Vec<String>) {
        while let Some((_, token)) = self.next() {
            match token {
                "}" => return,
                "self" => paths.push(prefix.to_owned()),
                "as" => _ = self.next(),
                token if is_identifier(token) => self.path(prefix, token, paths),
                _ => {}
            }
        }
    }
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn starts_with(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn rank(module: &str) -> Option<(usize, usize)> {
    LAYERS.iter().enumerate().find_map(|(layer, modules)| {
        Some((layer, modules.iter().position(|name| *name == module)?))
    })
}

/// Returns the start of the unit tests, which are at the end of a file.
fn test_start(code: &str) -> usize {
    code.find("#[cfg(test)]\nmod ").unwrap_or(code.len())
}

/// Replaces comments, strings and characters by spaces. The length stays the same.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = lexer::token(rest, code.chars().next_back()).map_or(0, |(_, length)| length);
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path, into: &mut Vec<Source>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(repository()).unwrap().to_str().unwrap();
            into.push(Source::new(name, &std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn assert_rule(rule: fn(&Source) -> Vec<String>) {
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches"] {
        read(&repository().join(folder), &mut sources);
    }
    for file in ["src/lib.rs", "src/config/yaml.rs", "tests/it/architecture.rs"] {
        assert!(sources.iter().any(|source| source.path == file), "{file} was not checked");
    }
    let wrong: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn violations(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

// ---- The tests -------------------------------------------------------------------------------

#[test]
fn every_file_begins_with_a_module_comment() {
    assert_rule(opens_with_its_purpose);
    assert_eq!(violations(opens_with_its_purpose, "src/web.rs", "use std::fs;\n//! Late.\n"), 1);
    assert_eq!(violations(opens_with_its_purpose, "src/web.rs", ""), 1);
}

#[test]
fn modules_import_only_from_lower_layers() {
    assert_rule(imports_point_down);
    let breaks = |path, text| violations(imports_point_down, path, text);
    assert_eq!(breaks("src/protocol/chat.rs", "use crate::plan::RequestParameters;"), 1);
    assert_eq!(
        breaks(
            "src/protocol.rs",
            "use crate::{plan, measurement::{Usage, Failure}, web::WebState};"
        ),
        2
    );
    assert_eq!(
        breaks("src/event.rs", "fn f(counts: &crate::ledger::LedgerCounts) {}"),
        1,
        "a later module of the layer"
    );
    assert_eq!(
        breaks("src/ledger.rs", "use crate::event::DropReason;"),
        0,
        "an earlier module of the layer"
    );
    assert_eq!(breaks("src/utensils.rs", ""), 1, "a module without a layer");
    assert_eq!(breaks("src/web.rs", "use crate::utensils::Fork;"), 1);
    assert_eq!(breaks("src/event.rs", "use super::web;"), 1, "the rule also applies to `super`");
    assert_eq!(breaks("src/config/tree.rs", "use super::super::web;"), 1);
    assert_eq!(
        breaks("src/config/tree.rs", "use super::yaml;\n#[cfg(test)]\nmod tests { use super::*; }"),
        0
    );
    assert_eq!(breaks("src/event.rs", "//! See [`crate::web`].\nlet s = \"crate::web\";"), 0);
}

#[test]
fn the_documentation_of_the_crate_shows_the_same_layers() {
    let map = std::fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    let rows = map.lines().filter(|line| line.starts_with("//! |") && line.contains("[`"));
    let shown: Vec<Vec<&str>> = rows
        .map(|row| row.split("[`").skip(1).map(|rest| rest.split_once("`]").unwrap().0).collect())
        .collect();
    assert_eq!(shown, LAYERS);
    let mut declared: Vec<_> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let mut layered: Vec<_> = LAYERS.concat().iter().map(|name| format!("{name};")).collect();
    declared.sort_unstable();
    layered.sort_unstable();
    assert_eq!(declared, layered);
}

#[test]
fn every_outside_crate_is_used_only_by_its_home_modules() {
    assert_rule(crates_are_used_only_at_home);
    let breaks = |path, text| violations(crates_are_used_only_at_home, path, text);
    assert_eq!(breaks("src/daemon.rs", "Metrics(#[from] prometheus::Error),"), 1);
    assert_eq!(breaks("src/endpoint/faults.rs", "use hyper::{Error, server::conn};"), 1);
    assert_eq!(breaks("src/web.rs", "use hyper::server::conn::http1;"), 0);
    assert_eq!(breaks("src/status.rs", "use secrecy::ExposeSecret as _;"), 1);
    assert_eq!(breaks("src/launch.rs", "use governor as pace;"), 1);
    assert_eq!(
        breaks("src/config.rs", "use serde_yaml::Value;"),
        1,
        "a parent module is not allowed to use it"
    );
    assert_eq!(breaks("src/pacer.rs", "use governor::clock;"), 0);
    assert_eq!(breaks("src/pacers.rs", "use governor::clock;"), 1);
    assert_eq!(
        breaks("src/web.rs", "/* reqwest::Client */ let a = r#\"\"reqwest::Client\"\"#;"),
        0
    );
}

#[test]
fn every_outside_crate_has_a_home_module() {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = after.split("\n[").next().unwrap();
    let names =
        section.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")));
    let names: Vec<_> = names.collect();
    assert!(names.contains(&"governor".to_owned()), "{names:?}");
    let homeless = |name: &&String| {
        !HOMES.iter().any(|(housed, _)| housed == name) && !EVERYWHERE.contains(&name.as_str())
    };
    let without: Vec<_> = names.iter().filter(homeless).collect();
    assert!(without.is_empty(), "these crates are not in HOMES: {without:?}");
    assert!(homeless(&&"left_pad".to_owned()));
}

#[test]
fn pure_modules_do_not_use_the_clock_the_runtime_or_io() {
    assert_rule(pure_modules_stay_pure);
    let breaks = |path, text| violations(pure_modules_stay_pure, path, text);
    for impure in [
        "use tokio::net::TcpStream;",
        "use tokio::time::{Instant, sleep};",
        "fn f() { tokio::spawn(async {}); }",
        "let key = std::env::var(name);",
        "use std::{fs::File, time::Duration};",
        "let now = SystemTime::now();",
        "let now = tokio::time::Instant::now();",
        "let since = start.elapsed();",
        "tracing::warn!(k, \"late\");",
        "use tracing::info;",
    ] {
        assert_eq!(breaks("src/pacer.rs", impure), 1, "{impure}");
        assert_eq!(breaks("src/schedule/rate.rs", impure), 1, "{impure}");
        assert_eq!(breaks("src/web.rs", impure), 0, "{impure}");
    }
    assert_eq!(breaks("src/pacer.rs", "use tokio::time::Instant;"), 0);
    assert_eq!(breaks("src/pacer.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }"), 0);
    assert_eq!(breaks("src/prompts/load.rs", "use std::fs::File;"), 0);
    assert_eq!(breaks("src/prompts.rs", "use std::fs::File;"), 1);
}

#[test]
fn no_module_name_is_vague() {
    assert_rule(names_are_specific);
    assert_eq!(violations(names_are_specific, "src/utils.rs", ""), 1);
    assert_eq!(violations(names_are_specific, "tests/common/setup.rs", ""), 1);
    assert_eq!(
        violations(names_are_specific, "src/web.rs", "pub(crate) mod helpers;\nmod misc {}"),
        2
    );
}

#[test]
fn no_file_is_too_long() {
    assert_rule(is_short);
    assert_eq!(violations(is_short, "src/web.rs", &"line\n".repeat(MAX_LINES + 1)), 1);
    assert_eq!(violations(is_short, "src/web.rs", &"line\n".repeat(MAX_LINES)), 0);
    for (path, _) in LONG_FILES {
        assert!(repository().join(path).is_file(), "{path} is in LONG_FILES but does not exist");
        assert_eq!(violations(is_short, path, ""), 1, "{path}");
    }
}

/// `forbid` cannot be overridden by an attribute in the code, in contrast to `deny`.
#[test]
fn unsafe_code_is_forbidden() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let lints = manifest.split("[lints.rust]\n").nth(1).unwrap();
    assert!(lints.lines().any(|line| line == "unsafe_code = \"forbid\""), "{lints}");
}

#[test]
fn paths_in_comments_and_literals_are_not_checked() {
    let source = Source::new(
        "src/x.rs",
        "// a::b\nlet c = '\"'; let d = \"\\\" e::f\"; fn g<'h>(i: &'h j::k) {} let l = r#\"m\" n::o\"#; p::q()",
    );
    let paths: Vec<_> = source.mentions().into_iter().map(|m| m.path).collect();
    assert_eq!(paths, ["j::k", "p::q"]);
    let source = Source::new("src/x.rs", "use a::{self, b::{c as d, e::*}, f};\n::g::h::<i::j>();");
    let paths: Vec<_> = source.mentions().into_iter().map(|m| (m.line, m.path)).collect();
    let expected =
        [(1, "a"), (1, "a::b::c"), (1, "a::b::e"), (1, "a::f"), (2, "g::h"), (2, "i::j")];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}
