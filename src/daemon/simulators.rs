//! The built-in simulators of the targets that ask for one.
//!
//! The client of each holds on to it, and so does every request on its way: a simulator that a reload
//! does without ends with the last request to it. Neither its start nor its end is waited for on a
//! thread that requests are sent from.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use url::Url;

use super::Error;
use crate::plan::{Location, Target};
use crate::simulator::{Simulator, SimulatorOptions};

/// One for each target that asks for one. Clones share those that run.
#[derive(Clone, Default)]
pub(super) struct Simulators(Vec<(String, SimulatorOptions, Arc<Host>)>);

/// A simulator that ends on a thread that may wait, wherever the last of those who use it lets go.
#[derive(Debug)]
pub(super) struct Host(Option<Simulator>);

impl Drop for Host {
    fn drop(&mut self) {
        let simulator = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(simulator));
        }
    }
}

impl Simulators {
    /// Those that these targets ask for. What is in `running` with the same settings goes on, the others
    /// are started.
    pub(super) async fn of(
        targets: Vec<Arc<Target>>,
        running: Simulators,
    ) -> Result<Simulators, Error> {
        let started = spawn_blocking(move || {
            let mut all = Simulators::default();
            for target in &targets {
                all.add(target, &running)?;
            }
            Ok(all)
        });
        started.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// The base URL of a target, and who has to be there as long as something is sent to it.
    pub(super) fn reach(&self, target: &Target) -> Result<(Url, Option<Arc<Host>>), Error> {
        let failed = |source| Error::Simulator { target: target.name.clone(), source };
        match &target.location {
            Location::Url(url) => Ok((url.clone(), None)),
            Location::Simulator(settings) => {
                let host = self.find(&target.name, settings);
                let simulator = host.as_ref().and_then(|host| host.0.as_ref());
                let simulator =
                    simulator.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
                let address = format!("http://{}/v1", simulator.address());
                let address =
                    Url::parse(&address).map_err(|error| failed(std::io::Error::other(error)))?;
                Ok((address, host))
            }
        }
    }

    fn add(&mut self, target: &Target, running: &Simulators) -> Result<(), Error> {
        let Location::Simulator(settings) = &target.location else { return Ok(()) };
        if self.find(&target.name, settings).is_some() {
            return Ok(());
        }
        let start = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            Ok(Arc::new(Host(Some(Simulator::start(settings.clone(), listener)?))))
        };
        let host = running.find(&target.name, settings).map_or_else(start, Ok);
        let host =
            host.map_err(|source| Error::Simulator { target: target.name.clone(), source })?;
        self.0.push((target.name.clone(), settings.clone(), host));
        Ok(())
    }

    fn find(&self, target: &str, settings: &SimulatorOptions) -> Option<Arc<Host>> {
        let same = |(name, its, _): &&(String, SimulatorOptions, Arc<Host>)| {
            name == target && its == settings
        };
        self.0.iter().find(same).map(|(.., host)| Arc::clone(host))
    }
}
