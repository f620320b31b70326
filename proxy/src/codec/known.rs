//! Known answers: whether an implementation computes right on this processor.
//! Each has code of its own for what a processor can do, which no test elsewhere
//! has run; a wrong byte would be found when it is too late.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Code, CodecError};

/// Data chunks of the answers.
const DATA: usize = 10;
/// Most parity chunks of theirs: kernels differ by how many there are.
const PARITY: usize = 4;

/// Cell lengths in bytes, whole vectors of any kernel and what is left of them, and
/// the [`digest`] of 1 to 4 parity cells: GF(2^8) by 0x11d, the Vandermonde matrix
/// times the inverse of its upper square (computed by another program).
const ANSWERS: [(usize, [u64; PARITY]); 4] = [
    (
        1,
        [
            0xaf64_254c_8602_6897,
            0x0994_3907_b618_2708,
            0x5f04_501a_6b0a_f5b8,
            0x7f49_fee3_e39f_cf06,
        ],
    ),
    (
        63,
        [
            0x7861_8828_8c47_c12e,
            0x98d1_a3a4_ec0e_cd7f,
            0xe7c5_91e9_31d3_2365,
            0xe4bc_daff_757f_6e46,
        ],
    ),
    (
        200,
        [
            0x01fc_fdf6_9011_78b3,
            0x9563_55eb_560c_2d41,
            0x5be6_a2f1_5e7a_9ba9,
            0x79c4_e6b0_a96a_6892,
        ],
    ),
    (
        4_173,
        [
            0x72c4_4192_f73f_5cac,
            0x0534_2373_927c_2beb,
            0xde70_c4fc_d09c_c194,
            0xf1e7_ce0c_34d1_07e0,
        ],
    ),
];

/// Whether the code that `make` makes for so many data and parity chunks gives the
/// known answers, and decodes what it encoded.
pub(super) fn holds(
    make: impl Fn(usize, usize) -> Result<Arc<dyn Code>, CodecError>,
) -> Result<bool, CodecError> {
    for parity in 1..=PARITY {
        let code = make(DATA, parity)?;
        for (len, answers) in ANSWERS {
            let cells = encoded(&*code, parity, len)?;
            if digest(&cells[DATA..]) != answers[parity - 1] {
                return Ok(false);
            }
            for first in [0, DATA - parity, DATA - 1] {
                let lost = first..first + parity;
                let kept = |i: usize| (!lost.contains(&i)).then(|| &cells[i][..]);
                let data: Vec<Option<&[u8]>> = (0..DATA).map(kept).collect();
                let mut sums: Vec<BytesMut> = cells[DATA..].to_vec();
                let mut places: Vec<Option<&mut [u8]>> = (sums.iter_mut().enumerate())
                    .map(|(i, cell)| (!lost.contains(&(DATA + i))).then_some(&mut cell[..]))
                    .collect();
                code.decode(&data, &mut places)?;
                let made = places.iter().flatten().map(|cell| &cell[..]);
                let wanted = lost.filter(|i| *i < DATA).map(|i| &cells[i][..]);
                if !made.zip(wanted).all(|(made, wanted)| made == wanted) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// The cells of a stripe, data and parity.
fn encoded(code: &dyn Code, parity: usize, len: usize) -> Result<Vec<BytesMut>, CodecError> {
    // a fixed sequence without a short period
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let data = (0..DATA).map(|_| (0..len).map(|_| next()).collect());
    let mut cells: Vec<BytesMut> = data.collect();
    let mut sums = vec![BytesMut::zeroed(len); parity];
    let mut places: Vec<&mut [u8]> = sums.iter_mut().map(|c| &mut c[..]).collect();
    for (chunk, cell) in cells.iter().enumerate() {
        code.add(chunk, cell, &mut places)?;
    }
    cells.extend(sums);
    Ok(cells)
}

/// FNV-1a of all bytes.
fn digest(cells: &[BytesMut]) -> u64 {
    let bytes = cells.iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Backend, portable::Portable},
        *,
    };

    /// Computes wrongly where a kernel's whole vectors end.
    struct Wrong(Portable);

    impl Code for Wrong {
        fn add(
            &self,
            chunk: usize,
            cell: &[u8],
            parity: &mut [&mut [u8]],
        ) -> Result<(), CodecError> {
            self.0.add(chunk, cell, parity)?;
            let tail = parity[0].get_mut(4_160..).unwrap_or_default();
            tail.iter_mut()
                .take(usize::from(chunk == 3))
                .for_each(|byte| *byte ^= 1);
            Ok(())
        }

        fn decode(
            &self,
            data: &[Option<&[u8]>],
            parity: &mut [Option<&mut [u8]>],
        ) -> Result<(), CodecError> {
            self.0.decode(data, parity)
        }
    }

    #[test]
    fn both_implementations_give_them() {
        for backend in [Backend::RustyErasure, Backend::ReedSolomonErasure] {
            let runs = backend.is_supported();
            assert!(
                !runs || holds(|d, p| backend.code(d, p)).unwrap(),
                "{backend:?}"
            );
        }
    }

    #[test]
    fn a_wrong_byte_is_noticed() {
        let wrong = |d, p| -> Result<Arc<dyn Code>, CodecError> {
            let right = Portable::new(d, p)?;
            match p {
                3 => Ok(Arc::new(Wrong(right))),
                _ => Ok(Arc::new(right)),
            }
        };
        assert!(!holds(wrong).unwrap());
    }
}
