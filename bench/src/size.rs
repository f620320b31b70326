//! Object sizes as people write them, with redis.conf's units: `1k` is 1000 bytes,
//! `1kb` is 1024.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, ensure};

/// An object size in bytes that remembers how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: usize,
    label: String,
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let label = text.trim().to_ascii_lowercase();
        let digits = label.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: usize = match &label[digits.len()..] {
            "" | "b" => 1,
            "k" => 1_000,
            "kb" => 1 << 10,
            "m" => 1_000_000,
            "mb" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" => 1 << 30,
            other => {
                anyhow::bail!("unknown unit {other:?} in size {text:?}: use k, kb, m, mb, g, gb")
            }
        };
        let count: usize = digits
            .parse()
            .with_context(|| format!("size {text:?}: no number"))?;
        let bytes = count
            .checked_mul(unit)
            .with_context(|| format!("size {text:?}: too large"))?;
        ensure!(bytes > 0, "size {text:?}: must be at least one byte");
        Ok(Self { bytes, label })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<usize> {
        text.parse::<Size>().ok().map(|size| size.bytes)
    }

    #[test]
    fn units_are_those_of_redis_conf() {
        assert_eq!(bytes("17"), Some(17));
        assert_eq!(bytes("1k"), Some(1_000));
        assert_eq!(bytes("1KB"), Some(1_024));
        assert_eq!(bytes("10m"), Some(10_000_000));
        assert_eq!(bytes("2gb"), Some(2 << 30));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "k", "1x", "-1", "0", "1.5m", "99999999999999999999g"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
