//! Values from the kernel about this process, from `/proc`.
//!
//! The collector of the Prometheus client library rounds CPU time to seconds, which is not enough
//! for a check each second. On other operating systems the values are `None`, and cause no
//! distortion.

use std::path::Path;
use std::time::Duration;

/// The unit of times in `/proc`, on all architectures of llmload.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// The user and system CPU time since the start.
    pub cpu: Option<Duration>,
    /// The number of CPUs in the CPU affinity.
    pub cpus: Option<u32>,
    pub threads: Option<u64>,
    /// The resident memory in bytes.
    pub resident: Option<u64>,
    /// The virtual memory in bytes.
    pub virtual_memory: Option<u64>,
    /// Files and sockets.
    pub open_files: Option<u64>,
    pub max_files: Option<u64>,
    /// In seconds of Unix time.
    pub started: Option<f64>,
}

impl Process {
    /// Reads the values from a folder such as `/proc`. `boot_time` is in seconds of Unix time.
    pub(super) fn read(proc: &Path, boot_time: Option<u64>) -> Process {
        let text = |name| std::fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
        Process {
            open_files: count_open_files(&proc.join("self/fd")),
            max_files: max_files(),
            ..Process::parse(&text("stat"), &text("status"), boot_time)
        }
    }

    fn parse(stat: &str, status: &str, boot_time: Option<u64>) -> Process {
        let ticks = |number| Some(TICK * u32::try_from(stat_field(stat, number)?).ok()?);
        let bytes =
            |key| Some(field(status, key)?.strip_suffix(" kB")?.parse::<u64>().ok()? * 1024);
        #[allow(clippy::cast_precision_loss)]
        let started =
            boot_time.zip(ticks(22)).map(|(boot, after)| boot as f64 + after.as_secs_f64());
        Process {
            cpu: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            cpus: field(status, "Cpus_allowed_list").and_then(count_numbers),
            threads: stat_field(stat, 20),
            resident: bytes("VmRSS"),
            virtual_memory: bytes("VmSize"),
            open_files: None,
            max_files: None,
            started,
        }
    }
}

/// Returns the start of the operating system, in seconds of Unix time. It never changes, and the
/// file is long on large machines.
pub(super) fn boot_time(proc: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(proc.join("stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Returns a field of `/proc/self/stat` by its number in the manual page. The second field is the
/// name of the program, which can contain spaces and brackets. So the other fields are found after
/// the last `) `.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Counts the numbers in a list. `0-3,8` has five.
fn count_numbers(list: &str) -> Option<u32> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
        })
        .sum()
}

/// Returns the soft limit of open files, which is in effect. At this limit no file in `/proc` can
/// be opened, so a system call reads it.
#[cfg(target_os = "linux")]
fn max_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
fn max_files() -> Option<u64> {
    None
}

/// Returns the number of open files. Since Linux 6.2 it is the size of the folder. On older kernels
/// the size is 0, and the names are counted, which is slow for ten thousand files.
fn count_open_files(folder: &Path) -> Option<u64> {
    let size = std::fs::metadata(folder).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let names = u64::try_from(std::fs::read_dir(folder).ok()?.count()).ok()?;
    // The folder itself is open while its names are counted.
    Some(names.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    // From a machine with Linux 6.18, with another program name.
    const STAT: &str = "10382 (a) b (c)) R 10374 10374 8933 0 -1 4194304 97 0 0 0 1234 66 0 0 20 0 7 0 1199005 3133440 \
                        382 18446744073709551615 93878688321536 93878688341417 140736532760288 0 0 0 0 0 0 0 0 0 17 \
                        0 0 0 0 0 0 93878688357424 93878688359040 93879120543744 140736532765235 140736532765255 0\n";
    const STATUS: &str = "Name:\tllmload\nState:\tR (running)\nVmPeak:\t    9999 kB\nVmSize:\t    3060 kB\n\
                          VmRSS:\t    1696 kB\nThreads:\t7\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,5\n";

    #[test]
    fn all_values_are_parsed_from_the_files_in_proc() {
        let expected = Process {
            cpu: Some(Duration::from_secs(13)),
            cpus: Some(4),
            threads: Some(7),
            resident: Some(1696 * 1024),
            virtual_memory: Some(3060 * 1024),
            open_files: None,
            max_files: None,
            started: Some(1_700_011_990.05),
        };
        assert_eq!(Process::parse(STAT, STATUS, Some(1_700_000_000)), expected);
    }

    #[test]
    fn missing_or_invalid_values_are_none() {
        assert_eq!(Process::parse("", "", Some(1)), Process::default());
        let nowhere = Process::read(Path::new("/nowhere"), None);
        assert_eq!(Process { max_files: None, ..nowhere }, Process::default());
        assert_eq!(Process::parse("1 (a) R 1", "VmRSS: many", None), Process::default());
    }

    #[test]
    fn the_cpus_in_a_list_of_ranges_are_counted() {
        for (list, expected) in
            [("0", Some(1)), ("0-63", Some(64)), ("0-1,4,8-9", Some(5)), ("", None), ("3-1", None)]
        {
            assert_eq!(count_numbers(list), expected, "{list}");
        }
    }

    #[test]
    fn values_change_when_this_process_opens_files_and_uses_cpu() {
        let read = || Process::read(Path::new("/proc"), boot_time(Path::new("/proc")));
        let before = read();
        let opened: Vec<_> =
            (0..300).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let mut after = read();
        // Other tests of this process open and close at most 150 files at the same time.
        assert!(after.open_files.unwrap() + 150 > before.open_files.unwrap() + opened.len() as u64);
        assert!(
            after.open_files < after.max_files && after.cpus > Some(0) && after.started > Some(1e9)
        );
        while after.cpu == before.cpu {
            after = read();
        }
        assert!(after.cpu > before.cpu);
    }
}
