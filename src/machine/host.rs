//! The CPU time and the memory of this machine, from `/proc`. In a container, these are the values
//! of the host and not of the container.

use std::time::Duration;

/// The unit of times in `/proc`, on all architectures of llmload, in milliseconds.
const TICK: u64 = 10;

/// The use of CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuMode {
    User,
    /// The kernel, with interrupts.
    System,
    /// Idle, while a disk works.
    Iowait,
    /// A hypervisor ran another virtual machine.
    Steal,
    Idle,
}

impl CpuMode {
    pub const ALL: [CpuMode; 5] =
        [CpuMode::User, CpuMode::System, CpuMode::Iowait, CpuMode::Steal, CpuMode::Idle];

    pub fn as_str(self) -> &'static str {
        match self {
            CpuMode::User => "user",
            CpuMode::System => "system",
            CpuMode::Iowait => "iowait",
            CpuMode::Steal => "steal",
            CpuMode::Idle => "idle",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The time since the start of the machine, summed over all CPUs, in the order of
    /// [`CpuMode::ALL`].
    cpu: [Duration; CpuMode::ALL.len()],
    /// In bytes.
    pub memory: u64,
    /// The memory that programs can get without swapping, in bytes.
    pub available: u64,
}

impl Host {
    /// Returns `None` on other operating systems than Linux.
    pub(super) fn read() -> Option<Host> {
        let text = |path| std::fs::read_to_string(path).ok();
        Host::parse(&text("/proc/stat")?, &text("/proc/meminfo")?)
    }

    fn parse(stat: &str, meminfo: &str) -> Option<Host> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || {
            let ticks = numbers.next()?.ok()?;
            Some(Duration::from_millis(ticks.checked_mul(TICK)?))
        };
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        let (iowait, interrupts, soft_interrupts, steal) = (next()?, next()?, next()?, next()?);
        let cpu = [user + nice, system + interrupts + soft_interrupts, iowait, steal, idle];
        let bytes = |key: &str| {
            let value = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Host { cpu, memory: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
    }

    pub fn cpu(&self) -> impl Iterator<Item = (CpuMode, Duration)> {
        CpuMode::ALL.into_iter().zip(self.cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n";
    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\n";

    #[test]
    fn the_times_of_all_cpus_and_the_memory_are_parsed() {
        let seconds = |hundredths: u64| Duration::from_millis(hundredths * 10);
        let host = Host::parse(STAT, MEMINFO).unwrap();
        let cpu: Vec<_> = host.cpu().map(|(mode, time)| (mode.as_str(), time)).collect();
        let expected = [
            ("user", seconds(120)),
            ("system", seconds(43)),
            ("iowait", seconds(50)),
            ("steal", seconds(8)),
            ("idle", seconds(4000)),
        ];
        assert_eq!(cpu, expected);
        assert_eq!((host.memory, host.available), (16 << 20, 8 << 20));
        for (stat, meminfo) in [("", MEMINFO), ("cpu  1 2 3", MEMINFO), (STAT, "MemTotal: 5")] {
            assert_eq!(Host::parse(stat, meminfo), None, "{stat} {meminfo}");
        }
    }
}
