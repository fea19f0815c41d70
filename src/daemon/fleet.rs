//! The scenarios at work, and the change from one plan to the next.
//!
//! Everything about a new plan that can be refused is tried first; what follows cannot fail. A
//! scenario that did not change is left alone; one that changed goes on with its books, its series
//! and its connections, unless another endpoint wants to be waited for; one that is gone drains, and
//! then its series go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::changes::{Changes, Fate};
use super::simulators::Simulators;
use super::{Error, GRACE, check_open_files};
use crate::control::Refused;
use crate::course::{Course, State};
use crate::endpoint::HttpEndpoint;
use crate::event::AbortReason;
use crate::launch::Traffic;
use crate::plan::{self, Location, Plan};
use crate::scenario::{Crashed, Setting, Surroundings, Way, Work};
use crate::schedule::Rate;
use crate::status::{Board, Stream, Terms};
use crate::timetable::Timetable;

/// All scenarios at work.
pub(super) struct Fleet {
    around: Surroundings,
    board: Arc<Board>,
    members: Vec<Member>,
    simulators: Simulators,
    /// What is in flight of streams that nothing is sent on any more.
    retiring: Vec<Arc<Traffic>>,
    /// The lives of the scenarios.
    pub(super) lives: JoinSet<Result<(), Crashed>>,
}

/// What a rate that is set by hand stands in place of.
pub(super) struct Set {
    /// Whether another was set already.
    pub(super) was: bool,
    /// What would say that nothing is due now and then, in words.
    pub(super) ignores: Option<&'static str>,
}

struct Member {
    setting: Setting,
    work: Work,
}

impl Fleet {
    pub(super) fn new(around: Surroundings, board: Arc<Board>) -> Fleet {
        let (members, retiring) = (Vec::new(), Vec::new());
        Fleet { around, board, members, simulators: Simulators::default(), retiring, lives: JoinSet::new() }
    }

    /// How many scenarios there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Changes over to a plan; what became of each scenario.
    ///
    /// # Errors
    /// If something in it cannot be set up: nothing has changed then.
    pub(super) async fn change_to(&mut self, plan: Plan) -> Result<Changes, Error> {
        check_open_files(&plan)?;
        let changed = self.around.metrics.buckets().differing(&plan.buckets);
        if !changed.is_empty() {
            let names: Vec<_> = changed.iter().map(|name| format!("`{name}`")).collect();
            return Err(Error::Buckets(names.join(", ")));
        }
        let targets = plan.scenarios.iter().flat_map(plan::Scenario::targets).cloned().collect();
        let simulators = Simulators::of(targets, self.simulators.clone()).await?;
        let mut prepared = Vec::new();
        for scenario in plan.scenarios {
            prepared.push(self.prepare(scenario, plan.seed, &simulators)?);
        }
        // Everything that can be refused has been: from here on it changes.
        let metrics = Arc::clone(&self.around.metrics);
        let targets = self.targets();
        let (mut before, mut changes) = (std::mem::take(&mut self.members), Changes::default());
        for next in prepared {
            next.ways.iter().for_each(|way| metrics.target_known(&way.target.name, &way.terms.address));
            let name = &next.scenario.name;
            let member = before.iter().position(|member| member.setting.scenario.name == *name);
            let member = member.map(|position| before.remove(position));
            let member = if let Some(member) = member {
                self.changed(member, next, &mut changes)
            } else {
                changes.note(name, Fate::Added);
                let course = next.course(self.around.shard);
                self.begin(next, &course)
            };
            self.members.push(member);
        }
        for target in targets.difference(&self.targets()) {
            metrics.target_gone(target);
        }
        for gone in before {
            changes.note(&gone.setting.scenario.name, Fate::Removed);
            self.dismiss(gone);
        }
        self.simulators = simulators;
        let streams = self.members.iter().flat_map(|member| member.work.streams.iter().cloned()).collect();
        self.board.show(streams, plan.masked_source);
        metrics.config_loaded(plan.source_hash);
        Ok(changes)
    }

    /// Sets the rate of a scenario by hand.
    pub(super) fn set_rate(&self, scenario: &str, rate: Option<(Rate, Duration)>) -> Result<Set, Refused> {
        let member = self.members.iter().find(|member| member.setting.scenario.name == scenario);
        let Some(member) = member else {
            return Err(Refused::Unknown(format!("there is no scenario `{scenario}`")));
        };
        let waits =
            || Refused::NotNow(format!("scenario `{scenario}` waits for its target; try again once it runs"));
        let was = member.work.set_rate(rate).ok_or_else(waits)?;
        Ok(Set { was, ignores: member.setting.ways.first().and_then(|way| way.terms.hours) })
    }

    /// What the first scenario waits for whose schedule does not run yet, and its name.
    pub(super) fn waits_for(&self) -> Option<(String, String)> {
        let waiting = self.members.iter().find(|member| !member.work.is_live())?;
        let state = waiting.work.streams.first().map(|stream| stream.course.state());
        let words = match state {
            Some(State::Waiting(words)) => words,
            _ => "the target".to_owned(),
        };
        Some((waiting.setting.scenario.name.clone(), words))
    }

    /// All that may be in flight.
    pub(super) fn traffic(&self) -> Vec<Arc<Traffic>> {
        let streams = self.members.iter().flat_map(|member| &member.work.streams);
        let at_work = streams.map(|stream| Arc::clone(&stream.traffic));
        at_work.chain(self.retiring.iter().cloned()).collect()
    }

