//! The memory of the cgroups of this process, and their limits.

use std::path::Path;

use super::{Levels, Version};

/// Version 1 has a number near the largest possible one instead of no limit.
const NO_LIMIT: u64 = 1 << 60;

/// The cgroup that is nearest to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// The memory of all processes of the cgroup, in bytes. It does not include caches of files,
    /// which the kernel can free.
    pub used: u64,
    /// At this limit, the kernel kills a process of the cgroup. In bytes.
    pub limit: u64,
}

/// Returns the lowest memory limit of all cgroups of this process.
pub fn memory_limit() -> Option<u64> {
    Levels::find(Path::new(crate::generator::PROC), "memory").memory_limit()
}

impl Levels {
    /// Returns `None` if no level has a limit.
    pub(super) fn memory(&self) -> Option<MemoryUse> {
        let all = self.folders.iter().filter_map(|folder| self.memory_of(folder));
        #[allow(clippy::cast_precision_loss)]
        let fraction = |memory: &MemoryUse| memory.used as f64 / memory.limit as f64;
        all.max_by(|one, other| fraction(one).total_cmp(&fraction(other)))
    }

    fn memory_limit(&self) -> Option<u64> {
        self.folders.iter().filter_map(|folder| self.limit_of(folder)).min()
    }

    fn limit_of(&self, folder: &Path) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        number(folder, file).filter(|limit| (1..NO_LIMIT).contains(limit))
    }

    fn memory_of(&self, folder: &Path) -> Option<MemoryUse> {
        let (file, caches) = match self.version {
            Version::One => ("memory.usage_in_bytes", ["total_inactive_file", "total_active_file"]),
            Version::Two => ("memory.current", ["inactive_file", "active_file"]),
        };
        let limit = self.limit_of(folder)?;
        let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let lines = stat.lines().filter_map(|line| line.split_once(' '));
        let caches = lines.filter(|(key, _)| caches.contains(key));
        let cached: u64 = caches.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum();
        let used = number(folder, file)?.saturating_sub(cached);
        Some(MemoryUse { used, limit })
    }
}

/// Reads a file with one number. Version 2 has the text `max` instead of no limit.
fn number(folder: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(version: Version, levels: &[&[(&str, &str)]]) -> (tempfile::TempDir, Levels) {
        let folder = tempfile::tempdir().unwrap();
        let mut folders = Vec::new();
        for (level, files) in levels.iter().enumerate() {
            let folder = folder.path().join(level.to_string());
            std::fs::create_dir(&folder).unwrap();
            for (name, text) in *files {
                std::fs::write(folder.join(name), text).unwrap();
            }
            folders.push(folder);
        }
        (folder, Levels { version, folders })
    }

    #[test]
    fn the_group_nearest_to_its_limit_and_the_lowest_limit_are_returned() {
        let pod = [
            ("memory.max", "1000\n"),
            ("memory.current", "950\n"),
            ("memory.stat", "anon 5\ninactive_file 40\nactive_file 10\n"),
        ];
        let container = [("memory.max", "500\n"), ("memory.current", "300\n"), ("memory.stat", "")];
        let (_folder, levels) =
            levels(Version::Two, &[&container, &pod, &[("memory.max", "max\n")], &[]]);
        assert_eq!(levels.memory(), Some(MemoryUse { used: 900, limit: 1000 }));
        assert_eq!(levels.memory_limit(), Some(500));
    }

    #[test]
    fn version_one_is_read_from_its_own_files() {
        let files = |limit| {
            [
                ("memory.limit_in_bytes", limit),
                ("memory.usage_in_bytes", "800\n"),
                (
                    "memory.stat",
                    "inactive_file 1\ntotal_inactive_file 200\ntotal_active_file 100\n",
                ),
            ]
        };
        let (_folder, limited) = levels(Version::One, &[&files("1000\n")]);
        assert_eq!(limited.memory(), Some(MemoryUse { used: 500, limit: 1000 }));
        let (_folder, unlimited) = levels(Version::One, &[&files("9223372036854771712\n")]);
        assert_eq!((unlimited.memory(), unlimited.memory_limit()), (None, None));
    }

    #[test]
    fn the_memory_controller_can_have_a_separate_tree() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
                      33 31 0:30 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let levels = Levels::parse("4:memory:/a\n3:cpu:/b\n", mounts, "memory").unwrap();
        assert_eq!(levels.folders[0], Path::new("/sys/fs/cgroup/memory/a"));
        assert_eq!(levels.version, Version::One);
    }
}
