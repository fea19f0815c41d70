//! Warnings about limits of the machine: open files, local ports and memory.

use std::collections::BTreeMap;

use super::server_of;
use crate::check::forecast::Forecast;
use crate::check::numbers::{count, rate};
use crate::generator::memory_limit;
use crate::plan::{Plan, Scenario};

/// The limits of this machine. `None` means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemLimits {
    /// The number of files and sockets that a process can open. At its start, llmload raises its
    /// limit to this number.
    pub open_files: Option<u64>,
    /// The number of local ports for new connections.
    pub local_ports: Option<u64>,
    /// The memory limit of the cgroup, in bytes.
    pub memory: Option<u64>,
}

impl SystemLimits {
    pub fn read() -> SystemLimits {
        let limits = rlimit::getrlimit(rlimit::Resource::NOFILE).ok();
        // Only Linux has this file.
        let ports = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        SystemLimits {
            open_files: limits.map(|(_, hard)| hard),
            local_ports: ports.as_deref().and_then(number_of_ports),
            memory: memory_limit(),
        }
    }
}

/// Counts the ports in a range such as `32768 60999`.
fn number_of_ports(range: &str) -> Option<u64> {
    let mut bounds = range.split_whitespace().map(|bound| bound.parse::<u64>().ok());
    let (low, high) = (bounds.next()??, bounds.next()??);
    Some(high.checked_sub(low)? + 1)
}

/// The time for which the kernel can keep the local port of a connection that has ended.
const PORT_SECONDS: u32 = 60;

pub fn find(plan: &Plan, forecast: &Forecast, limits: SystemLimits) -> Vec<String> {
    let files = few_files(plan, limits.open_files);
    let ports = limits.local_ports.map(|ports| {
        let mut warnings = few_ports(plan, forecast, ports);
        warnings.extend(many_connections(plan, forecast, ports));
        warnings
    });
    let memory = little_memory(plan, limits.memory);
    files.into_iter().chain(memory).chain(ports.into_iter().flatten()).collect()
}

/// The daemon makes the same comparison at its start.
#[allow(clippy::cast_precision_loss)]
fn few_files(plan: &Plan, limit: Option<u64>) -> Option<String> {
    let (limit, needed) = (limit?, plan.open_files());
    (needed > limit).then(|| {
        format!(
            "the plan can hold {} files and sockets open, but a process on this machine can open \
             {}, so llmload would not start; raise `ulimit -n` or lower `max_concurrency`",
            count(needed as f64),
            count(limit as f64)
        )
    })
}

/// The daemon logs this warning at its start and at each reload.
pub fn little_memory(plan: &Plan, limit: Option<u64>) -> Option<String> {
    let (limit, needed) = (limit?, plan.peak_memory());
    (needed > limit).then(|| {
        format!(
            "with all requests that max_concurrency allows, llmload needs about {} MiB of memory, \
             but the limit of its control group is {} MiB, where the kernel would kill it; lower \
             `max_concurrency`, or raise the limit (resources.limits.memory in Kubernetes, --memory \
             in Docker)",
            needed >> 20,
            limit >> 20
        )
    })
}

/// Each connection to an address needs a separate local port; connections to different addresses
/// can share one. HTTP/2 is no problem, because it needs few connections.
#[allow(clippy::cast_precision_loss)]
fn few_ports(plan: &Plan, forecast: &Forecast, ports: u64) -> Vec<String> {
    let mut in_flight: BTreeMap<String, u64> = BTreeMap::new();
    for (scenario, forecast) in plan.scenarios.iter().zip(&forecast.scenarios) {
        let others = forecast.other_targets.iter().map(|other| other.in_flight.at_most);
        let at_most = std::iter::once(forecast.in_flight.at_most).chain(others);
        for (target, at_most) in Scenario::targets(scenario).zip(at_most) {
            if !target.connection.http2 {
                *in_flight.entry(server_of(target, true)).or_default() += u64::from(at_most);
            }
        }
    }
    let above = in_flight.into_iter().filter(|(_, needed)| *needed > ports);
    above
        .map(|(server, needed)| {
            format!(
                "up to {} requests to {server} can be in flight, but this machine has {} local \
                 ports for one address, so further requests would fail as `client_resource`; lower \
                 `max_concurrency`, or widen `net.ipv4.ip_local_port_range`",
                count(needed as f64),
                count(ports as f64)
            )
        })
        .collect()
}

