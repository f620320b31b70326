//! Defaults of what keeps a pool alive. The availability study of the bench takes
//! them from here, so that it plays what runs.

/// How often, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// Longest silence before a node is pinged, in seconds.
    pub warm_interval_s: u64,
    /// Seconds between rounds of a node.
    pub backup_interval_s: u64,
    /// MiB stored on a node after which its next round is due.
    pub backup_after_mb: u64,
    /// Megabytes a second of all backups.
    pub backup_mb_s: u32,
    /// Megabytes of objects a second that are read for repairs.
    pub repair_mb_s: u32,
}

impl Upkeep {
    /// Functions on Lambda, or what takes its place: by `docs/availability.md`.
    pub const REMOTE: Self = Self {
        warm_interval_s: 45,
        backup_interval_s: 45,
        backup_after_mb: 4,
        backup_mb_s: 800,
        repair_mb_s: 400,
    };

    /// Processes on this machine, which share its processors with the proxy.
    pub const LOCAL: Self = Self {
        backup_after_mb: 256,
        backup_mb_s: 50,
        repair_mb_s: 200,
        ..Self::REMOTE
    };
}
