//! The names that a query can use: every exposed family, with its labels and their values.

use std::collections::{BTreeMap, BTreeSet};

use llmload::metrics::table::{self, Family, Kind};

use crate::server;

/// The known series by name, with the values of each label. `None` means any value.
pub struct Vocabulary {
    series: BTreeMap<String, BTreeMap<String, Option<Vec<String>>>>,
}

/// Labels from Prometheus or the Prometheus operator.
const SCRAPE_LABELS: [&str; 3] = ["job", "instance", "pod"];

/// A metric name in a query, and the matchers after it.
#[derive(Debug)]
struct Mention<'a> {
    name: &'a str,
    matchers: &'a str,
}

impl Vocabulary {
    /// Returns the names of the daemon, of Prometheus itself and of the model servers.
    pub fn new() -> Vocabulary {
        let mut vocabulary = Vocabulary { series: BTreeMap::new() };
        for family in families() {
            let labels = family.labels.iter().map(|label| {
                let values = family
                    .values(label)
                    .map(|values| values.iter().map(ToString::to_string).collect());
                ((*label).to_owned(), values)
            });
            vocabulary.add(
                family.name,
                matches!(family.kind, Kind::Histogram(_)),
                &labels.collect(),
            );
        }
        for name in ["up", "scrape_duration_seconds", "scrape_samples_scraped"] {
            vocabulary.add(name, false, &BTreeMap::new());
        }
        for name in server::names() {
            let model = BTreeMap::from([("model_name".to_owned(), None)]);
            vocabulary.add(name, name.ends_with("_seconds"), &model);
        }
        vocabulary
    }

    pub fn add(
        &mut self,
        name: &str,
        histogram: bool,
        labels: &BTreeMap<String, Option<Vec<String>>>,
    ) {
        let mut labels = labels.clone();
        labels.extend(SCRAPE_LABELS.map(|label| (label.to_owned(), None)));
        if histogram {
            for suffix in ["_sum", "_count"] {
                self.series.insert(format!("{name}{suffix}"), labels.clone());
            }
            labels.insert("le".to_owned(), None);
            self.series.insert(format!("{name}_bucket"), labels);
        } else {
            self.series.insert(name.to_owned(), labels);
        }
    }

    /// Returns every unknown name, label and value in a query.
    pub fn unknown(&self, expression: &str) -> Vec<String> {
        if let Some((series, label)) = expression
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
        {
            return self.unknown(&format!("count by ({label}) ({series})"));
        }
        let (mut wrong, mut labels) = (Vec::new(), BTreeSet::from(["__name__"]));
        let mentions = mentions(expression);
        if mentions.is_empty() && !expression.starts_with("vector(") {
            wrong.push("the query has no metric".to_owned());
        }
        for Mention { name, matchers } in mentions {
            if name.is_empty() {
                // A selector can have a matcher for `__name__` instead of a metric name.
                for name in after(matchers, "__name__=~\"").flat_map(|names| names.split('|')) {
                    match self.series.get(name) {
                        Some(known) => labels.extend(known.keys().map(String::as_str)),
                        None => wrong.push(format!("no metric `{name}`")),
                    }
                }
                continue;
            }
            let Some(known) = self.series.get(name) else {
                wrong.push(format!("no metric `{name}`"));
                continue;
            };
            labels.extend(known.keys().map(String::as_str));
            let matcher = regex_lite::Regex::new("(\\w+)(=~|!~|!=|=)\"([^\"]*)\"").unwrap();
            for found in matcher.captures_iter(matchers) {
                let (label, value) =
                    (found.get(1).unwrap().as_str(), found.get(3).unwrap().as_str());
                let Some(values) = known.get(label) else {
                    wrong.push(format!("`{name}` has no label `{label}`"));
                    continue;
                };
                let literal = |value: &&str| !value.starts_with('$') && !value.is_empty();
                if let Some(values) = values {
                    let strange = value
                        .split('|')
                        .filter(literal)
                        .filter(|value| !values.iter().any(|v| v == value));
                    wrong.extend(
                        strange.map(|value| format!("`{label}` of `{name}` is never `{value}`")),
                    );
                }
            }
        }
        let grouping = regex_lite::Regex::new(
            "\\b(?:by|without|on|ignoring|group_left|group_right) ?\\(([^)]*)\\)",
        )
        .unwrap();
        for found in grouping.captures_iter(expression) {
            let names = found.get(1).unwrap().as_str().split(',').map(str::trim);
            let strange = names.filter(|name| {
                !name.is_empty() && !name.starts_with('$') && !labels.contains(name)
            });
            wrong.extend(strange.map(|name| format!("no metric in it has a label `{name}`")));
        }
        wrong
    }

