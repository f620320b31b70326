//! CPU time and memory of a process tree, from Linux's `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;

/// Ticks a second in `/proc/PID/stat`. Linux shows user space 100 on every architecture
/// that we run on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one `/proc/PID/stat` line says, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that ended and were waited for.
    ended_ticks: u64,
}

/// CPU seconds that the tree under `root` has used so far, ended children included.
pub(crate) fn tree_cpu_seconds(root: u32) -> f64 {
    trees_cpu_seconds(&[root]).1
}

/// The same of several trees, and of all of them together: one may lie within another.
pub(crate) fn trees_cpu_seconds(roots: &[u32]) -> (Vec<f64>, f64) {
    if roots.is_empty() {
        return (Vec::new(), 0.0);
    }
    let stats = all_stats();
    let seconds = |pids: &HashSet<u32>| {
        let ticks: u64 = pids
            .iter()
            .filter_map(|pid| stats.get(pid))
            .map(|stat| stat.own_ticks + stat.ended_ticks)
            .sum();
        ticks as f64 / TICKS_PER_SECOND
    };
    let trees = roots
        .iter()
        .map(|&root| tree(root, &stats).into_iter().collect());
    let trees: Vec<HashSet<u32>> = trees.collect();
    let all = trees.iter().flatten().copied().collect();
    (trees.iter().map(seconds).collect(), seconds(&all))
}

/// What a process calls itself; none if it ended.
pub(crate) fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// CPU seconds of one process without any children; 0 if it ended.
pub(crate) fn own_cpu_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.own_ticks as f64 / TICKS_PER_SECOND)
}

/// Living children of `parent` that were started with `argument`.
pub(crate) fn children_with_argument(parent: u32, argument: &str) -> Vec<u32> {
    all_stats()
        .into_iter()
        .filter(|(pid, stat)| stat.parent == parent && has_argument(*pid, argument))
        .map(|(pid, _)| pid)
        .collect()
}

/// Not the program's own name, and never of a zombie: it has no arguments any more.
fn has_argument(pid: u32, argument: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0)
            .skip(1)
            .any(|found| found == argument.as_bytes())
    })
}

/// A variable in the environment that a process was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let all = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |entry: &[u8]| {
        let (found, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        (found == name).then(|| value.to_owned())
    };
    all.split(|byte| *byte == 0).find_map(value)
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
    status_kib(pid, "VmRSS:")
}

/// The largest that its resident memory ever was, in KiB; none if it ended.
pub(crate) fn peak_rss_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, name: &str) -> Option<u64> {
    parse_kib(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        name,
    )
}

fn all_stats() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
    let ticks = |range: Range<usize>| -> Option<u64> {
        let texts = fields.get(range)?.iter();
        Some(texts.filter_map(|text| text.parse::<u64>().ok()).sum())
    };
    Some(Stat {
        parent,
        own_ticks: ticks(11..13)?,
        ended_ticks: ticks(13..15)?,
    })
}

fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
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
                own_ticks: 120,
                ended_ticks: 7
            })
        );
        assert_eq!(parse_stat("42 (short) S 7"), None);
    }

    #[test]
    fn rss_is_in_kib() {
        let status = "Name:\tx\nVmHWM:\t    6144 kB\nVmRSS:\t    5120 kB\n";
        assert_eq!(parse_kib(status, "VmRSS:"), Some(5_120));
        assert_eq!(parse_kib(status, "VmHWM:"), Some(6_144));
        assert_eq!(parse_kib("Name:\tzombie\n", "VmRSS:"), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let stat = |parent| Stat {
            parent,
            own_ticks: 0,
            ended_ticks: 0,
        };
        let stats = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (9, stat(0))]);
        let mut found = tree(1, &stats);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn nested_trees_count_once_together() {
        // burn some, so that there is something to count
        let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < until {}
        let own = std::process::id();
        let (each, all) = trees_cpu_seconds(&[own, own]);
        assert!(all > 0.0 && each == [all, all], "{each:?} {all}");
        assert_eq!(trees_cpu_seconds(&[]), (vec![], 0.0));
        assert!(name(own).is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn this_process_has_memory() {
        let (now, peak) = (
            rss_kib(std::process::id()),
            peak_rss_kib(std::process::id()),
        );
        assert!(now.is_some_and(|kib| kib > 100));
        assert!(peak.is_some_and(|kib| kib > 100));
    }

    #[test]
    fn children_are_found_by_a_whole_argument() -> std::io::Result<()> {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("FOUND", "a=b")
            .spawn()?;
        // until it is exec'ed it has our own
        while variable(child.id(), "FOUND").is_none() {
            std::thread::yield_now();
        }
        let named = variable(child.id(), "FOUND");
        assert_eq!(
            (named.as_deref(), variable(child.id(), "FOUN")),
            (Some("a=b"), None)
        );
        let find = |argument| children_with_argument(std::process::id(), argument);
        let found = (find("60"), find("6"), find("sleep"));
        child.kill()?;
        child.wait()?;
        assert_eq!(found, (vec![child.id()], vec![], vec![]));
        assert!(find("60").is_empty());
        Ok(())
    }
}
