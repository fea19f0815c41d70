//! A scenario as it is set up: what is asked for, and for each of its targets the client and what is
//! shown. From it come the lanes that requests go by.

use std::sync::Arc;

use super::{HttpLane, Observer, Surroundings};
use crate::comparison::Difference;
use crate::course::Course;
use crate::endpoint::HttpEndpoint;
use crate::guard::Guard;
use crate::launch::{Gate, Lane, Ways};
use crate::metrics::{Facts, Instruments, Labels};
use crate::plan::{self, Target};
use crate::schedule::{Shard, Spread};
use crate::status::{Stream, Terms};
use crate::tally::Tally;
use crate::timetable::Timetable;

/// A scenario of the plan, with the seed it draws from and the ways to its targets.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is asked for.
    pub scenario: plan::Scenario,
    /// Everything random follows from it.
    pub seed: u64,
    /// In the order of the scenario's targets.
    pub ways: Vec<Way>,
    /// Whether all figures are kept, for a report.
    pub tallied: bool,
}

/// A target of a scenario.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where it leads.
    pub target: Arc<Target>,
    /// The client.
    pub endpoint: Arc<HttpEndpoint>,
    /// What is shown of it.
    pub terms: Terms,
}

impl Setting {
    /// Streams of load to its targets, nothing of which has been sent.
    pub fn streams(&self, course: &Arc<Course>) -> Vec<Arc<Stream>> {
        self.ways.iter().map(|way| self.stream(way, course)).collect()
    }

    /// A stream of load to one of its targets.
    pub fn stream(&self, way: &Way, course: &Arc<Course>) -> Arc<Stream> {
        let (scenario, target) = (&self.scenario.name, &way.target.name);
        let tally = || Arc::new(Tally::new(&self.scenario.schedule, self.scenario.slo.clone()));
        let tally = self.tallied.then(tally);
        let stream = Stream::new(scenario, target, Arc::clone(course), way.terms.clone(), tally);
        if let Some(model) = &way.target.model {
            let _first = stream.model.set(model.clone());
        }
        Arc::new(stream)
    }

    /// A course for it that waits.
    pub fn course(&self, shard: Shard) -> Arc<Course> {
        let timetable = self.timetable();
        let schedule = Arc::clone(timetable.schedule());
        Arc::new(Course::new(schedule, timetable.is_endless(), shard, "the target"))
    }

    /// The ways that its requests go by. The model of each stream is known by now.
    pub(super) fn lanes(
        &self,
        streams: &[Arc<Stream>],
        gate: &Arc<Gate>,
        around: &Surroundings,
    ) -> Ways<HttpEndpoint, Observer> {
        let all = || self.ways.iter().zip(streams);
        let lanes = all().filter_map(|(way, stream)| self.lane(way, stream, gate, around));
        let differences: Vec<Arc<Difference>> =
            streams.iter().skip(1).map(|stream| Arc::clone(&stream.difference)).collect();
        Ways { lanes: lanes.collect(), differences: differences.into() }
    }

    fn lane(
        &self,
        way: &Way,
        stream: &Stream,
        gate: &Arc<Gate>,
        around: &Surroundings,
    ) -> Option<Arc<HttpLane>> {
        let scenario = &self.scenario;
        let (draining, paused) = (around.draining.clone(), around.paused.clone());
        let (model, instruments) = (stream.model.get()?.clone(), self.bind(way, stream, around)?);
        Some(Arc::new(Lane {
            target: way.target.name.clone(),
            endpoint: Arc::clone(&way.endpoint),
            model,
            prompts: scenario.prompts.clone(),
            scenario: scenario.name.clone(),
            seed: self.seed,
            parameters: scenario.request.clone(),
            dialect: way.target.dialect.clone(),
            traceparent: way.target.traceparent,
            terminal: way.target.terminal,
            timeouts: way.target.timeouts,
            guard: Guard::new(draining, paused, scenario.max_lag, scenario.max_concurrency),
            observer: (
                instruments,
                (
                    Arc::clone(&stream.incidents),
                    (Arc::clone(&stream.recent), (Arc::clone(gate), stream.tally.clone())),
                ),
            ),
            traffic: Arc::clone(&stream.traffic),
        }))
    }

    /// Makes the series of a stream of load, if its model is known.
    pub(super) fn bind(&self, way: &Way, stream: &Stream, around: &Surroundings) -> Option<Instruments> {
        let labels: Labels = stream.labels()?;
        let (arrivals, terms, prices) = (self.scenario.arrivals, stream.terms(), way.target.prices.clone());
        let facts = Facts { arrivals, simulated: terms.simulated, limit: terms.max_concurrency, prices };
        let (ledger, course) = (Arc::clone(&stream.traffic.ledger), Arc::clone(&stream.course));
        Some(around.metrics.bind(&labels, ledger, course, facts))
    }

    pub(super) fn spread(&self, shard: Shard) -> Spread {
        let (arrivals, scenario) = (self.scenario.arrivals, self.scenario.name.clone());
        Spread { arrivals, seed: self.seed, scenario, shard }
    }

    /// When its cycles begin.
    pub(super) fn timetable(&self) -> Timetable {
        Timetable::of(&self.scenario)
    }

    /// Whether what another setting says of arrivals is the same: then they go on undisturbed.
    pub(super) fn is_timed_like(&self, other: &Setting) -> bool {
        let timing = |setting: &Setting| {
            let plan::Scenario { schedule, arrivals, repeat, start, active, .. } = &setting.scenario;
            (Arc::clone(schedule), *arrivals, *repeat, start.clone(), active.clone())
        };
        self.seed == other.seed && timing(self) == timing(other)
    }
}
