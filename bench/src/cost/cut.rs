//! How the product lays out an object of a described size: whole copies up to 256 KiB,
//! chunks above, and small values in segments with others that come at the same time.

use scatterhoard_wire::geometry::GeometryPolicy;
use scatterhoard_wire::{Geometry, Layout};

use super::formula::Workload;
use crate::availability::settings::{DIAL, Settings};

/// The proxy's defaults: what shares a segment, how long one is, its cells, and how many
/// are written at the same time (`store/pack`).
const PACK_UP_TO_BYTES: u64 = 16 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_CELL_BYTES: u32 = 32 << 10;
const SEGMENTS_AT_ONCE: f64 = 2.0;

/// What one object is on nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    /// Chunks that are needed to read what it lies in.
    pub(super) data: f64,
    /// Nodes that a GET asks, and bytes from each.
    pub(super) get_nodes: f64,
    pub(super) get_bytes: f64,
    /// Nodes that a SET writes to, its share of a segment's; bytes to each.
    pub(super) set_nodes: f64,
    pub(super) set_chunk_bytes: f64,
    /// What it takes of all nodes' budgets together, bookkeeping included.
    pub(super) held_bytes: f64,
}

/// With the pool's data and parity chunks for large objects.
pub(super) fn of(settings: &Settings, workload: &Workload) -> Cut {
    let (data, parity) = (settings.data, settings.parity);
    let full = Geometry::new(data as u8, parity as u8);
    let policy = full.map(GeometryPolicy::with_full);
    let bytes = workload.bytes();
    // a segment takes what comes while those before it are written: a node is woken
    let write_s = (settings.warm_hello + DIAL) as f64 / 1e6;
    let shared = values_in_segment(bytes, workload.sets_per_hour, write_s);
    let segment = bytes.saturating_mul(shared);
    let layout = policy.and_then(|p| p.layout(segment));
    let layout = match shared {
        1 => layout,
        _ => layout.and_then(|l| Layout::new(l.geometry(), segment, SEGMENT_CELL_BYTES)),
    };
    // larger than any object: as if it were cut all the same
    let Ok(layout) = layout else {
        return without_limit(data as f64, (data + parity) as f64, bytes as f64);
    };
    let (geometry, chunk) = (layout.geometry(), layout.chunk_bytes() as f64);
    let total = geometry.total() as f64;
    let is_alone = shared == 1;
    Cut {
        data: geometry.data() as f64,
        get_nodes: if is_alone {
            geometry.data() as f64
        } else {
            1.0
        },
        // of a segment a whole cell
        get_bytes: if is_alone {
            chunk
        } else {
            chunk.min(f64::from(SEGMENT_CELL_BYTES))
        },
        set_nodes: total / shared as f64,
        set_chunk_bytes: chunk,
        held_bytes: layout.accounted_bytes() as f64 * total / shared as f64,
    }
}

fn without_limit(data: f64, total: f64, bytes: f64) -> Cut {
    Cut {
        data,
        get_nodes: data,
        get_bytes: bytes / data,
        set_nodes: total,
        set_chunk_bytes: bytes / data,
        held_bytes: bytes / data * total,
    }
}

/// How many values share a segment: those of one size that come while it waits. One that
/// comes alone goes to nodes alone.
fn values_in_segment(bytes: u64, sets_per_hour: f64, write_s: f64) -> u64 {
    if bytes == 0 || bytes > PACK_UP_TO_BYTES {
        return 1;
    }
    let come = sets_per_hour / 3600.0 * write_s / SEGMENTS_AT_ONCE;
    (come as u64).clamp(1, SEGMENT_BYTES / bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(object_mb: f64, sets_per_hour: f64) -> Cut {
        let workload = Workload {
            stored_gb: 1.0,
            object_mb,
            gets_per_hour: 1.0,
            sets_per_hour,
            peak: 1.0,
            client_peak: 1.0,
        };
        of(&Settings::proxy_defaults(20, 320), &workload)
    }

    #[test]
    fn small_objects_are_whole_copies_on_three_nodes() {
        for (mb, least) in [
            (0.001, 3.0),
            (0.1, 3.0),
            (0.262_144, 3.0),
            (1.0, 1.5),
            (50.0, 1.2),
        ] {
            let times = cut(mb, 100.0).held_bytes / (mb * 1e6);
            // buffers come in sizes, and have bookkeeping
            let overhead = if mb < 0.01 { 1.4 } else { 1.05 };
            assert!((least..=least * overhead).contains(&times), "{mb} {times}");
        }
        let copy = cut(0.1, 100.0);
        assert_eq!((copy.data, copy.get_nodes, copy.set_nodes), (1.0, 1.0, 3.0));
        assert_eq!(copy.get_bytes, 100_000.0);
        let large = cut(50.0, 100.0);
        assert_eq!((large.get_nodes, large.set_nodes), (10.0, 12.0));
    }

    #[test]
    fn what_comes_together_shares_segments() {
        // 7.5 ms for each of two: 1,000 a second make 7, and 200,000 fill a megabyte
        let few = cut(0.001, 3.6e6);
        assert!((few.set_nodes - 3.0 / 7.0).abs() < 1e-9, "{few:?}");
        assert_eq!(few.get_nodes, 1.0);
        let many = cut(0.001, 3.6e6 * 200.0);
        // 1,048 values in 4+2
        assert!((many.held_bytes / 1_000.0 - 1.5).abs() < 0.02, "{many:?}");
        assert_eq!(many.get_bytes, 32_768.0);
        assert_eq!(cut(0.016_385, 1e9).set_nodes, 3.0, "too long to be packed");
    }
}
