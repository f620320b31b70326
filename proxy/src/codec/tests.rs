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
            let there = |i: usize| kept.contains(&i);
            let known: Vec<Option<&[u8]>> =
                data.iter().enumerate().map(|(i, c)| there(i).then_some(&c[..])).collect();
            let sums = parity.iter().enumerate();
            let sums = sums.map(|(i, c)| there(d + i).then(|| BytesMut::from(&c[..]))).collect();
            let lost: Vec<&Bytes> = (0..d).filter(|i| !there(*i)).map(|i| &data[i]).collect();
            let rebuilt = codec.rebuild(geometry, &known, sums).unwrap();
            prop_assert_eq!(rebuilt.iter().collect::<Vec<_>>(), lost);
        }
    }
}

#[test]
fn too_few_cells_or_unequal_ones_are_an_error() {
    let geometry = Geometry::new(4, 2).unwrap();
    for backend in [Backend::ReedSolomonErasure, Backend::RustyErasure] {
        let codec = Codec::new(geometry, backend).unwrap();
        let cell = [0; 10];
        let mut data: Vec<Option<&[u8]>> = vec![Some(&cell); 4];
        data[1] = None;
        let parity = |len: usize| vec![None, Some(BytesMut::zeroed(len))];
        assert!(codec.rebuild(geometry, &data, parity(10)).is_ok());
        assert!(codec.rebuild(geometry, &data, parity(9)).is_err());
        assert!(codec.rebuild(geometry, &data[1..], parity(10)).is_err());
        data[2] = None;
        assert!(codec.rebuild(geometry, &data, parity(10)).is_err());
    }
}
