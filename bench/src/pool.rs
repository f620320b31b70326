//! How scatterhoard is set up for a comparison.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pool {
    /// Node functions of the local pool.
    #[arg(long, default_value_t = 14)]
    pub(crate) nodes: usize,
    #[arg(long, default_value_t = 512)]
    pub(crate) node_memory_mb: usize,
    #[arg(long, default_value = "10+2")]
    pub(crate) data_parity: DataParity,
    /// Further arguments for scatterhoard, e.g. --scatterhoard-arg=--config=FILE.
    #[arg(long = "scatterhoard-arg", allow_hyphen_values = true)]
    pub(crate) extra: Vec<OsString>,
}

/// Data and parity chunks of a large object, `10+2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataParity {
    pub(crate) data: usize,
    pub(crate) parity: usize,
}

impl FromStr for DataParity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (data, parity) = text
            .split_once('+')
            .with_context(|| format!("{text:?}: want D+P"))?;
        let number = |digits: &str| {
            digits
                .parse::<usize>()
                .with_context(|| format!("{text:?}: want D+P"))
        };
        let (data, parity) = (number(data)?, number(parity)?);
        ensure!(data > 0, "{text:?}: no data chunks");
        Ok(Self { data, parity })
    }
}

impl fmt::Display for DataParity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl Pool {
    /// Whether so many values, twice while they are rewritten, fit; a tenth is left for what
    /// is not evenly spread.
    pub(crate) fn has_room_for(&self, values: usize, bytes: usize) -> bool {
        let geometry = self.data_parity;
        let copies = (geometry.data + geometry.parity) as f64 / geometry.data as f64;
        let needed = 2.0 * values as f64 * bytes as f64 * copies;
        let there = self.nodes as f64 * self.node_memory_mb as f64 * 1e6;
        needed <= 0.9 * there
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, mb) = (self.nodes, self.node_memory_mb);
        write!(f, "{nodes} nodes of {mb} MB ({})", self.data_parity)
    }
}

/// Who acknowledges a small write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ack {
    /// The nodes that hold it.
    Quorum,
    /// The proxy, from its memory.
    Proxy,
}

impl Ack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Proxy => "proxy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_of_the_tables_has_room_and_a_small_one_has_not() -> Result<()> {
        let mut pool = Pool {
            nodes: 14,
            node_memory_mb: 512,
            data_parity: "10+2".parse()?,
            extra: Vec::new(),
        };
        assert!(pool.has_room_for(10, 100_000_000));
        assert!(!pool.has_room_for(50, 100_000_000));
        pool.node_memory_mb = 32;
        assert!(!pool.has_room_for(4, 100_000_000));
        assert!(pool.has_room_for(8, 10_000_000));
        assert_eq!(pool.to_string(), "14 nodes of 32 MB (10+2)");
        Ok(())
    }

    #[test]
    fn data_and_parity_are_written_as_they_are_read() -> Result<()> {
        let geometry: DataParity = "10+2".parse()?;
        assert_eq!((geometry.data, geometry.parity), (10, 2));
        assert_eq!(geometry.to_string(), "10+2");
        for text in ["", "10", "+2", "10+", "0+2", "10+2+1", "a+b"] {
            assert!(text.parse::<DataParity>().is_err(), "{text:?}");
        }
        Ok(())
    }
}
