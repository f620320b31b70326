use proptest::prelude::*;
use rand::{Rng as _, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::*;

fn stripe(rng: &mut SmallRng, d: usize, len: usize) -> Vec<Bytes> {
    (0..d)
        .map(|_| (0..len).map(|_| rng.random()).collect::<Vec<u8>>().into())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Any d of the n cells give the data back, and both backends agree.
    #[test]
    fn any_d_of_n_decode(
        d in 1usize..=10, p in 0usize..=4, len in prop_oneof![1usize..200, 8_000usize..20_000], seed: u64
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let geometry = Geometry::new(d as u8, p as u8).unwrap();
        let full = Geometry::new(10, p as u8).unwrap();
        let data = stripe(&mut rng, d, len);
        let simd = Codec::new(full, Backend::ReedSolomonErasure).unwrap();
        let portable = Codec::new(full, Backend::RustyErasure).unwrap();
        let parity = simd.parity(geometry, &data).unwrap();
        prop_assert_eq!(&parity, &portable.parity(geometry, &data).unwrap());
        let mut order: Vec<usize> = (0..d + p).collect();
        order.shuffle(&mut rng);
        let kept = &order[..d];
        for codec in [&simd, &portable] {
            let all = data.iter().chain(&parity);
            let cells = all.enumerate().map(|(i, c)| kept.contains(&i).then(|| BytesMut::from(&c[..])));
            prop_assert_eq!(&codec.data(geometry, cells.collect(), len).unwrap(), &data);
        }
    }
}

#[test]
fn too_few_cells_are_an_error() {
    let geometry = Geometry::new(4, 2).unwrap();
    for backend in [Backend::ReedSolomonErasure, Backend::RustyErasure] {
        let codec = Codec::new(geometry, backend).unwrap();
        let mut cells: Vec<Option<BytesMut>> = vec![None; 6];
        cells[1] = Some(BytesMut::zeroed(10));
        assert!(codec.data(geometry, cells, 10).is_err());
    }
}
