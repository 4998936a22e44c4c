//! How much of the machine a program may take where nobody said.

use std::fs;
use std::path::Path;

/// Where the system does not tell how much memory there is.
const DEFAULT_MEMORY: u64 = 4 << 30;

/// Three quarters of the memory that there is, or that this process's group may take.
pub fn memory_share() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let group = read(Path::new("/proc/self/cgroup")).and_then(|text| of_groups(&text, read));
    let least = machine.into_iter().chain(group).min();
    least.unwrap_or(DEFAULT_MEMORY) / 4 * 3
}

/// The machine's memory by `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of the control groups of `/proc/self/cgroup` and of all above them.
fn of_groups(text: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            old if old.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some((Path::new(root), Path::new(path.trim_start_matches('/')), file))
    });
    // In a container the path is that of the host and may not be there; the root is the container's own group then.
    let files = lines.flat_map(|(root, path, file)| path.ancestors().map(move |at| root.join(at).join(file)));
    // The old kind says a huge number for no limit, the new one "max".
    files.filter_map(|file| read(&file)?.trim().parse().ok()).min()
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
        assert_eq!(total("MemFree: 3 kB\nMemTotal:  24 kB\n"), Some(24 << 10));
        assert_eq!(total("MemTotal: many kB"), None);
        assert!(memory_share() > 0);
    }
}
