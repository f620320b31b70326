//! What a buffer takes in memory, beyond the bytes asked for, and where in it they begin.

use bytes::{Buf, BufMut, BytesMut};

/// Above this length a buffer is whole pages.
const PAGED_FROM_BYTES: usize = 16 * 1024;
const PAGE_BYTES: usize = 4 * 1024;
/// No allocation is shorter, and all are multiples of it.
const LEAST_BYTES: usize = 16;

/// The bytes that a buffer of `len` bytes takes. Small ones as the allocator
/// rounds them: four sizes for each doubling (`mi_bin` of mimalloc 3), less
/// than a quarter more than `len` from 64 bytes on. Beyond 16 KiB whole pages:
/// the allocator rounds addresses further, but pages that are never written
/// cost nothing. A buffer that is to be used again is allocated so long, and
/// serves every length that is rounded alike.
pub const fn buffer_bytes(len: usize) -> usize {
    if len <= LEAST_BYTES {
        return if len == 0 { 0 } else { LEAST_BYTES };
    }
    let quarter = (1 << (len - 1).ilog2()) / 4;
    let step = if len > PAGED_FROM_BYTES {
        PAGE_BYTES
    } else if quarter < LEAST_BYTES {
        LEAST_BYTES
    } else {
        quarter
    };
    len.next_multiple_of(step)
}

/// How far behind the beginning of a page the bytes of a [`bulk_buffer`] begin.
const BULK_OFFSET_BYTES: usize = PAGE_BYTES / 2;
const CACHE_LINE_BYTES: usize = 64;

/// An empty buffer with room for `len` bytes that go through sockets. Beyond 16 KiB they
/// do not begin where a page does, see [`off_page_start`].
pub fn bulk_buffer(len: usize) -> BytesMut {
    if len <= PAGED_FROM_BYTES {
        return BytesMut::with_capacity(len);
    }
    off_page_start(BytesMut::with_capacity(BULK_OFFSET_BYTES + len), len)
}

/// An empty buffer whose allocation begins with a page, to be filled with `len` bytes that
/// go through sockets: uses what it has room for beyond them to begin further on.
///
/// The kernel copies what is sent behind a short header that it has laid at the beginning
/// of a page. Where a copy goes to a place 1 to 31 bytes further within its page than it
/// comes from, processors may take it for one that overlaps: on AMD (`rep movsb`) such a
/// copy takes up to five times as long. Measured in `docs/performance.md`.
pub fn off_page_start(mut buffer: BytesMut, len: usize) -> BytesMut {
    debug_assert!(buffer.is_empty());
    let spare = buffer.capacity().saturating_sub(len);
    let offset = spare.min(BULK_OFFSET_BYTES) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
    buffer.put_bytes(0, offset);
    buffer.advance(offset);
    buffer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::MAX_CELL_BYTES;

    #[test]
    fn small_sizes_are_those_of_the_allocator() {
        let rounded = |lens: &[usize]| lens.iter().map(|l| buffer_bytes(*l)).collect::<Vec<_>>();
        assert_eq!(rounded(&[0, 1, 16, 17, 64, 65]), [0, 16, 16, 32, 64, 80]);
        // as in the table of mimalloc's init.c, in words: 16 20 24 28 32 40
        let bins = [128, 160, 192, 224, 256, 320];
        assert_eq!(rounded(&bins), bins);
        assert_eq!(
            rounded(&bins.map(|b| b + 1)),
            [160, 192, 224, 256, 320, 384]
        );
        assert_eq!(rounded(&[1000, 1025, 5000]), [1024, 1280, 5120]);
        assert_eq!(
            rounded(&[16_384, 16_385, 250_000]),
            [16_384, 20_480, 253_952]
        );
    }

    #[test]
    fn bulk_does_not_begin_where_a_page_does() {
        let place = |buffer: &BytesMut| buffer.as_ptr() as usize % PAGE_BYTES;
        let moved = |len| {
            let buffer = BytesMut::with_capacity(PAGE_BYTES);
            let before = place(&buffer);
            let buffer = off_page_start(buffer, len);
            assert!(buffer.is_empty() && buffer.capacity() >= len);
            (place(&buffer) + PAGE_BYTES - before) % PAGE_BYTES
        };
        assert_eq!(
            [0, 2048, 4000, 4033, 4096].map(moved),
            [2048, 2048, 64, 0, 0]
        );
        for len in [1, PAGED_FROM_BYTES, PAGED_FROM_BYTES + 1, 262_144] {
            let mut buffer = bulk_buffer(len);
            assert!(buffer.is_empty());
            assert_eq!(buffer.capacity(), len);
            let has_room_before = buffer.try_reclaim(len + BULK_OFFSET_BYTES);
            assert_eq!(has_room_before, len > PAGED_FROM_BYTES, "{len}");
        }
    }

    proptest! {
        #[test]
        fn waste_is_bounded_and_rounding_is_stable(len in 1..=MAX_CELL_BYTES as usize) {
            let rounded = buffer_bytes(len);
            let most = match len {
                0..=64 => 15,
                65..=PAGED_FROM_BYTES => len / 4,
                _ => PAGE_BYTES - 1,
            };
            prop_assert!(rounded >= len && rounded - len <= most, "{len} -> {rounded}");
            prop_assert_eq!(buffer_bytes(rounded), rounded);
            prop_assert!(buffer_bytes(len + 1) >= rounded);
        }
    }
}