    /// Until nothing is in flight any more, and nothing more can be.
    pub(super) async fn rests(&self) {
        for traffic in self.traffic() {
            traffic.tasks.close();
            traffic.tasks.wait().await;
        }
    }

    fn targets(&self) -> BTreeSet<String> {
        let ways = self.members.iter().flat_map(|member| &member.setting.ways);
        ways.map(|way| way.target.name.clone()).collect()
    }

    /// The clients of a scenario, and what is shown of them. A client stays, and with it its
    /// connections, where the target is the same.
    fn prepare(
        &self,
        scenario: plan::Scenario,
        seed: u64,
        simulators: &Simulators,
    ) -> Result<Setting, Error> {
        let member = self.members.iter().find(|member| member.setting.scenario.name == scenario.name);
        let before = member.map_or(&[][..], |member| member.setting.ways.as_slice());
        let ways = scenario.targets().map(|target| {
            let (address, host) = simulators.reach(target)?;
            let terms = Terms {
                configured: Arc::clone(target),
                address: address.to_string(),
                simulated: matches!(target.location, Location::Simulator(_)),
                max_concurrency: scenario.max_concurrency.get(),
                hours: Timetable::of(&scenario).hours(),
            };
            let same = before.iter().find(|way| way.target == *target && way.terms.address == terms.address);
            let endpoint = match same {
                Some(way) => Arc::clone(&way.endpoint),
                None => Arc::new(HttpEndpoint::new(target, &address)?.served_by(host)),
            };
            Ok(Way { target: Arc::clone(target), endpoint, terms })
        });
        let ways = ways.collect::<Result<Vec<_>, Error>>()?;
        Ok(Setting { scenario, seed, ways, tallied: self.around.pass.is_some() })
    }

    fn begin(&mut self, setting: Setting, course: &Arc<Course>) -> Member {
        let streams = setting.streams(course);
        let (work, life) = Work::begin(setting.clone(), streams, &self.around);
        self.lives.spawn(life);
        Member { setting, work }
    }

    /// A scenario that was there before goes on, changed or not, or begins anew.
    fn changed(&mut self, mut member: Member, next: Setting, changes: &mut Changes) -> Member {
        let (before, name) = (&member.setting, next.scenario.name.as_str());
        let terms = |setting: &Setting| setting.ways.iter().map(|way| way.terms.clone()).collect::<Vec<_>>();
        if before.scenario == next.scenario && before.seed == next.seed && terms(before) == terms(&next) {
            changes.note(name, Fate::Unchanged);
            return member;
        }
        let streams = next.ways.iter().map(|way| goes_on(&member, &next, way)).collect::<Option<Vec<_>>>();
        let Some(streams) = streams.filter(|_| member.work.is_live()) else {
            changes.note(name, Fate::Anew);
            self.dismiss(member);
            let course = next.course(self.around.shard);
            return self.begin(next, &course);
        };
        changes.note(name, Fate::Changed);
        let baseline = |streams: &[Arc<Stream>]| streams.first().map(Arc::as_ptr);
        if baseline(&streams) != baseline(&member.work.streams) {
            for stream in &streams {
                stream.difference.forget();
            }
        }
        let left = member.work.streams.clone();
        let left = left.into_iter().filter(|old| !streams.iter().any(|stream| Arc::ptr_eq(stream, old)));
        let left: Vec<_> = left.collect();
        member.work.change(&member.setting, &next, streams, &self.around);
        for stream in left {
            self.retire(stream, None);
        }
        Member { setting: next, work: member.work }
    }

    fn dismiss(&mut self, member: Member) {
        member.work.stop();
        for stream in member.work.streams {
            self.retire(stream, Some(member.work.ended.clone()));
        }
    }

    /// Once nothing is launched any more, what is in flight may end; then the series go.
    fn retire(&mut self, stream: Arc<Stream>, launched: Option<CancellationToken>) {
        self.retiring.retain(|traffic| !(traffic.tasks.is_closed() && traffic.tasks.is_empty()));
        self.retiring.push(Arc::clone(&stream.traffic));
        let metrics = Arc::clone(&self.around.metrics);
        tokio::spawn(async move {
            if let Some(launched) = launched {
                launched.cancelled().await;
            }
            let Traffic { ledger, tasks, cut } = &*stream.traffic;
            tasks.close();
            if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
                cut.cut(AbortReason::Reload);
                tasks.wait().await;
            }
            if let Some(labels) = stream.labels() {
                metrics.unbind(&labels, ledger);
            }
        });
    }
}

/// The stream of load to a target of the next setting: the one there is, if it has the same name and
/// model, else another. None where the model would have to be learned.
fn goes_on(member: &Member, next: &Setting, way: &Way) -> Option<Arc<Stream>> {
    let mut all = member.setting.ways.iter().zip(&member.work.streams);
    let old = all.find(|(old, _)| old.target.name == way.target.name);
    let Some((before, stream)) = old else {
        let course = &member.work.streams.first()?.course;
        return way.target.model.is_some().then(|| next.stream(way, course));
    };
    // A model that was learned is that of the same endpoint.
    let learned = stream.model.get().filter(|_| before.terms.address == way.terms.address);
    let model = way.target.model.as_ref().or(learned)?;
    if stream.model.get() == Some(model) {
        stream.change(way.terms.clone());
        Some(Arc::clone(stream))
    } else {
        Some(next.stream(way, &stream.course))
    }
}