/// With `keep_alive: off`, each request opens a connection.
#[allow(clippy::cast_precision_loss)]
fn many_connections(plan: &Plan, forecast: &Forecast, ports: u64) -> Vec<String> {
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
    for (scenario, forecast) in plan.scenarios.iter().zip(&forecast.scenarios) {
        for target in scenario.targets() {
            if target.connection.keep_alive.is_none() && !target.connection.http2 {
                *rates.entry(server_of(target, true)).or_default() += forecast.peak_rate;
            }
        }
    }
    let limit = ports as f64 / f64::from(PORT_SECONDS);
    let above = rates.into_iter().filter(|(_, opened)| *opened > limit);
    above
        .map(|(server, opened)| {
            format!(
                "with `keep_alive: off`, llmload opens connections to {server} at up to {}, and \
                 each can keep its local port for {PORT_SECONDS} s after its end; the {} local \
                 ports of this machine are enough for {}, and further requests would fail as \
                 `client_resource`; remove `keep_alive: off`, lower the rate, or widen \
                 `net.ipv4.ip_local_port_range`",
                rate(opened),
                count(ports as f64),
                rate(limit)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::check::FileCheck;

    fn warnings(yaml: &str, limits: SystemLimits) -> Vec<String> {
        let plan = crate::config::parse(yaml, "f.yml", None, &|_| None).unwrap();
        FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH, limits, &[]).unwrap().warnings
    }

    #[test]
    fn a_plan_that_needs_more_open_files_than_allowed_causes_a_warning() {
        let yaml = "target: {simulator: {}}\nrate: 1/h\nmax_concurrency: 100";
        let plan = crate::config::parse(yaml, "f.yml", None, &|_| None).unwrap();
        let limit =
            |open_files| SystemLimits { open_files: Some(open_files), ..SystemLimits::default() };
        assert_eq!(warnings(yaml, limit(plan.open_files())), [""; 0]);
        let [warning] = &warnings(yaml, limit(plan.open_files() - 1))[..] else { panic!() };
        assert!(warning.starts_with("f.yml: the plan can hold"), "{warning}");
        assert!(warning.contains("so llmload would not start; raise `ulimit -n`"), "{warning}");
        assert_eq!(warnings(yaml, SystemLimits::default()), [""; 0], "the limit is unknown");
    }

    #[test]
    fn a_plan_that_needs_more_memory_than_the_limit_causes_a_warning() {
        let yaml = "target: {simulator: {}}\nrate: 1/h\nmax_concurrency: 1000";
        let plan = crate::config::parse(yaml, "f.yml", None, &|_| None).unwrap();
        // 32 MiB for llmload, and 48 KiB for both ends of 1,000 connections.
        assert_eq!(plan.peak_memory(), (32 << 20) + 2000 * (48 << 10));
        let limit = |memory| SystemLimits { memory: Some(memory), ..SystemLimits::default() };
        assert_eq!(warnings(yaml, limit(plan.peak_memory())), [""; 0]);
        let [warning] = &warnings(yaml, limit(64 << 20))[..] else { panic!() };
        assert!(warning.contains("needs about 125 MiB of memory"), "{warning}");
        assert!(warning.contains("control group is 64 MiB"), "{warning}");
    }

    #[test]
    fn more_requests_in_flight_to_one_address_than_local_ports_cause_a_warning() {
        let yaml = |second: &str| {
            format!(
                "targets: {{a: {{base_url: 'http://h:1/v1'}}, b: {{base_url: 'http://h:{second}'}}}}\n\
                 scenarios: {{a: {{target: a, concurrency: 60, request: {{max_tokens: 1}}}}, \
                 b: {{target: b, concurrency: 41, request: {{max_tokens: 1}}}}}}"
            )
        };
        let limits = SystemLimits { local_ports: Some(100), ..SystemLimits::default() };
        let ports = |yaml: &str| -> Vec<String> {
            warnings(yaml, limits).into_iter().filter(|text| text.contains("local ports")).collect()
        };
        assert_eq!(ports(&yaml("2/v1")), [""; 0], "each address has all ports");
        let [warning] = &ports(&yaml("1/v2"))[..] else { panic!() };
        assert!(warning.contains("up to 101 requests to h:1 can be in flight"), "{warning}");
        let shared = yaml("1/v2").replace("1/v2'", "1/v2', http2: true");
        assert_eq!(ports(&shared), [""; 0], "HTTP/2 shares connections");
    }

    #[test]
    fn more_connections_per_second_than_local_ports_allow_cause_a_warning() {
        let yaml = |rate: &str, keep_alive: &str| {
            format!(
                "targets: {{a: {{base_url: 'http://h:1/v1', keep_alive: {keep_alive}}}, \
                 b: {{base_url: 'http://h:1/v2', keep_alive: {keep_alive}}}}}\n\
                 scenarios: {{s: {{targets: [a, b], rate: {rate}, request: {{max_tokens: 1}}}}}}"
            )
        };
        let limits = SystemLimits { local_ports: Some(28_232), ..SystemLimits::default() };
        let opened = |yaml: &str| -> Vec<String> {
            let warnings = warnings(yaml, limits).into_iter();
            warnings.filter(|text| text.contains("opens connections")).collect()
        };
        assert_eq!(opened(&yaml("235/s", "off")), [""; 0]);
        let [warning] = &opened(&yaml("236/s", "off"))[..] else { panic!() };
        let expected = "f.yml: with `keep_alive: off`, llmload opens connections to h:1 at up to \
                        472/s, and each can keep its local port for 60 s";
        assert!(warning.starts_with(expected), "{warning}");
        assert!(warning.contains("enough for 471/s"), "{warning}");
        assert_eq!(opened(&yaml("236/s", "4s")), [""; 0], "connections are used again");
    }

    #[test]
    fn the_range_of_ports_includes_both_ends() {
        assert_eq!(number_of_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(number_of_ports(""), None);
        assert_eq!(number_of_ports("5 4"), None);
    }
}
