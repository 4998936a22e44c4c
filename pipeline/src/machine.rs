//! How much of the machine a program may take where nobody said.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the system does not tell how much memory there is.
const DEFAULT_MEMORY: u64 = 4 << 30;

/// Three quarters of the memory that there is, or that this process's group may take.
pub fn memory_share() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| meminfo(&text, "MemTotal:"));
    let group = read(Path::new("/proc/self/cgroup")).and_then(|text| of_groups(&text, read));
    let least = machine.into_iter().chain(group).min();
    least.unwrap_or(DEFAULT_MEMORY) / 4 * 3
}

/// Memory that is free now: on the machine, and in this process's group.
pub(crate) fn free_memory() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| meminfo(&text, "MemAvailable:"));
    let group = read(Path::new("/proc/self/cgroup")).and_then(|text| free_in_groups(&text, read));
    machine.into_iter().chain(group).min().unwrap_or(DEFAULT_MEMORY)
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of the control groups of `/proc/self/cgroup` and of all above them.
fn of_groups(text: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    groups(text).filter_map(|group| group.limit(&read)).min()
}

/// The least that is free in the control groups of `/proc/self/cgroup` and in all above them.
fn free_in_groups(text: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    groups(text).filter_map(|group| group.free(&read)).min()
}

/// A control group, and what its files are called.
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

struct Names {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` with what the kernel keeps of files and gives back when it is asked for memory.
    files: [&'static str; 2],
}

const NEW: Names = Names {
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    files: ["inactive_file", "active_file"],
};
const OLD: Names = Names {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};

/// The groups that `/proc/self/cgroup` names, and all above them.
fn groups(text: &str) -> impl Iterator<Item = Group> {
    let named = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let names = match controllers {
            "" => &NEW,
            old if old.split(',').any(|name| name == "memory") => &OLD,
            _ => return None,
        };
        Some((names, Path::new(path.trim_start_matches('/'))))
    });
    // In a container the path is that of the host and may not be there; the root is the container's own group then.
    named.flat_map(|(names, path)| {
        path.ancestors().map(|at| Group { folder: Path::new(names.root).join(at), names })
    })
}

impl Group {
    /// The old kind says a huge number for no limit, the new one "max".
    fn limit(&self, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
        read(&self.folder.join(self.names.limit))?.trim().parse().ok()
    }

    fn free(&self, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let limit = self.limit(&read)?;
        let usage: u64 = read(&self.folder.join(self.names.usage))?.trim().parse().ok()?;
        let stat = read(&self.folder.join("memory.stat")).unwrap_or_default();
        let of = |name: &str| {
            stat.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
        };
        let files: u64 = self.names.files.iter().filter_map(|name| of(name)).fold(0, u64::saturating_add);
        Some(limit.saturating_sub(usage.saturating_sub(files)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_counts() {
        let files = |path: &Path| match path.to_str()? {
            "/sys/fs/cgroup/a/b/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/a/memory.max" => Some("2000000000\n".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712\n".to_owned()),
            _ => None,
        };
        assert_eq!(of_groups("0::/a/b\n", files), Some(2_000_000_000));
        assert_eq!(of_groups("0::/c\n", files), None);
        assert_eq!(of_groups("5:cpu,memory:/docker/x\n3:pids:/\n", files), Some(9_223_372_036_854_771_712));
        for text in ["", ":", "0::", "::::", "0::/../..", "noise"] {
            of_groups(text, files);
        }
        assert_eq!(meminfo("MemFree: 3 kB\nMemTotal:  24 kB\n", "MemTotal:"), Some(24 << 10));
        assert_eq!(meminfo("MemTotal: many kB", "MemTotal:"), None);
        assert!(memory_share() > 0);
    }

    #[test]
    fn what_is_free_is_what_no_group_uses_but_for_files() {
        let files = |path: &Path| {
            Some(match path.to_str()? {
                "/sys/fs/cgroup/a/memory.max" => "1000\n".to_owned(),
                "/sys/fs/cgroup/a/memory.current" => "800\n".to_owned(),
                "/sys/fs/cgroup/a/memory.stat" => "anon 100\ninactive_file 200\nactive_file 50\n".to_owned(),
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "500".to_owned(),
                "/sys/fs/cgroup/memory/memory.usage_in_bytes" => "600".to_owned(),
                _ => return None,
            })
        };
        assert_eq!(free_in_groups("0::/a/b\n", files), Some(450));
        assert_eq!(free_in_groups("0::/b\n", files), None);
        assert_eq!(free_in_groups("4:memory:/\n0::/a\n", files), Some(0));
        assert!(free_memory() > 0);
    }
}
