//! From documents to a [`Plan`]: what the values mean together.
//!
//! Each topic has a file below. All of them note problems in one [`Validator`] and go on, so that
//! one reading tells everything; a plan comes out only if nothing was noted.

mod calendar;
mod connection;
mod definitions;
mod dialect;
mod metrics;
mod prices;
mod prompts;
mod replay;
mod request;
mod scenario;
mod schedule;
mod secret;
mod shapes;
mod simulator;
mod slo;
mod synthetic;
mod target;

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::document::{LongForm, Scenario, ShortForm, ShortPrompts, ShortTarget, Target};
use super::duration::HumanDuration;
use super::field::{Field, FieldMap, Located};
use super::hints;
use super::reader::{Finding, Findings, TreeDeserializer};
use super::scalar::{Count, Span};
use super::tree::{NodeId, Tree, Value, excerpt};
use super::variables::Variables;
use crate::buckets::Buckets;
use crate::plan;
use definitions::{Definitions, noun};
pub use scenario::DEFAULT_MAX_CONCURRENCY;
pub use secret::is_sensitive;

/// The name of the one target and the one scenario of the short form.
const ONLY: &str = "default";

/// What came out well, before the text is added that makes it a [`plan::Plan`].
pub struct Validated {
    /// Everything random follows from it.
    pub seed: u64,
    /// In the order of the file.
    pub scenarios: Vec<plan::Scenario>,
    /// Where the buckets of the histograms lie.
    pub buckets: Buckets,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Finding>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads the tree as one of the two forms and checks it. What is wrong is added to `found`; the
/// outcome counts only if nothing was.
pub fn validate(
    tree: &Tree,
    variables: &Variables<'_>,
    base: &Path,
    found: &Findings,
) -> Validated {
    let check = Validator {
        tree,
        variables,
        base,
        found,
        warnings: Findings::default(),
        files: RefCell::default(),
    };
    let reader = TreeDeserializer::new(tree, found);
    let (seed, scenarios, buckets) = match tree.value(NodeId::ROOT) {
        Value::Map(_)
            if ["targets", "scenarios"].iter().any(|k| tree.get(NodeId::ROOT, k).is_some()) =>
        {
            match <LongForm as serde::Deserialize>::deserialize(reader) {
                Ok(form) => check.long(&form),
                Err(error) => check.nothing(&error.to_string()),
            }
        }
        Value::Map(_) => match <ShortForm as serde::Deserialize>::deserialize(reader) {
            Ok(form) => check.short(form),
            Err(error) => check.nothing(&error.to_string()),
        },
        _ => check.nothing(
            "the file is not a map of keys and values; at its shortest it says \
             `target: http://localhost:8000/v1` and `rate: 5/s`",
        ),
    };
    let (warnings, files) = (check.warnings.into_inner(), check.files.into_inner());
    Validated { seed, scenarios, buckets, warnings, files }
}

/// The seed, the scenarios and the buckets of either form.
type FormParts = (u64, Vec<plan::Scenario>, Buckets);

/// What every topic needs to check its values and to note what is wrong.
struct Validator<'a> {
    tree: &'a Tree,
    variables: &'a Variables<'a>,
    base: &'a Path,
    found: &'a Findings,
    warnings: Findings,
    files: RefCell<Vec<PathBuf>>,
}

