//! Known answers: whether an implementation computes right on this processor.
//! Each has code of its own for what a processor can do, which no test elsewhere
//! has run; a wrong byte would be found when it is too late.

use bytes::BytesMut;

use super::{Code, CodecError};

/// Geometry of the answers.
pub(super) const DATA: usize = 10;
/// The same.
pub(super) const PARITY: usize = 2;

/// Cell lengths in bytes, whole vectors of any kernel and what is left of them,
/// and the [`digest`] of their parity: GF(2^8) by 0x11d, the Vandermonde matrix
/// times the inverse of its upper square (computed by another program).
const ANSWERS: [(usize, u64); 4] = [
    (1, 0x0994_3907_b618_2708),
    (63, 0x98d1_a3a4_ec0e_cd7f),
    (200, 0x9563_55eb_560c_2d41),
    (4_173, 0x0534_2373_927c_2beb),
];

/// Whether `code`, of [`DATA`] + [`PARITY`], gives the known answers, and decodes
/// what it encoded.
pub(super) fn holds(code: &dyn Code) -> Result<bool, CodecError> {
    for (len, answer) in ANSWERS {
        let [data, parity] = encoded(code, len)?;
        if digest(&parity) != answer {
            return Ok(false);
        }
        for lost in [[0, 1], [4, DATA - 1], [3, DATA]] {
            let mut cells: Vec<Option<BytesMut>> = data
                .iter()
                .chain(&parity)
                .enumerate()
                .map(|(i, cell)| (!lost.contains(&i)).then(|| cell.clone()))
                .collect();
            code.decode(&mut cells, len)?;
            let rebuilt = cells.iter().flatten().zip(&data);
            if !rebuilt.into_iter().all(|(a, b)| a == b) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn encoded(code: &dyn Code, len: usize) -> Result<[Vec<BytesMut>; 2], CodecError> {
    // a fixed sequence without a short period
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let data: Vec<BytesMut> = (0..DATA)
        .map(|_| (0..len).map(|_| next()).collect())
        .collect();
    let mut parity = vec![BytesMut::zeroed(len); PARITY];
    let mut cells: Vec<&mut [u8]> = parity.iter_mut().map(|c| &mut c[..]).collect();
    for (chunk, cell) in data.iter().enumerate() {
        code.add(chunk, cell, &mut cells)?;
    }
    Ok([data, parity])
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
        super::{Backend, portable::Portable, simd::Simd},
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
            cells: &mut [Option<BytesMut>],
            cell_len: usize,
        ) -> Result<(), CodecError> {
            self.0.decode(cells, cell_len)
        }
    }

    #[test]
    fn both_implementations_give_them() {
        let portable = Portable::new(DATA, PARITY).unwrap();
        for (len, answer) in ANSWERS {
            let [_, parity] = encoded(&portable, len).unwrap();
            assert_eq!(
                digest(&parity),
                answer,
                "{len} bytes: {:#x}",
                digest(&parity)
            );
        }
        assert!(holds(&portable).unwrap());
        if Backend::ReedSolomonErasure.is_supported() {
            assert!(holds(&Simd::new(DATA, PARITY).unwrap()).unwrap());
        }
    }

    #[test]
    fn a_wrong_byte_is_noticed() {
        assert!(!holds(&Wrong(Portable::new(DATA, PARITY).unwrap())).unwrap());
    }
}