    /// Returns the families of the daemon in an expression.
    pub fn families(expression: &str) -> BTreeSet<String> {
        let names = mentions(expression).into_iter().map(|mention| mention.name);
        names.map(|name| family_of(name).to_owned()).collect()
    }
}

/// Returns the family of a series. For a histogram, this removes a suffix such as `_bucket`.
fn family_of(name: &str) -> &str {
    let is_histogram = |family: &&str| {
        families().any(|known| known.name == *family && matches!(known.kind, Kind::Histogram(_)))
    };
    let suffixes = ["_bucket", "_sum", "_count"].into_iter();
    suffixes.filter_map(|suffix| name.strip_suffix(suffix)).find(is_histogram).unwrap_or(name)
}

/// Returns the texts between each `start` and the next quote.
fn after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start)
        .map(move |(at, _)| text[at + start.len()..].split('"').next().unwrap_or(""))
}

/// Returns the metric names in an expression, without functions, labels and operators.
fn mentions(expression: &str) -> Vec<Mention<'_>> {
    // The parentheses after these words contain labels.
    let groups =
        regex_lite::Regex::new("\\b(?:by|without|on|ignoring|group_left|group_right) ?\\([^)]*\\)")
            .unwrap();
    let lists: Vec<_> = groups.find_iter(expression).map(|found| found.range()).collect();
    let token = regex_lite::Regex::new(
        "\\$?[a-zA-Z_:][a-zA-Z0-9_:]*|\\{[^}]*\\}|\"[^\"]*\"|\\[[^\\]]*\\]|[0-9][0-9a-z.]*|\\$?\\{",
    )
    .unwrap();
    let operators = [
        "and",
        "or",
        "unless",
        "offset",
        "bool",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
    ];
    let mut found: Vec<Mention<'_>> = Vec::new();
    for hit in token.find_iter(expression) {
        let text = hit.as_str();
        let rest = expression[hit.end()..].trim_start();
        if lists.iter().any(|list| list.contains(&hit.start())) {
            continue;
        }
        if text.starts_with('{') {
            match found.last_mut() {
                Some(last)
                    if expression[..hit.start()].ends_with(last.name)
                        && last.matchers.is_empty()
                        && !last.name.is_empty() =>
                {
                    last.matchers = text;
                }
                _ => found.push(Mention { name: "", matchers: text }),
            }
        } else if text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == ':')
            && !rest.starts_with('(')
            && !operators.contains(&text)
            // In `sum by (…) (…)`, the name before `by` is an operator.
            && !["by", "without"].iter().any(|word| rest.starts_with(word))
        {
            found.push(Mention { name: text, matchers: "" });
        }
    }
    found
}

pub fn families() -> impl Iterator<Item = &'static Family> {
    table::ALL.iter().chain(table::PROCESS)
}

#[test]
fn unknown_names_labels_and_values_are_found() {
    let vocabulary = Vocabulary::new();
    let wrong = |expression: &str| vocabulary.unknown(expression);
    let none = Vec::<String>::new();
    assert_eq!(
        wrong("sum by (le) (rate(llmload_time_to_first_token_seconds_bucket{job=~\"$job\"}[5m]))"),
        none
    );
    assert_eq!(wrong("up{job=\"x\"} == 0 and on (job, instance) llmload_build_info"), none);
    assert_eq!(
        wrong("label_values({__name__=~\"vllm:num_requests_running\",job=~\"$server_job\"}, job)"),
        none
    );
    for (expression, problem) in [
        ("sum(llmload_arrival_total)", "no metric `llmload_arrival_total`"),
        (
            "llmload_time_to_first_token_seconds{job=\"x\"}",
            "no metric `llmload_time_to_first_token_seconds`",
        ),
        (
            "rate(llmload_arrivals_total{phase=\"x\"}[5m])",
            "`llmload_arrivals_total` has no label `phase`",
        ),
        (
            "llmload_arrivals_dropped_total{reason=~\"late|lazy\"}",
            "`reason` of `llmload_arrivals_dropped_total` is never `lazy`",
        ),
        ("sum by (reason) (llmload_arrivals_total)", "no metric in it has a label `reason`"),
        ("label_values({__name__=~\"vllm:gone\"}, job)", "no metric `vllm:gone`"),
        ("vector(0) + 1", ""),
        ("1 + 1", "the query has no metric"),
    ] {
        assert_eq!(wrong(expression).first().map_or("", String::as_str), problem, "{expression}");
    }
}
