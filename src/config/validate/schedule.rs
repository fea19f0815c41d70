//! A scenario's phases: each of exactly one kind, named, of a length that the arithmetic bears.

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::Validator;
use crate::config::document::{Phase, Requests, RequestsName, Scenario};
use crate::config::field::{Field, FieldList, Located};
use crate::config::scalar::Span;
use crate::config::tree::{NodeId, excerpt};
use crate::schedule::{self, Load, Rate, Schedule};

/// How long the one phase of a shorthand lasts. It only says how often arithmetic starts anew.
const SHORTHAND_LENGTH: Duration = Duration::from_hours(1);

/// The most phases a schedule may have once its loops and levels are written out.
pub(super) const MOST_PHASES: usize = 10_000;

/// A phase whose name may still be missing.
#[derive(Clone)]
struct PhaseSpec {
    /// The same for all the repeats of a phase, which share its name.
    id: usize,
    name: Option<String>,
    load: Load,
    length: Duration,
}

/// The rate in force where a phase begins.
#[derive(Clone, Copy)]
pub(super) enum PreviousRate {
    /// Nothing comes before, or something that has no rate.
    No(&'static str),
    /// Something that could not be read.
    Unknown,
    Rate(Rate),
}

impl PreviousRate {
    fn after(load: &Load) -> PreviousRate {
        match *load {
            Load::Constant(rate) | Load::Ramp { to: rate, .. } => PreviousRate::Rate(rate),
            Load::Sine { .. } => PreviousRate::No("after a sine"),
            Load::Replay(_) => PreviousRate::No("after a replay"),
            Load::Pause => PreviousRate::Rate(Rate::ZERO),
            Load::Concurrency(_) | Load::Requests { .. } => {
                PreviousRate::No("after a phase of concurrency")
            }
        }
    }
}

/// How many prompts there are to count.
#[derive(Clone, Copy)]
pub(super) enum Prompts {
    /// They could not be read.
    Wrong,
    /// They are made up.
    Endless,
    Number(u64),
}

/// What is known while the entries of a schedule are gone through.
struct Expansion {
    before: PreviousRate,
    names: HashSet<String>,
    cap: Option<NonZeroU32>,
    prompts: Prompts,
    drafts: usize,
}

impl Expansion {
    fn draft(&mut self, name: Option<String>, load: Load, length: Duration) -> PhaseSpec {
        self.drafts += 1;
        PhaseSpec { id: self.drafts, name, load, length }
    }
}

impl Validator<'_> {
    /// The schedule of a scenario, from whichever of its three keys is there.
    pub(super) fn schedule(
        &self,
        scenario: &Scenario,
        node: NodeId,
        max_concurrency: Option<NonZeroU32>,
        prompts: Prompts,
    ) -> Option<Schedule> {
        let ways = [
            ("schedule", scenario.schedule.node()),
            ("rate", scenario.rate.node()),
            ("concurrency", scenario.concurrency.node()),
        ];
        let mut there = ways.iter().filter_map(|(key, node)| node.map(|node| (key, node)));
        let first = there.next();
        if let Some((key, second)) = there.next() {
            let other = first.map_or("schedule", |(key, _)| key);
            self.problem(
                second,
                format!("`{key}` beside `{other}`; a scenario has only one of them"),
            );
            return None;
        }
        if first.is_none() {
            self.missing(
                node,
                "the load is missing; write `rate: 5/s`, `concurrency: 10` or a `schedule`",
            );
        }
        let short = |load| vec![PhaseSpec { id: 0, name: None, load, length: SHORTHAND_LENGTH }];
        let drafts = if let Some(list) = scenario.schedule.present() {
            self.phases(list, max_concurrency, prompts)?
        } else if let Some(rate) = scenario.rate.present() {
            short(self.constant(rate.node, rate.value.0)?)
        } else {
            let concurrency = scenario.concurrency.present()?;
            short(self.level(concurrency.node, concurrency.value.0, max_concurrency)?)
        };
        Some(Schedule::new(named(drafts)))
    }

    fn phases(
        &self,
        list: &Located<FieldList<Phase>>,
        cap: Option<NonZeroU32>,
        prompts: Prompts,
    ) -> Option<Vec<PhaseSpec>> {
        let before = PreviousRate::No("before the first phase");
        let mut walk = Expansion { before, names: HashSet::new(), cap, prompts, drafts: 0 };
        let drafts = self.written_out(list, &mut walk)?;
        let total =
            drafts.iter().try_fold(Duration::ZERO, |sum, draft| sum.checked_add(draft.length));
        if total.is_none_or(|total| total > schedule::Phase::LONGEST) {
            self.problem(list.node, "all phases together last longer than 366 days; shorten them");
            return None;
        }
        if drafts.iter().all(|draft| draft.load == Load::Pause) {
            self.problem(list.node, "nothing is ever sent; add a phase with load");
            return None;
        }
        Some(drafts)
    }

