//! How many files may be open, and how many clients that leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for files, listeners, strangers on the link port and the backing store.
const RESERVED: u64 = 256;
/// Kept for each node: its links and those of a second instance, and the connections
/// of their invocations and, with a local pool, of their runtimes.
const RESERVED_PER_NODE: u64 = 8;

/// Allows as many open files as the system lets us; how many that is, if there is a
/// limit.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// So many clients of those that are wanted have room within the limit.
pub fn clients(wanted: usize, limit: Option<u64>, nodes: u16) -> usize {
    let Some(limit) = limit else {
        return wanted;
    };
    let reserved = RESERVED + RESERVED_PER_NODE * u64::from(nodes);
    let room = usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX);
    wanted.min(room.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_nodes() {
        assert_eq!(clients(10_000, None, 14), 10_000);
        assert_eq!(clients(10_000, Some(1 << 20), 14), 10_000);
        assert_eq!(clients(10_000, Some(1024), 14), 1024 - 256 - 8 * 14);
        assert_eq!(clients(10, Some(1024), 14), 10);
        assert_eq!(clients(10, Some(100), 14), 1);
    }
}
