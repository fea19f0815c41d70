//! Checks each value of a configuration and the combinations of values, and turns the values into
//! the parts of a [`Plan`](plan::Plan).
//!
//! Each submodule adds the methods of one topic to [`Validator`]. A method that finds a mistake
//! records it and returns `None`, and the validation continues. So one pass finds all mistakes. The
//! loader returns a plan only if there are none.

mod after;
mod auth;
mod body_secrets;
mod budgets;
mod calendar;
mod connection;
mod definitions;
mod dialect;
mod failures;
mod guards;
mod metrics;
mod observe;
mod phase_end;
mod plain_text;
mod prices;
mod prompts;
mod replay;
mod request;
mod resources;
mod scenario;
mod schedule;
mod search;
mod secret;
mod sessions;
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

use serde::Deserialize;

use super::document::{LongForm, Scenario, ShortForm, ShortPrompts, ShortTarget, Target};
use super::duration::HumanDuration;
use super::field::{Field, FieldMap, Located};
use super::hints;
use super::problem::{Mistake, MistakeAt, Mistakes, ProblemKind};
use super::reader::TreeDeserializer;
use super::scalar::{Count, Span};
use super::tree::{NodeId, Tree, Value, excerpt};
use super::variables::Variables;
use super::yaml::SHORTEST_FILE;
use crate::buckets::Buckets;
use crate::plan;
use crate::prompts::{BUILTIN, Prompts};
use definitions::{Definitions, noun};
pub use scenario::DEFAULT_MAX_CONCURRENCY;
pub use secret::{is_sensitive, is_sensitive_number};

/// The name of the target and of the scenario in the short form.
const DEFAULT_NAME: &str = "default";

/// The validated values of the file, and the warnings.
pub struct Validated {
    pub seed: u64,
    pub scenarios: Vec<plan::Scenario>,
    pub buckets: Buckets,
    /// The archive of failed requests.
    pub failures: Option<plan::FailureArchive>,
    pub resources: plan::Resources,
    /// The folder of the saved budgets.
    pub state_dir: Option<PathBuf>,
    /// Allowed values that the user probably did not intend.
    pub warnings: Vec<MistakeAt>,
    /// The files that the configuration names, such as prompt files.
    pub files: Vec<PathBuf>,
}

/// Checks the tree, and adds all mistakes to `mistakes`. The result is valid only if `mistakes` is
/// empty.
pub fn validate(
    tree: &Tree,
    variables: &Variables<'_>,
    base: &Path,
    mistakes: &Mistakes,
) -> Validated {
    let validator = Validator {
        tree,
        variables,
        base,
        mistakes,
        warnings: Mistakes::default(),
        files: RefCell::default(),
    };
    let Form { seed, scenarios, buckets, failures, resources, state_dir } =
        validator.document().unwrap_or_else(|mistake| {
            validator.report(NodeId::ROOT, mistake);
            Form::default()
        });
    let (warnings, files) = (validator.warnings.into_inner(), validator.files.into_inner());
    Validated { seed, scenarios, buckets, failures, resources, state_dir, warnings, files }
}

#[derive(Default)]
struct Form {
    seed: u64,
    scenarios: Vec<plan::Scenario>,
    buckets: Buckets,
    failures: Option<plan::FailureArchive>,
    resources: plan::Resources,
    state_dir: Option<PathBuf>,
}

/// The shared input and output of all checks.
struct Validator<'a> {
    tree: &'a Tree,
    variables: &'a Variables<'a>,
    base: &'a Path,
    mistakes: &'a Mistakes,
    warnings: Mistakes,
    files: RefCell<Vec<PathBuf>>,
}

