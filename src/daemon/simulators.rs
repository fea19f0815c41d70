//! The built-in simulators of the targets that ask for one.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use url::Url;

use super::Error;
use crate::plan::{Location, Target};
use crate::simulator::{Settings, Simulator};

/// One for each target that asks for one. Clones share those that run.
#[derive(Clone, Default)]
pub(super) struct Simulators(Vec<(String, Settings, Arc<Simulator>)>);

impl Simulators {
    /// The base URL of a target. A simulator that it asks for is taken from `running` if it is there
    /// with the same settings, else started.
    pub(super) fn address(&mut self, target: &Target, running: &Simulators) -> Result<Url, Error> {
        let settings = match &target.location {
            Location::Url(url) => return Ok(url.clone()),
            Location::Simulator(settings) => settings,
        };
        let failed = |source| Error::Simulator { target: target.name.clone(), source };
        let there = self.of(&target.name).or_else(|| running.with(&target.name, settings));
        let simulator = if let Some(simulator) = there {
            simulator
        } else {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            Arc::new(Simulator::start(settings.clone(), listener).map_err(failed)?)
        };
        let address = format!("http://{}/v1", simulator.address());
        if self.of(&target.name).is_none() {
            self.0.push((target.name.clone(), settings.clone(), simulator));
        }
        Url::parse(&address).map_err(|error| failed(std::io::Error::other(error)))
    }

    /// The one of a target.
    pub(super) fn of(&self, target: &str) -> Option<Arc<Simulator>> {
        self.0.iter().find(|(name, ..)| name == target).map(|(.., simulator)| Arc::clone(simulator))
    }

    fn with(&self, target: &str, settings: &Settings) -> Option<Arc<Simulator>> {
        let same = |(name, its, _): &&(String, Settings, Arc<Simulator>)| name == target && its == settings;
        self.0.iter().find(same).map(|(.., simulator)| Arc::clone(simulator))
    }
}
