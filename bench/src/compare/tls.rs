//! What TLS on links costs: one pool without, one with, in turn.
//!
//! A tenth of a value, or a quarter, goes over each link, and every byte is encrypted at one
//! end and decrypted at the other, on the same processors here. Handshakes count where nodes
//! return between requests. The ratio is of the second row: with over without.

use std::ffi::OsString;

use anyhow::Result;

use super::Args;
use crate::load::run_cell;
use crate::pool::Ack;
use crate::report::Report;
use crate::server::{Server, start_scatterhoard};
use crate::workload::{Cell, Op};

const ROWS: &[(Op, &str)] = &[
    (Op::Get, "1m"),
    (Op::Set, "1m"),
    (Op::Get, "10m"),
    (Op::Set, "10m"),
];
const ROWS_QUICK: &[(Op, &str)] = &[(Op::Get, "1m"), (Op::Set, "1m")];

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let rows = if args.quick { ROWS_QUICK } else { ROWS };
    let plain = start(args, "off").await?;
    let tls = start(args, "on").await?;
    let targets = [plain.target.clone(), tls.target.clone()];
    for &(op, size) in rows {
        let cell = Cell::new(op, size.parse()?, 1, 1);
        let measured = run_cell(&targets, &cell, &args.plan(1)).await;
        report.rows.extend(tls.explain(measured)?);
    }
    plain.stop().await?;
    tls.stop().await
}

async fn start(args: &Args, link_tls: &str) -> Result<Server> {
    let mut pool = args.pool.clone();
    pool.extra
        .push(OsString::from(format!("--link-tls={link_tls}")));
    let mut server = start_scatterhoard(&args.program()?, &pool, 0, Ack::Quorum).await?;
    server.target.name = format!("scatterhoard, link TLS {link_tls}");
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;

    #[test]
    fn every_size_is_one() {
        for (_, size) in ROWS.iter().chain(ROWS_QUICK) {
            assert!(size.parse::<Size>().is_ok(), "{size}");
        }
    }
}
