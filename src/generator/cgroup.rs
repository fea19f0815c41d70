//! The CPU quota of this process, its throttling and its memory limit, from the cgroups of Linux.
//!
//! Cgroups form a tree. The container of a process and the pod of the container can both have a
//! quota, so this module reads every visible level. It supports both versions of cgroups. Without
//! cgroups, there are no values.

mod memory;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use memory::{MemoryUse, memory_limit};

/// The default period of a quota in the kernel.
const DEFAULT_PERIOD: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// The lowest quota of all levels. `None` if no level has one.
    pub quota: Option<CpuQuota>,
    /// The sum over all levels.
    pub throttling: Option<Throttling>,
    /// `None` if no level has a memory limit.
    pub memory: Option<MemoryUse>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuQuota {
    /// The CPU time per period, in CPUs: 0.5 is half of one CPU.
    pub cpus: f64,
    /// If a cgroup has used its CPU time, the kernel stops it until the next period begins.
    pub period: Duration,
}

/// Throttling since the start of the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// The periods in which the cgroup ran under a quota.
    pub periods: u64,
    /// The periods in which the kernel stopped the cgroup.
    pub throttled: u64,
    /// The time in which the cgroup was stopped, summed over all CPUs.
    pub time: Duration,
}

/// The cgroups of this process with each controller. They never change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    cpu: Levels,
    memory: Levels,
}

impl Groups {
    pub(super) fn find(proc: &Path) -> Groups {
        Groups { cpu: Levels::find(proc, "cpu"), memory: Levels::find(proc, "memory") }
    }

    pub(super) fn read(&self) -> Cgroup {
        Cgroup { memory: self.memory.memory(), ..self.cpu.read() }
    }
}

/// The folders of the cgroups, from the process upwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Levels {
    version: Version,
    folders: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Version {
    One,
    #[default]
    Two,
}

impl Levels {
    /// Finds the cgroups of this process with a controller, such as `cpu`.
    fn find(proc: &Path, controller: &str) -> Levels {
        let text = |name| std::fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
        Levels::parse(&text("cgroup"), &text("mountinfo"), controller).unwrap_or_default()
    }

    fn parse(cgroup: &str, mounts: &str, controller: &str) -> Option<Levels> {
        // A line is `hierarchy:controllers:path`. The line of version 2 has no controllers. If a
        // line of version 1 lists the controller, version 1 has it.
        let groups = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let one =
            groups().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
        let two = groups().find(|(controllers, _)| controllers.is_empty());
        let (version, path) = match (one, two) {
            (Some((_, path)), _) => (Version::One, path),
            (None, Some((_, path))) => (Version::Two, path),
            (None, None) => return None,
        };
        let (root, mount) = mounts.lines().find_map(|line| mount_of(line, version, controller))?;
        // A container often mounts only its part of the tree. If the path of the process leads
        // outside, the mount point is the cgroup of the container.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let below = if path.contains("/..") { Path::new("") } else { below };
        let folders = below.ancestors().map(|level| Path::new(mount).join(level)).collect();
        Some(Levels { version, folders })
    }

    fn read(&self) -> Cgroup {
        let mut all = Cgroup::default();
        for folder in &self.folders {
            let text = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            let quota = match self.version {
                Version::One => quota(&text("cpu.cfs_quota_us"), &text("cpu.cfs_period_us")),
                Version::Two => {
                    text("cpu.max").split_once(' ').and_then(|(most, period)| quota(most, period))
                }
            };
            let tighter = |quota: &CpuQuota| all.quota.is_none_or(|least| quota.cpus < least.cpus);
            all.quota = quota.filter(tighter).or(all.quota);
            if let Some(level) = throttling(&text("cpu.stat")) {
                let sum = all.throttling.get_or_insert_default();
                // All levels have their periods at the same time, so their number is the maximum.
                // But each level can stop the process, so the throttled periods are added up.
                sum.periods = sum.periods.max(level.periods);
                sum.throttled += level.throttled;
                sum.time += level.time;
            }
        }
        all
    }
}

impl Cgroup {
    /// Returns the length of a period, which is also the longest stop by one throttled period.
    pub fn period(&self) -> Duration {
        self.quota.map_or(DEFAULT_PERIOD, |quota| quota.period)
    }
}

/// Returns the root and the mount point of a line in `mountinfo` that mounts the controller. A line
/// is `id parent device root mount-point options … - type source options`.
fn mount_of<'l>(line: &'l str, version: Version, controller: &str) -> Option<(&'l str, &'l str)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let kind = system.next()?;
    let mounts_it = match version {
        Version::One => {
            kind == "cgroup" && system.nth(1)?.split(',').any(|name| name == controller)
        }
        Version::Two => kind == "cgroup2",
    };
    let mut words = mount.split(' ').skip(3);
    mounts_it.then_some((words.next()?, words.next()?))
}

/// Parses a CPU time and a period, both in microseconds. A CPU time of `max` or -1 is no quota.
fn quota(most: &str, period: &str) -> Option<CpuQuota> {
    let most: u32 = most.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok().filter(|period| *period > 0)?;
    // In seconds, 0.01 / 0.1 would be 0.09999999999999999.
    let cpus = f64::from(most) / f64::from(period);
    Some(CpuQuota { cpus, period: Duration::from_micros(period.into()) })
}