impl Validator<'_> {
    /// Notes a problem; after a semicolon, what would be right.
    fn problem(&self, node: NodeId, message: impl Into<String>) {
        self.found.borrow_mut().push(Finding { node, message: message.into() });
    }

    /// Notes that something is missing from a map, unless a key there is a slip of the finger for
    /// what is missing: that has been said then.
    fn missing(&self, node: NodeId, message: impl Into<String>) {
        let slip = self.found.borrow().iter().any(|finding| {
            finding.message.starts_with("unknown key")
                && finding.message.contains("did you mean")
                && self.tree.parent(finding.node) == node
        });
        if !slip {
            self.problem(node, message);
        }
    }

    fn warn(&self, node: NodeId, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Finding { node, message: message.into() });
    }

    fn nothing(&self, message: &str) -> FormParts {
        self.problem(NodeId::ROOT, message);
        (0, Vec::new(), Buckets::default())
    }

    fn long(&self, form: &LongForm) -> FormParts {
        let seed = seed(&form.seed);
        if form.targets.is_absent() {
            self.missing(NodeId::ROOT, "`targets` is missing; name at least one endpoint there");
        }
        if form.scenarios.is_absent() {
            self.missing(
                NodeId::ROOT,
                "`scenarios` is missing; say there what load to put on the targets",
            );
        }
        let targets = self.definitions("target", &form.targets, |name, target, node| {
            self.target(name, target, node, seed).map(Arc::new)
        });
        let prompts = self.sources(&form.prompts);
        let mut scenarios = Vec::new();
        for (name, document) in self.entries(&form.scenarios, "scenario") {
            let Some(document) = document.present() else {
                continue;
            };
            if let Some(scenario) =
                self.scenario(name, &document.value, document.node, &targets, &prompts)
            {
                scenarios.push(scenario);
            }
        }
        let (most, buckets) = self.metrics(&form.metrics);
        if let (Some(located), Some(most)) = (form.scenarios.present(), most) {
            let streams =
                scenarios.iter().map(|scenario| scenario.targets().count()).sum::<usize>();
            self.combinations(located.node, streams.max(located.value.0.len()), most);
        }
        self.unused(&targets);
        self.unused(&prompts);
        (seed, scenarios, buckets)
    }

    /// The short form is a long one with one nameless target and scenario.
    fn short(&self, form: ShortForm) -> FormParts {
        let seed = seed(&form.seed);
        // One stream is within any limit.
        let (_, buckets) = self.metrics(&form.metrics);
        let target = match form.target {
            Field::Absent => {
                self.missing(
                    NodeId::ROOT,
                    "`target` is missing; write the endpoint's URL, such as \
                     `target: http://localhost:8000/v1`",
                );
                None
            }
            Field::Invalid(_) => None,
            Field::Present(Located { node, value }) => {
                let target = match value {
                    ShortTarget::Map(target) => *target,
                    ShortTarget::Text(url) => Target {
                        base_url: Field::Present(Located { node, value: url }),
                        ..Target::default()
                    },
                };
                self.target(ONLY, &target, node, seed).map(Arc::new)
            }
        };
        let targets = Definitions::one("target", ONLY, target);
        let prompts = match form.prompts {
            Field::Absent => Definitions::none("prompts"),
            Field::Invalid(_) => Definitions::one("prompts", ONLY, None),
            Field::Present(Located { node, value: ShortPrompts::Map(map) }) => {
                self.sources(&Field::Present(Located { node, value: map }))
            }
            Field::Present(Located { node, value: ShortPrompts::List(list) }) => {
                Definitions::one("prompts", "inline", self.inline("inline", node, &list))
            }
        };
        if let [_, (second_name, second, value), ..] = prompts.entries.as_slice() {
            // That its keys want a name before them has been said.
            if value.is_none() && hints::is_source_key(second_name) {
                return (seed, Vec::new(), buckets);
            }
            self.problem(
                *second,
                "the short form has one source of prompts; for several write `targets`, `prompts` \
                 and `scenarios`",
            );
            return (seed, Vec::new(), buckets);
        }
        let scenario = Scenario {
            target: Field::Absent,
            targets: Field::Absent,
            prompts: Field::Absent,
            order: form.order,
            prefix_cache: form.prefix_cache,
            request: form.request,
            arrivals: form.arrivals,
            start: form.start,
            active: form.active,
            repeat: form.repeat,
            schedule: form.schedule,
            rate: form.rate,
            concurrency: form.concurrency,
            max_concurrency: form.max_concurrency,
            max_lag: form.max_lag,
            warmup: form.warmup,
            slo: form.slo,
        };
        let scenario = self.scenario(ONLY, &scenario, NodeId::ROOT, &targets, &prompts);
        (seed, scenario.into_iter().collect(), buckets)
    }

    /// The entries of a map that the user names, each name checked.
    fn entries<'f, T>(
        &self,
        field: &'f Field<FieldMap<T>>,
        kind: &str,
    ) -> impl Iterator<Item = (&'f str, &'f Field<T>)> {
        let entries = field.present().map(|located| {
            if located.value.0.is_empty() {
                self.problem(
                    located.node,
                    format!("it is empty; name at least one {}", noun(kind)),
                );
            }
            for (name, _) in &located.value.0 {
                self.name(name, kind);
            }
            located.value.0.iter().map(|(name, value)| (name.value.as_str(), value))
        });
        entries.into_iter().flatten()
    }

    /// Names become label values and file names.
    fn name(&self, name: &Located<String>, kind: &str) {
        let good = (1..=63).contains(&name.value.len())
            && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !good {
            self.problem(
                name.node,
                format!(
                    "`{}` cannot be the name of a {}; use 1 to 63 letters, digits, `.`, `_` and `-`",
                    excerpt(&name.value),
                    noun(kind)
                ),
            );
        }
    }

    /// A count within bounds, or the default.
    fn count(&self, field: &Field<Count>, default: u32, range: RangeInclusive<u32>) -> Option<u32> {
        match field {
            Field::Absent => Some(default),
            Field::Invalid(_) => None,
            Field::Present(located) => {
                let value =
                    u32::try_from(located.value.0).ok().filter(|value| range.contains(value));
                if value.is_none() {
                    let (low, high) = (range.start(), range.end());
                    self.problem(
                        located.node,
                        format!(
                            "{} is out of range; write a count from {low} to {high}",
                            located.value.0
                        ),
                    );
                }
                value
            }
        }
    }

    /// As [`Validator::count`], of at least one.
    fn positive(&self, field: &Field<Count>, default: u32, highest: u32) -> Option<NonZeroU32> {
        self.count(field, default, 1..=highest).and_then(NonZeroU32::new)
    }

    /// A duration within bounds, or the default.
    fn span(
        &self,
        field: &Field<Span>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        match field {
            Field::Absent => Some(default),
            Field::Invalid(_) => None,
            Field::Present(located) if range.contains(&located.value.0) => Some(located.value.0),
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!(
                        "{} is out of range; write a duration from {} to {}",
                        HumanDuration(located.value.0),
                        HumanDuration(*range.start()),
                        HumanDuration(*range.end())
                    ),
                );
                None
            }
        }
    }

    /// A path in the file is relative to the file. What stands there is going to be read.
    fn path(&self, written: &str) -> PathBuf {
        let path = self.base.join(written);
        self.files.borrow_mut().push(path.clone());
        path
    }
}

fn seed(field: &Field<Count>) -> u64 {
    field.present().map_or(0, |located| located.value.0)
}
