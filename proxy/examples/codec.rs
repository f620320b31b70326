//! How fast the erasure code is here: `cargo run --release -p scatterhoard-proxy
//! --example codec`. GB/s of object data, one thread, median of seven runs.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use scatterhoard_proxy::codec::{Backend, Codec};
use scatterhoard_wire::Geometry;

const TOTAL_BYTES: usize = 256 << 20;

fn rate(cell: usize, mut stripe: impl FnMut()) -> f64 {
    let stripes = (TOTAL_BYTES / (10 * cell)).max(1);
    let mut rates: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            (0..stripes).for_each(|_| stripe());
            (stripes * 10 * cell) as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[allow(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let geometry: Geometry = "10+2".parse()?;
    println!("10+2, cell     backend                 encode   decode 2 lost");
    for cell in [16 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let data: Vec<Bytes> = (0..10).map(|i| Bytes::from(vec![i + 1; cell])).collect();
        for backend in [Backend::ReedSolomonErasure, Backend::RustyErasure] {
            let codec = Codec::new(geometry, backend)?;
            let parity = codec.parity(geometry, &data)?;
            let encode = rate(cell, || drop(codec.parity(geometry, &data)));
            // two data cells lost; the copies are made outside of the clock
            let known: Vec<Option<&[u8]>> =
                (0..10).map(|i| (i > 1).then(|| &data[i][..])).collect();
            let copy = || {
                parity
                    .iter()
                    .map(|c| Some(BytesMut::from(&c[..])))
                    .collect()
            };
            let mut ready: Vec<Vec<Option<BytesMut>>> = (0..7
                * (TOTAL_BYTES / (10 * cell)).clamp(1, 8))
                .map(|_| copy())
                .collect();
            let start = Instant::now();
            let n = ready.len();
            for parity in ready.drain(..) {
                codec.rebuild(geometry, &known, parity)?;
            }
            let decode = (n * 10 * cell) as f64 / start.elapsed().as_secs_f64() / 1e9;
            let name = format!("{backend:?}");
            println!(
                "{:>7} KiB    {name:<22} {encode:>7.1}   {decode:>7.1}",
                cell >> 10
            );
        }
    }
    Ok(())
}
