//! The built-in simulators, one for each target with a `simulator` section.
//!
//! The client of a target and each request in flight share the ownership of its simulator. So after
//! a reload has removed the target, the simulator ends with the last request. Starting and ending
//! can block, so separate threads do both.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use url::Url;

use super::Error;
use crate::plan::{Location, Target};
use crate::simulator::{Simulator, SimulatorOptions};

#[derive(Clone, Default)]
pub(super) struct Simulators(Vec<(String, SimulatorOptions, Arc<Host>)>);

/// Ends its simulator on a separate thread, because the end can block.
#[derive(Debug)]
pub(super) struct Host(Option<Simulator>);

impl Drop for Host {
    fn drop(&mut self) {
        let simulator = self.0.take();
        let thread = std::thread::Builder::new().name("simulator-end".to_owned());
        // If no thread can start, the end blocks this thread.
        let _detached = thread.spawn(move || drop(simulator));
    }
}

impl Simulators {
    /// Returns the simulators of these targets. Reuses a simulator in `running` if its target and
    /// its options are the same.
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

    /// Returns the base URL of a target, and its simulator if it has one. The URL works only while
    /// the caller holds the simulator.
    pub(super) fn resolve(&self, target: &Target) -> Result<(Url, Option<Arc<Host>>), Error> {
        let failed = |cause| Error::Simulator { target: target.name.clone(), cause };
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
        let host = host.map_err(|cause| Error::Simulator { target: target.name.clone(), cause })?;
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