fn throttling(stat: &str) -> Option<Throttling> {
    let number = |key| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    // Version 1 has `throttled_time`, in nanoseconds.
    let time = number("throttled_usec ").map(Duration::from_micros);
    let time = time.or_else(|| number("throttled_time ").map(Duration::from_nanos))?;
    Some(Throttling { periods: number("nr_periods ")?, throttled: number("nr_throttled ")?, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const ONE: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                       32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                       33 31 0:33 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";

    fn folders(cgroup: &str, mounts: &str) -> Vec<String> {
        let levels = Levels::parse(cgroup, mounts, "cpu").unwrap_or_default();
        levels
            .folders
            .iter()
            .map(|folder| folder.to_str().unwrap().trim_end_matches('/').to_owned())
            .collect()
    }

    #[test]
    fn the_group_of_the_process_and_all_groups_above_it_are_found() {
        let service = folders("0::/system.slice/llmload.service\n", TWO);
        let expected = ["/system.slice/llmload.service", "/system.slice", ""]
            .map(|p| format!("/sys/fs/cgroup{p}"));
        assert_eq!(service, expected);
        assert_eq!(
            folders("0::/\n", TWO),
            ["/sys/fs/cgroup"],
            "a container with its own namespace"
        );
        assert_eq!(
            folders("0::/../other\n", TWO),
            ["/sys/fs/cgroup"],
            "a path that leads outside the cgroup namespace of the container"
        );
        let docker = "4:cpuset:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/docker/abc\n";
        assert_eq!(folders(docker, ONE), ["/sys/fs/cgroup/cpu,cpuacct"]);
        assert_eq!(
            folders("3:cpu,cpuacct:/docker/abc/inner\n", ONE),
            ["/sys/fs/cgroup/cpu,cpuacct/inner", "/sys/fs/cgroup/cpu,cpuacct"]
        );
        for (cgroup, mounts) in
            [("", TWO), ("0::/\n", ""), ("0::/\n", ONE), ("4:cpuset:/\n", ONE), ("x", "y")]
        {
            assert_eq!(folders(cgroup, mounts), [""; 0], "{cgroup} {mounts}");
        }
    }

    fn read(version: Version, levels: &[&[(&str, &str)]]) -> Cgroup {
        let folder = tempfile::tempdir().unwrap();
        let write = |(level, files): (usize, &&[(&str, &str)])| {
            let folder = folder.path().join(level.to_string());
            std::fs::create_dir(&folder).unwrap();
            for (name, text) in *files {
                std::fs::write(folder.join(name), text).unwrap();
            }
            folder
        };
        Levels { version, folders: levels.iter().enumerate().map(write).collect() }.read()
    }

    #[test]
    fn the_lowest_quota_is_returned_and_throttling_is_added_up() {
        let stat =
            "usage_usec 9\nnr_periods 40\nnr_throttled 7\nthrottled_usec 350000\nnr_bursts 0\n";
        let group = read(
            Version::Two,
            &[
                &[("cpu.max", "150000 100000\n"), ("cpu.stat", stat)],
                &[("cpu.max", "50000 50000\n"), ("cpu.stat", stat)],
                &[("cpu.max", "max 100000\n"), ("cpu.stat", "usage_usec 9\n")],
                &[],
            ],
        );
        let expected = Cgroup {
            quota: Some(CpuQuota { cpus: 1.0, period: Duration::from_millis(50) }),
            throttling: Some(Throttling {
                periods: 40,
                throttled: 14,
                time: Duration::from_millis(700),
            }),
            memory: None,
        };
        assert_eq!(group, expected);
    }

    #[test]
    fn version_one_is_read_from_its_own_files() {
        let stat = "nr_periods 12\nnr_throttled 3\nthrottled_time 250000000\n";
        let files = |quota| {
            [("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", "100000\n"), ("cpu.stat", stat)]
        };
        let (half, none) = (files("50000\n"), files("-1\n"));
        let group = read(Version::One, &[&half]);
        assert_eq!(group.quota, Some(CpuQuota { cpus: 0.5, period: Duration::from_millis(100) }));
        let throttling = Throttling { periods: 12, throttled: 3, time: Duration::from_millis(250) };
        assert_eq!(group.throttling, Some(throttling));
        assert_eq!(read(Version::One, &[&none]).quota, None);
    }

    #[test]
    fn a_quota_is_a_number_that_people_can_read() {
        assert_eq!(quota("10000\n", "100000\n").map(|quota| quota.cpus), Some(0.1));
        assert_eq!(quota("-1\n", "100000\n"), None);
    }

    #[test]
    fn missing_or_invalid_files_give_no_values() {
        assert_eq!(
            read(Version::Two, &[&[("cpu.max", "much\n"), ("cpu.stat", "\n")]]),
            Cgroup::default()
        );
        assert_eq!(Levels::default().read(), Cgroup::default());
        assert_eq!(read(Version::Two, &[&[("cpu.max", "1000 0\n")]]).quota, None);
    }
}
