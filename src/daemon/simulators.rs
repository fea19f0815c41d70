//! The built-in simulators, one for each target with a `simulator` section.
//!
//! The client of a target and each of its requests in flight hold a reference to the simulator of
//! the target. So if a reload removes the target, the simulator ends after the last request.
//! Simulators start and end on separate threads, because starting and ending can block a thread.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use url::Url;

use super::Error;
use crate::plan::{Location, Target};
use crate::simulator::{Simulator, SimulatorOptions};

/// The running simulators, each with the name of its target and its options. Clones share the
/// simulators.
#[derive(Clone, Default)]
pub(super) struct Simulators(Vec<(String, SimulatorOptions, Arc<Host>)>);

/// A simulator that ends on a separate thread, regardless of the thread that drops it.
#[derive(Debug)]
pub(super) struct Host(Option<Simulator>);

impl Drop for Host {
    fn drop(&mut self) {
        let simulator = self.0.take();
        let thread = std::thread::Builder::new().name("simulator-end".to_owned());
        // If no thread can start, this thread waits for the end of the simulator.
        let _detached = thread.spawn(move || drop(simulator));
    }
}

impl Simulators {
    /// Returns the simulators of these targets. A simulator in `running` is reused if its target
    /// and its options are the same. The other targets get a new simulator.
    pub(super) fn start<'a>(
        targets: impl Iterator<Item = &'a Arc<Target>>,
        running: &Simulators,
    ) -> Result<Simulators, Error> {
        let mut all = Simulators::default();
        for target in targets {
            all.add(target, running)?;
        }
        Ok(all)
    }

    /// Returns the base URL of a target, and its simulator if it has one. The caller must keep the
    /// simulator alive while it sends requests to the URL.
    pub(super) fn resolve(&self, target: &Target) -> Result<(Url, Option<Arc<Host>>), Error> {
        let failed = |source| Error::Simulator { target: target.name.clone(), source };
        match &target.location {
            Location::Url(url) => Ok((url.clone(), None)),
            Location::Simulator(options) => {
                let host = self.find(&target.name, options);
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
        let Location::Simulator(options) = &target.location else { return Ok(()) };
        if self.find(&target.name, options).is_some() {
            return Ok(());
        }
        let start = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            Ok(Arc::new(Host(Some(Simulator::start(options.clone(), listener)?))))
        };
        let host = running.find(&target.name, options).map_or_else(start, Ok);
        let host =
            host.map_err(|source| Error::Simulator { target: target.name.clone(), source })?;
        self.0.push((target.name.clone(), options.clone(), host));
        Ok(())
    }

    fn find(&self, target: &str, options: &SimulatorOptions) -> Option<Arc<Host>> {
        let same = |(name, other, _): &&(String, SimulatorOptions, Arc<Host>)| {
            name == target && other == options
        };
        self.0.iter().find(same).map(|(.., host)| Arc::clone(host))
    }
}
