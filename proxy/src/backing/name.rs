//! What objects of the backing store are called: by the write that they are, so
//! that a name never means anything else. Pure.
//!
//! `<cache id>/<epoch>/<counter>`, in hexadecimal of fixed width: sorted by name
//! they are sorted by age. The id is that of one data folder: caches that share
//! a bucket do not meet.

use scatterhoard_wire::{Epoch, WriteId};

/// Says that this is a cache's place, and not a folder that nothing is mounted on.
pub(super) const MARKER: &str = "cache";

/// One cache's own part of the backing store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheId(pub u64);

impl std::fmt::Display for CacheId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for CacheId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        hexadecimal(text).map(Self).ok_or(())
    }
}

/// The object's name within its cache's part.
pub fn of(write_id: WriteId) -> String {
    format!("{:016x}/{:016x}", write_id.epoch.0, write_id.counter)
}

/// What [`of`] made; none for something else.
pub fn parse(name: &str) -> Option<WriteId> {
    let (epoch, counter) = name.split_once('/')?;
    Some(WriteId {
        epoch: Epoch(hexadecimal(epoch)?),
        counter: hexadecimal(counter)?,
    })
}

/// Sixteen digits in lower case, nothing else.
fn hexadecimal(text: &str) -> Option<u64> {
    let number = u64::from_str_radix(text, 16).ok()?;
    (format!("{number:016x}") == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back_and_sort_by_age(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let id = |(epoch, counter)| WriteId { epoch: Epoch(epoch), counter };
            let (a, b) = (id(a), id(b));
            prop_assert_eq!(parse(&of(a)), Some(a));
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }

        #[test]
        fn nothing_else_is_a_name(text in "[0-9a-fA-F+/]{0,40}") {
            prop_assert!(parse(&text).is_none_or(|id| of(id) == text));
        }
    }

    #[test]
    fn an_id_comes_back() {
        let id = CacheId(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ab".parse::<CacheId>().is_err());
    }
}
