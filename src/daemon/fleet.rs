//! The scenarios at work, and the change from one plan to the next.
//!
//! Everything about a new plan that can be refused is tried first; what follows cannot fail. A
//! scenario that did not change is left alone; one that changed goes on with its books, its series
//! and its connections, unless another endpoint wants to be waited for; one that is gone drains, and
//! then its series go.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::simulators::Simulators;
use super::{Error, GRACE, check_open_files};
use crate::control::Refused;
use crate::course::Course;
use crate::endpoint::HttpEndpoint;
use crate::event::AbortReason;
use crate::launch::Traffic;
use crate::plan::{self, Location, Plan};
use crate::scenario::{Crashed, Setting, Surroundings, Work};
use crate::schedule::Rate;
use crate::status::{Board, Stream, Terms};

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

struct Member {
    setting: Setting,
    terms: Terms,
    work: Work,
}

/// A scenario of the next plan whose client could be built.
struct Prepared {
    setting: Setting,
    terms: Terms,
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

    /// Changes over to a plan.
    ///
    /// # Errors
    /// If something in it cannot be set up: nothing has changed then.
    pub(super) fn change_to(&mut self, plan: Plan) -> Result<(), Error> {
        check_open_files(&plan)?;
        let mut simulators = Simulators::default();
        let mut prepared = Vec::new();
        for scenario in plan.scenarios {
            prepared.push(self.prepare(scenario, plan.seed, &mut simulators)?);
        }
        // Everything that can be refused has been: from here on it changes.
        let metrics = Arc::clone(&self.around.metrics);
        let mut before = std::mem::take(&mut self.members);
        for next in prepared {
            metrics.target_known(&next.setting.scenario.target.name);
            let name = &next.setting.scenario.name;
            let member = before.iter().position(|member| member.setting.scenario.name == *name);
            let member = member.map(|position| before.remove(position));
            let member = match member {
                Some(member) => self.changed(member, next),
                None => {
                    let course = next.setting.course(self.around.shard);
                    self.begin(next, course)
                }
            };
            self.members.push(member);
        }
        for target in before.iter().map(|member| &member.setting.scenario.target.name) {
            if !self.members.iter().any(|member| member.setting.scenario.target.name == *target) {
                metrics.target_gone(target);
            }
        }
        for gone in before {
            tracing::info!(scenario = gone.setting.scenario.name, "removed: it drains");
            self.dismiss(gone);
        }
        outlive(std::mem::replace(&mut self.simulators, simulators));
        let streams = self.members.iter().map(|member| Arc::clone(&member.work.stream)).collect();
        self.board.show(streams, plan.masked_source);
        metrics.config_loaded(plan.source_hash);
        Ok(())
    }

    /// Sets the rate of a scenario by hand.
    pub(super) fn set_rate(&self, scenario: &str, rate: Option<(Rate, Duration)>) -> Result<(), Refused> {
        let member = self.members.iter().find(|member| member.setting.scenario.name == scenario);
        let Some(member) = member else {
            return Err(Refused::Unknown(format!("there is no scenario `{scenario}`")));
        };
        if member.work.set_rate(rate) {
            Ok(())
        } else {
            Err(Refused::NotNow(format!(
                "scenario `{scenario}` waits for its target; try again once it runs"
            )))
        }
    }

    /// All that may be in flight.
    pub(super) fn traffic(&self) -> Vec<Arc<Traffic>> {
        let at_work = self.members.iter().map(|member| Arc::clone(&member.work.stream.traffic));
        at_work.chain(self.retiring.iter().cloned()).collect()
    }

    /// The client of a scenario, and what is shown of it. The client stays, and with it its
    /// connections, where the target is the same.
    fn prepare(
        &self,
        scenario: plan::Scenario,
        seed: u64,
        simulators: &mut Simulators,
    ) -> Result<Prepared, Error> {
        let target = &scenario.target;
        let address: Url = simulators.address(target, &self.simulators)?;
        let member = self.members.iter().find(|member| member.setting.scenario.name == scenario.name);
        let endpoint = match member {
            Some(member) if member.setting.scenario.target == *target => Arc::clone(&member.setting.endpoint),
            _ => Arc::new(HttpEndpoint::new(target, &address)?),
        };
        let terms = Terms {
            address: address.to_string(),
            simulated: matches!(target.location, Location::Simulator(_)),
            max_concurrency: scenario.max_concurrency.get(),
        };
        Ok(Prepared { setting: Setting { scenario, seed, endpoint }, terms })
    }

    fn begin(&mut self, Prepared { setting, terms }: Prepared, course: Arc<Course>) -> Member {
        let stream = stream(&setting, &terms, course);
        let (work, life) = Work::begin(setting.clone(), stream, &self.around);
        self.lives.spawn(life);
        Member { setting, terms, work }
    }

    /// A scenario that was there before goes on, changed or not, or begins anew.
    fn changed(&mut self, mut member: Member, next: Prepared) -> Member {
        let (before, after) = (&member.setting.scenario, &next.setting.scenario);
        if *before == *after && member.setting.seed == next.setting.seed && member.terms == next.terms {
            return member;
        }
        // A model that was learned is that of the same endpoint.
        let same_place =
            before.target.name == after.target.name && member.terms.address == next.terms.address;
        let learned = member.work.stream.model.get().filter(|_| same_place);
        let model = after.target.model.clone().or_else(|| learned.cloned());
        let Some(model) = model.filter(|_| member.work.is_live()) else {
            tracing::info!(scenario = after.name, "changed: it begins anew");
            self.dismiss(member);
            let course = next.setting.course(self.around.shard);
            return self.begin(next, course);
        };
        tracing::info!(scenario = after.name, "changed");
        let old = Arc::clone(&member.work.stream);
        let same = before.target.name == after.target.name && old.model.get() == Some(&model);
        let stream = if same {
            old.change(next.terms.clone());
            Arc::clone(&old)
        } else {
            stream(&next.setting, &next.terms, Arc::clone(&old.course))
        };
        member.work.change(&member.setting, &next.setting, &model, stream, &self.around);
        if !same {
            self.retire(old, None);
        }
        Member { setting: next.setting, terms: next.terms, work: member.work }
    }

    fn dismiss(&mut self, member: Member) {
        member.work.stop();
        self.retire(member.work.stream, Some(member.work.ended));
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

fn stream(setting: &Setting, terms: &Terms, course: Arc<Course>) -> Arc<Stream> {
    let scenario = &setting.scenario;
    Arc::new(Stream::new(&scenario.name, &scenario.target.name, course, terms.clone()))
}

/// Simulators that a plan no longer asks for serve what is in flight to them.
fn outlive(simulators: Simulators) {
    tokio::spawn(async move {
        tokio::time::sleep(GRACE).await;
        // To end one takes until its thread has ended.
        let _ended = tokio::task::spawn_blocking(move || drop(simulators)).await;
    });
}
