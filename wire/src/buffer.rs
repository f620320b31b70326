//! What a buffer takes in memory, beyond the bytes asked for.

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