    /// The phases of a list, its loops and levels written out.
    fn written_out(
        &self,
        list: &Located<FieldList<Phase>>,
        walk: &mut Expansion,
    ) -> Option<Vec<PhaseSpec>> {
        if list.value.0.is_empty() {
            self.problem(list.node, "the schedule is empty; write at least one phase");
            return None;
        }
        let mut all = Some(Vec::new());
        for entry in &list.value.0 {
            let drafts = entry.present().and_then(|phase| self.entry(phase, walk));
            walk.before = match &drafts {
                Some(drafts) => {
                    drafts.last().map_or(walk.before, |last| PreviousRate::after(&last.load))
                }
                None => PreviousRate::Unknown,
            };
            // One that is wrong spoils the schedule, and the others are still looked at.
            all = all.zip(drafts).map(|(mut all, drafts)| {
                all.extend(drafts);
                all
            });
            if all.as_ref().is_some_and(|all| all.len() > MOST_PHASES) {
                self.problem(
                    list.node,
                    "more than 10000 phases, loops and levels written out; repeat the whole schedule instead",
                );
                return None;
            }
        }
        all
    }

    /// The phases that one entry stands for.
    fn entry(&self, phase: &Located<Phase>, walk: &mut Expansion) -> Option<Vec<PhaseSpec>> {
        let name = self.phase_name(&phase.value, &mut walk.names);
        if phase.value.phases.is_absent() && phase.value.repeat.is_absent() {
            let loads = self.loads(phase, walk.before, walk.cap);
            let length = match (&phase.value.replay, &phase.value.r#for, loads.as_deref()) {
                _ if !phase.value.requests.is_absent() => Some(Duration::ZERO),
                (Field::Present(replay), Field::Absent, Some([(_, load)])) => {
                    self.length_of_trace(replay, load)
                }
                (Field::Present(_) | Field::Invalid(_), Field::Absent, _) => None,
                _ => self.length(phase),
            };
            let count = self.requests(phase, walk.prompts)?;
            let (name, loads, length) = (name?, loads?, length?);
            let several = loads.len() > 1;
            let drafts = loads.into_iter().map(|(level, load)| {
                let name = name
                    .as_ref()
                    .map(|name| if several { format!("{name} {level}") } else { name.clone() });
                let load = match (load, count) {
                    (Load::Concurrency(slots), Some(count)) => Load::Requests { slots, count },
                    (load, _) => load,
                };
                walk.draft(name, load, length)
            });
            return Some(drafts.collect());
        }
        let given = &phase.value;
        let strangers = [
            ("name", given.name.node()),
            ("constant", given.constant.node()),
            ("ramp", given.ramp.node()),
            ("steps", given.steps.node()),
            ("sine", given.sine.node()),
            ("replay", given.replay.node()),
            ("pause", given.pause.node()),
            ("concurrency", given.concurrency.node()),
            ("requests", given.requests.node()),
            ("for", given.r#for.node()),
        ];
        let mut good = true;
        for (key, node) in strangers.iter().filter_map(|(key, node)| Some((key, (*node)?))) {
            self.problem(node, format!("`{key}` beside `repeat`; write it in one of the `phases`"));
            good = false;
        }
        if given.phases.is_absent() {
            self.missing(
                phase.node,
                "`phases` is missing; write what is repeated, such as `phases: [{constant: 5/s, for: 1m}]`",
            );
        }
        if given.repeat.is_absent() {
            self.missing(phase.node, "`repeat` is missing; write how often, such as `repeat: 3`");
        }
        let once = given.phases.present().and_then(|phases| self.written_out(phases, walk));
        let times = given.repeat.present()?;
        let once = once.filter(|_| good)?;
        let count = usize::try_from(times.value.0)
            .ok()
            .filter(|count| (1..=MOST_PHASES / once.len()).contains(count));
        let Some(count) = count else {
            let most = MOST_PHASES / once.len();
            self.problem(
                times.node,
                format!(
                    "out of range; write a count from 1 to {most}, or repeat the whole schedule"
                ),
            );
            return None;
        };
        Some(std::iter::repeat_n(once, count).flatten().collect())
    }

    /// The inner `None` is a name to be made up; the outer one a name that is wrong.
    #[allow(clippy::option_option)]
    fn phase_name(&self, phase: &Phase, names: &mut HashSet<String>) -> Option<Option<String>> {
        match &phase.name {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(Located { node, value }) => {
                let good = !value.trim().is_empty()
                    && value.chars().count() <= 63
                    && !value.chars().any(char::is_control);
                if !good {
                    self.problem(*node, "not a name for a phase; use 1 to 63 printable characters");
                    return None;
                }
                if !names.insert(value.clone()) {
                    let name = excerpt(value);
                    self.problem(
                        *node,
                        format!("two phases are named `{name}`; give each its own name"),
                    );
                    return None;
                }
                Some(Some(value.clone()))
            }
        }
    }

    /// The load of an entry; several with what tells them apart where it stands for several levels.
    fn loads(
        &self,
        Located { node, value: phase }: &Located<Phase>,
        before: PreviousRate,
        cap: Option<NonZeroU32>,
    ) -> Option<Vec<(String, Load)>> {
        let kinds = [
            ("constant", phase.constant.node()),
            ("ramp", phase.ramp.node()),
            ("steps", phase.steps.node()),
            ("sine", phase.sine.node()),
            ("replay", phase.replay.node()),
            ("pause", phase.pause.node()),
            ("concurrency", phase.concurrency.node()),
        ];
        let there: Vec<_> =
            kinds.iter().filter(|(_, node)| node.is_some()).map(|(kind, _)| *kind).collect();
        match there.as_slice() {
            [] => {
                self.missing(
                    *node,
                    "the phase does not say what load; write one of `constant: 5/s`, `ramp: {to: 50/s}`, \
                     `steps`, `sine`, `replay`, `pause: 1m`, `concurrency: 10`, or `repeat` with `phases`",
                );
                return None;
            }
            [_] => {}
            [first, second, ..] => {
                self.problem(
                    *node,
                    format!("`{first}` and `{second}` in one phase; write a phase for each"),
                );
                return None;
            }
        }
        let one = |load| vec![(String::new(), load)];
        if let Some(rate) = phase.constant.present() {
            self.constant(rate.node, rate.value.0).map(one)
        } else if let Some(levels) = phase.concurrency.present() {
            self.levels(levels, cap)
        } else if let Some(steps) = phase.steps.present() {
            self.steps(steps)
        } else if let Some(sine) = phase.sine.present() {
            self.sine(sine).map(one)
        } else if let Some(replay) = phase.replay.present() {
            self.replay(replay, &phase.r#for).map(one)
        } else if phase.pause.present().is_some() {
            Some(one(Load::Pause))
        } else {
            self.ramp(phase.ramp.present()?, before).map(one)
        }
    }

    /// The outer `None` is a count that is wrong; the inner one that requests are not counted.
    #[allow(clippy::option_option)]
    fn requests(
        &self,
        Located { value: phase, .. }: &Located<Phase>,
        prompts: Prompts,
    ) -> Option<Option<NonZeroU64>> {
        let located = match &phase.requests {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        if phase.concurrency.is_absent() {
            self.problem(
                located.node,
                "`requests` without `concurrency`; write `for: 10m`, or `concurrency: 10` beside it",
            );
            return None;
        }
        if let Some(length) = phase.r#for.node() {
            self.problem(length, "`for` beside `requests`; the phase ends with the last of them");
            return None;
        }
        let count = match (&located.value, prompts) {
            (Requests::Number(count), _) => count.0,
            (Requests::Text(RequestsName::EachPrompt), Prompts::Number(prompts)) => prompts,
            (_, Prompts::Endless) => {
                self.problem(
                    located.node,
                    "the prompts are made up and have no number; write a count, such as `requests: 100`",
                );
                return None;
            }
            // What is wrong with them has been said.
            (_, Prompts::Wrong) => return None,
        };
        let most = 1_000_000_000;
        let Some(count) = NonZeroU64::new(count).filter(|count| count.get() <= most) else {
            self.problem(
                located.node,
                format!("out of range; write a count from 1 to {most}, or `each_prompt`"),
            );
            return None;
        };
        Some(Some(count))
    }

    fn length(&self, Located { node, value: phase }: &Located<Phase>) -> Option<Duration> {
        let field: &Field<Span> = match (&phase.pause, &phase.r#for) {
            (Field::Absent, length) => length,
            (pause, Field::Absent) => pause,
            (_, length) => {
                self.problem(
                    length.node().unwrap_or(*node),
                    "`for` beside `pause`; the pause says its length itself, such as `pause: 1m`",
                );
                return None;
            }
        };
        if field.is_absent() {
            self.missing(
                *node,
                "`for` is missing; write how long the phase lasts, such as `for: 10m`",
            );
            return None;
        }
        let length = field.present()?;
        let message = if length.value.0 < schedule::Phase::SHORTEST {
            "shorter than 1ms, a phase does nothing; write how long it lasts, such as `10m`"
        } else if length.value.0 > schedule::Phase::LONGEST {
            "longer than 366 days; shorten it, the schedule repeats anyway"
        } else {
            return Some(length.value.0);
        };
        self.problem(length.node, message);
        None
    }
}

/// Makes up the names that are missing: what the phase does, numbered where that stands already.
fn named(drafts: Vec<PhaseSpec>) -> Vec<schedule::Phase> {
    let mut taken: HashSet<String> = drafts.iter().filter_map(|draft| draft.name.clone()).collect();
    let mut made_up: HashMap<usize, String> = HashMap::new();
    let mut phase = |PhaseSpec { id, name, load, length }| {
        let name = name.unwrap_or_else(|| {
            let make_up = || {
                let plain = load.to_string();
                let numbered = (2..).map(|number: u32| format!("{plain} #{number}"));
                let name = std::iter::once(plain.clone())
                    .chain(numbered)
                    .find(|name| taken.insert(name.clone()));
                name.unwrap_or(plain)
            };
            made_up.entry(id).or_insert_with(make_up).clone()
        });
        schedule::Phase { name, load, length }
    };
    drafts.into_iter().map(&mut phase).collect()
}
