//! What the kernel tells of this process, out of the texts of `/proc`.
//!
//! The texts are read here rather than by the client library's own collector: that counts CPU in
//! whole seconds, too coarse for a judgement once a second. Where a text is not there or says
//! something else, as on other systems, the figure is absent and nothing is claimed of it.

use std::path::Path;
use std::time::Duration;

/// The kernel tells times to programs in hundredths of a second on every architecture built for.
const TICK: Duration = Duration::from_millis(10);

/// The figures of one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time used so far, by it and for it.
    pub cpu: Option<Duration>,
    /// How many CPUs it may run on.
    pub cpus: Option<u32>,
    /// Threads.
    pub threads: Option<u64>,
    /// Bytes of memory in use.
    pub resident: Option<u64>,
    /// Bytes of addresses in use.
    pub addresses: Option<u64>,
    /// Files and sockets open.
    pub open_files: Option<u64>,
    /// How many it may open.
    pub max_files: Option<u64>,
    /// When it started, in seconds of Unix time.
    pub started: Option<f64>,
}

impl Process {
    /// The figures now, out of a folder such as `/proc`, for a system that was started then.
    pub(super) fn read(proc: &Path, booted: Option<u64>) -> Process {
        let text = |name| std::fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
        let open_files = count(&proc.join("self/fd"));
        Process {
            open_files,
            ..Process::of(&text("stat"), &text("status"), &text("limits"), booted)
        }
    }

    /// The figures that stand in these texts.
    fn of(stat: &str, status: &str, limits: &str, booted: Option<u64>) -> Process {
        let ticks = |number| Some(TICK * u32::try_from(stat_field(stat, number)?).ok()?);
        let bytes =
            |key| Some(field(status, key)?.strip_suffix(" kB")?.parse::<u64>().ok()? * 1024);
        // The first of the two columns is the limit that holds.
        let max_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        #[allow(clippy::cast_precision_loss)]
        let started =
            booted.zip(ticks(22)).map(|(booted, after)| booted as f64 + after.as_secs_f64());
        Process {
            cpu: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            cpus: field(status, "Cpus_allowed_list").and_then(members),
            threads: stat_field(stat, 20),
            resident: bytes("VmRSS"),
            addresses: bytes("VmSize"),
            open_files: None,
            max_files: max_files.and_then(|line| line.split_whitespace().next()?.parse().ok()),
            started,
        }
    }
}

/// When the system was started, in seconds of Unix time. The text is long on large machines, and
/// what it says here never changes.
pub(super) fn booted(proc: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(proc.join("stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A field of `/proc/self/stat` by the number that its manual gives it. The second is the program's
/// name in brackets, which may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// What stands after `key:`.
fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// How many numbers a list such as `0-3,8` has.
fn members(list: &str) -> Option<u32> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
        })
        .sum()
}

/// How many files are open. New kernels (6.2) tell it as the size of the folder, so that nobody has to count
/// ten thousand names.
fn count(folder: &Path) -> Option<u64> {
    let told = std::fs::metadata(folder).ok()?.len();
    if told > 0 {
        return Some(told);
    }
    let names = u64::try_from(std::fs::read_dir(folder).ok()?.count()).ok()?;
    // One of them is what reads the folder.
    Some(names.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    // As a kernel of version 6.18 writes them, the name of the program aside.
    const STAT: &str = "10382 (a) b (c)) R 10374 10374 8933 0 -1 4194304 97 0 0 0 1234 66 0 0 20 0 7 0 1199005 3133440 \
                        382 18446744073709551615 93878688321536 93878688341417 140736532760288 0 0 0 0 0 0 0 0 0 17 \
                        0 0 0 0 0 0 93878688357424 93878688359040 93879120543744 140736532765235 140736532765255 0\n";
    const STATUS: &str = "Name:\tllmload\nState:\tR (running)\nVmPeak:\t    9999 kB\nVmSize:\t    3060 kB\n\
                          VmRSS:\t    1696 kB\nThreads:\t7\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,5\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max processes             24085                24085                processes \n\
                          Max open files            1024                 524288               files     \n";

    #[test]
    fn the_figures_are_those_of_the_kernel() {
        let expected = Process {
            cpu: Some(Duration::from_secs(13)),
            cpus: Some(4),
            threads: Some(7),
            resident: Some(1696 * 1024),
            addresses: Some(3060 * 1024),
            open_files: None,
            max_files: Some(1024),
            started: Some(1_700_011_990.05),
        };
        assert_eq!(Process::of(STAT, STATUS, LIMITS, Some(1_700_000_000)), expected);
    }

    #[test]
    fn what_is_not_told_is_absent() {
        assert_eq!(Process::of("", "", "", Some(1)), Process::default());
        assert_eq!(Process::read(Path::new("/nowhere"), None), Process::default());
        assert_eq!(
            Process::of("1 (a) R 1", "VmRSS: many", "Max open files unlimited", None),
            Process::default()
        );
    }

    #[test]
    fn the_cpus_of_a_list_are_counted() {
        for (list, expected) in
            [("0", Some(1)), ("0-63", Some(64)), ("0-1,4,8-9", Some(5)), ("", None), ("3-1", None)]
        {
            assert_eq!(members(list), expected, "{list}");
        }
    }

    #[test]
    fn on_this_machine_what_is_told_moves_with_what_is_done() {
        let read = || Process::read(Path::new("/proc"), booted(Path::new("/proc")));
        let before = read();
        let opened: Vec<_> =
            (0..300).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let mut after = read();
        // Other tests of this process open and close files too, but not so many.
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