impl Validator<'_> {
    fn report(&self, node: NodeId, mistake: Mistake) {
        self.mistakes.borrow_mut().push(MistakeAt { node, mistake });
    }

    fn problem(&self, node: NodeId, message: impl Into<String>, remedy: impl Into<String>) {
        self.report(node, Mistake::new(message, remedy));
    }

    /// Records that a key is missing from a map. But a misspelled key in this map is probably the
    /// missing key, and already has a message; then nothing is recorded.
    fn missing(&self, node: NodeId, message: impl Into<String>, remedy: impl Into<String>) {
        let has_misspelled_key = self.mistakes.borrow().iter().any(|found| {
            found.mistake.kind == ProblemKind::MisspelledKey && self.tree.parent(found.node) == node
        });
        if !has_misspelled_key {
            self.report(node, Mistake::new(message, remedy).of_kind(ProblemKind::Missing));
        }
    }

    fn warn(&self, node: NodeId, message: impl Into<String>, remedy: impl Into<String>) {
        let mistake = Mistake::new(message, remedy);
        self.warnings.borrow_mut().push(MistakeAt { node, mistake });
    }

    /// Reads the document. The key `targets` or `scenarios` makes it the long form.
    fn document(&self) -> Result<Form, Mistake> {
        if !matches!(self.tree.value(NodeId::ROOT), Value::Map(_)) {
            return Err(Mistake::new("the file is not a map of keys and values", SHORTEST_FILE));
        }
        let reader = TreeDeserializer::new(self.tree, self.mistakes);
        let has_key = |key: &&str| self.tree.get(NodeId::ROOT, key).is_some();
        if ["targets", "scenarios"].iter().any(has_key) {
            Ok(self.long_form(&LongForm::deserialize(reader)?))
        } else {
            Ok(self.short_form(ShortForm::deserialize(reader)?))
        }
    }

    fn long_form(&self, form: &LongForm) -> Form {
        let seed = seed(&form.seed);
        if form.targets.is_absent() {
            self.missing(
                NodeId::ROOT,
                "`targets` is missing",
                "write at least one target, such as `targets: {a: {base_url: …}}`",
            );
        }
        if form.scenarios.is_absent() {
            self.missing(
                NodeId::ROOT,
                "`scenarios` is missing",
                "write at least one scenario, such as `scenarios: {s: {rate: 5/s}}`",
            );
        }
        let targets = self.definitions("target", &form.targets, |name, target, node| {
            self.target(name, target, node, seed).map(Arc::new)
        });
        let sources = self.sources(&form.prompts);
        let mut scenarios = Vec::new();
        for (name, document) in self.entries(&form.scenarios, "scenario") {
            let Some(document) = document.present() else { continue };
            scenarios.extend(self.scenario(
                name,
                &document.value,
                document.node,
                &targets,
                &sources,
            ));
        }
        self.check_after(&form.scenarios, &scenarios);
        let (limit, buckets) = self.metrics(&form.metrics);
        if let (Some(located), Some(limit)) = (form.scenarios.present(), limit) {
            let routes = scenarios.iter().map(|scenario| scenario.targets().count()).sum::<usize>();
            self.limit_routes(located.node, routes.max(located.value.0.len()), limit);
        }
        self.warn_of_unused(&targets);
        self.warn_of_unused(&sources);
        body_secrets::add(&mut scenarios);
        let resources = resources::resources(&form.resources);
        let failures = self.failures(&form.failures);
        let budgets = form.scenarios.present().and_then(|map| {
            let all = map.value.0.iter().filter_map(|(_, scenario)| scenario.present());
            { all }.find_map(|scenario| scenario.value.budgets.node())
        });
        self.warn_of_lost_budgets(budgets, &form.state_dir, &scenarios);
        let state_dir = self.state_dir(&form.state_dir);
        Form { seed, scenarios, buckets, failures, resources, state_dir }
    }

    /// Checks the short form like a long form with one target and one scenario.
    fn short_form(&self, form: ShortForm) -> Form {
        let seed = seed(&form.seed);
        // The short form has only one route, so the limit of routes has no effect.
        let (_, buckets) = self.metrics(&form.metrics);
        let failures = self.failures(&form.failures);
        let resources = resources::resources(&form.resources);
        let state_dir = self.state_dir(&form.state_dir);
        let budgets = form.budgets.node();
        let target = self.short_target(form.target, seed).map(Arc::new);
        let targets = Definitions::single("target", DEFAULT_NAME, target);
        let sources = self.short_prompts(form.prompts);
        if let [_, second, ..] = sources.entries.as_slice() {
            // A key of a source instead of a name, such as `lines`, already has a message.
            if second.value.is_some() || !hints::is_source_key(&second.name) {
                self.problem(
                    second.node,
                    "the short form has only one source of prompts",
                    "for several sources write `targets`, `prompts` and `scenarios`",
                );
            }
            return Form { seed, buckets, ..Form::default() };
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
            after: Field::Absent,
            active: form.active,
            repeat: form.repeat,
            schedule: form.schedule,
            rate: form.rate,
            concurrency: form.concurrency,
            max_concurrency: form.max_concurrency,
            history: form.history,
            max_sessions: form.max_sessions,
            max_history: form.max_history,
            session_header: form.session_header,
            max_lag: form.max_lag,
            breaker: form.breaker,
            warmup: form.warmup,
            slo: form.slo,
            budgets: form.budgets,
        };
        let scenario = self.scenario(DEFAULT_NAME, &scenario, NodeId::ROOT, &targets, &sources);
        let mut scenarios: Vec<_> = scenario.into_iter().collect();
        body_secrets::add(&mut scenarios);
        self.warn_of_lost_budgets(budgets, &form.state_dir, &scenarios);
        Form { seed, scenarios, buckets, failures, resources, state_dir }
    }

    fn short_target(&self, field: Field<ShortTarget>, seed: u64) -> Option<plan::Target> {
        match field {
            Field::Absent => {
                self.missing(
                    NodeId::ROOT,
                    "`target` is missing",
                    "write the URL of the endpoint, such as `target: http://localhost:8000/v1`",
                );
                None
            }
            Field::Invalid(_) => None,
            Field::Present(Located { node, value: ShortTarget::Map(target) }) => {
                self.target(DEFAULT_NAME, &target, node, seed)
            }
            Field::Present(Located { node, value: ShortTarget::Text(url) }) => {
                let base_url = Field::Present(Located { node, value: url });
                let target = Target { base_url, ..Target::default() };
                self.target(DEFAULT_NAME, &target, node, seed)
            }
        }
    }

    fn short_prompts(&self, field: Field<ShortPrompts>) -> Definitions<Prompts> {
        match field {
            Field::Absent => Definitions::empty("prompts"),
            Field::Invalid(_) => Definitions::single("prompts", DEFAULT_NAME, None),
            Field::Present(Located { node, value: ShortPrompts::Text(name) }) => {
                let builtin = (name.trim() == BUILTIN).then(Prompts::builtin);
                if builtin.is_none() {
                    self.problem(
                        node,
                        "found text, expected a list, a map or `builtin`",
                        "write the prompts themselves, `[\"Say hello.\"]`, or a name and a file, \
                         `{mine: {lines: prompts.txt}}`",
                    );
                }
                Definitions::single("prompts", BUILTIN, builtin)
            }
            Field::Present(Located { node, value: ShortPrompts::Map(map) }) => {
                self.sources(&Field::Present(Located { node, value: map }))
            }
            Field::Present(Located { node, value: ShortPrompts::List(list) }) => {
                Definitions::single("prompts", "inline", self.inline("inline", node, &list))
            }
        }
    }

    /// Checks the names in a map of targets, sources or scenarios, and returns the entries.
    fn entries<'f, T>(
        &self,
        field: &'f Field<FieldMap<T>>,
        kind: &str,
    ) -> impl Iterator<Item = (&'f str, &'f Field<T>)> {
        let entries = field.present().map(|located| {
            if located.value.0.is_empty() {
                self.problem(
                    located.node,
                    "the map is empty",
                    format!("add at least one {}", noun(kind)),
                );
            }
            for (name, _) in &located.value.0 {
                self.name(name, kind);
            }
            located.value.0.iter().map(|(name, value)| (name.value.as_str(), value))
        });
        entries.into_iter().flatten()
    }

    /// Checks a name. Names become values of labels and parts of file names, so few characters are
    /// allowed.
    fn name(&self, name: &Located<String>, kind: &str) {
        let is_valid = (1..=63).contains(&name.value.len())
            && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_valid {
            self.problem(
                name.node,
                format!("`{}` cannot be the name of a {}", excerpt(&name.value), noun(kind)),
                "use 1 to 63 letters, digits, `.`, `_` and `-`",
            );
        }
    }

    /// Returns a count, or `default` if the field is absent. A count outside `range` is a mistake.
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
                        format!("{} is out of range", located.value.0),
                        format!("write a count from {low} to {high}"),
                    );
                }
                value
            }
        }
    }

    /// Returns a count from 1 to `highest`, or `default` if the field is absent.
    fn positive(&self, field: &Field<Count>, default: u32, highest: u32) -> Option<NonZeroU32> {
        self.count(field, default, 1..=highest).and_then(NonZeroU32::new)
    }

    /// Returns a duration, or `default` if the field is absent. A duration outside `range` is a
    /// mistake.
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
                    format!("{} is out of range", HumanDuration(located.value.0)),
                    format!(
                        "write a duration from {} to {}",
                        HumanDuration(*range.start()),
                        HumanDuration(*range.end())
                    ),
                );
                None
            }
        }
    }

    /// Returns a path of the file relative to the current folder, and adds it to the watched
    /// `files`.
    fn path(&self, written: &str) -> PathBuf {
        let path = self.base.join(written);
        self.files.borrow_mut().push(path.clone());
        path
    }
}

fn seed(field: &Field<Count>) -> u64 {
    field.present().map_or(0, |located| located.value.0)
}
