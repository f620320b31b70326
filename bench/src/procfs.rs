//! CPU time and memory of a process tree, from Linux's `/proc`.

use std::collections::HashMap;
use std::fs;

/// Ticks a second in `/proc/PID/stat`. Linux shows user space 100 on every architecture
/// that we run on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one `/proc/PID/stat` line says, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Own time plus that of children that ended and were waited for.
    cpu_ticks: u64,
}

/// CPU seconds that the tree under `root` has used so far, ended children included.
pub(crate) fn tree_cpu_seconds(root: u32) -> f64 {
    let stats = all_stats();
    let ticks: u64 = tree(root, &stats)
        .iter()
        .filter_map(|pid| stats.get(pid))
        .map(|stat| stat.cpu_ticks)
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Resident memory of each descendant of `root` (not `root` itself), in KiB.
pub(crate) fn descendants_rss_kib(root: u32) -> Vec<u64> {
    let stats = all_stats();
    tree(root, &stats)
        .into_iter()
        .filter(|&pid| pid != root)
        .filter_map(rss_kib)
        .collect()
}

/// Resident memory of one process, in KiB; none if it ended.
pub(crate) fn rss_kib(pid: u32) -> Option<u64> {
    parse_rss_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn all_stats() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&line)?))
        })
        .collect()
}

/// `root` and its living descendants.
fn tree(root: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(
            stats
                .iter()
                .filter(|(_, stat)| stat.parent == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found
}

/// proc(5): the name in parentheses may itself contain blanks and parentheses.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // state ppid ... utime stime cutime cstime are fields 3, 4, 14, 15, 16, 17.
    let parent = fields.get(1)?.parse().ok()?;
    let cpu_ticks = fields
        .get(11..15)?
        .iter()
        .map(|text| text.parse::<u64>().unwrap_or(0))
        .sum();
    Some(Stat { parent, cpu_ticks })
}

fn parse_rss_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_blanks_and_parentheses() {
        let line = "42 (a ) b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 9 8 7";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                cpu_ticks: 127
            })
        );
        assert_eq!(parse_stat("42 (short) S 7"), None);
    }

    #[test]
    fn rss_is_in_kib() {
        assert_eq!(
            parse_rss_kib("Name:\tx\nVmRSS:\t    5120 kB\n"),
            Some(5_120)
        );
        assert_eq!(parse_rss_kib("Name:\tzombie\n"), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let stat = |parent| Stat {
            parent,
            cpu_ticks: 0,
        };
        let stats = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (9, stat(0))]);
        let mut found = tree(1, &stats);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(rss_kib(std::process::id()).is_some_and(|kib| kib > 100));
    }
}
