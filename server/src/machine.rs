//! How much of the machine a training job takes where the configuration does not say.

use std::fs;
use std::path::Path;

/// Where the system does not tell how much memory there is.
const DEFAULT_MEMORY: u64 = 4 << 30;

/// The kernel's weights of niceness 0 to 19 (`sched_prio_to_weight`): threads of one core share its time in their
/// proportion.
const WEIGHTS: [u32; 20] =
    [1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15];

/// Busy threads of the service for each core, all of niceness 0, against which a job must get its share. A service under
/// full load has more threads than that, and they wait for each other: on two cores, with 64 connections asking a resnet18
/// on both of them, a job of one thread got 15 % of a core at niceness 19, 20 at 10, 30 at 7 and 38 at 5; predictions went
/// from 750 a second to 765 at 10, 679 at 7 and 669 at 5. Weights hold among the processes of one session or control group:
/// what others take of the machine, niceness cannot bring back.
const BUSY: f64 = 1.0;

/// The highest niceness with which one thread of a job gets `percent` of a core beside a service under full load.
pub(crate) fn niceness(percent: f64) -> u8 {
    let share = (percent / 100.0).clamp(0.0, 0.99);
    let needed = share / (1.0 - share) * BUSY * f64::from(WEIGHTS[0]);
    // Niceness below 0 takes privileges.
    WEIGHTS.iter().rposition(|&weight| f64::from(weight) >= needed).unwrap_or(0) as u8
}

/// Three quarters of the memory that there is, or that this process's group may take.
pub(crate) fn memory() -> u64 {
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
    fn a_larger_share_is_a_lower_niceness() {
        let by_percent: Vec<u8> = (0..=100).map(|percent| niceness(f64::from(percent))).collect();
        assert!(by_percent.is_sorted_by(|a, b| a >= b), "{by_percent:?}");
        assert_eq!((by_percent[0], by_percent[100]), (19, 0));
        for (percent, &nice) in by_percent.iter().enumerate().filter(|(_, nice)| **nice > 0) {
            let weight = f64::from(WEIGHTS[usize::from(nice)]);
            let share = weight / (weight + BUSY * f64::from(WEIGHTS[0]));
            assert!(share * 100.0 >= percent as f64, "{percent} % is niceness {nice}: {share}");
        }
    }

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
        assert!(memory() > 0);
    }
}
