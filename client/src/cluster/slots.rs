//! Which server has which hash slot, as CLUSTER SLOTS tells it; pure.

use std::fmt;

use bytes::Bytes;

use crate::{Error, protocol::Reply};

/// Hash slots of a cluster.
const SLOTS: usize = 16_384;
/// Servers that are told apart. Redis's own limit is about 1,000.
pub(crate) const MEMBERS: usize = 1024;
/// Nobody's.
const FREE: u16 = u16::MAX;

/// The slot of a key: that of the part between its first `{` and the next `}`, if
/// there is anything between them.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    redis_protocol::redis_keyslot(key)
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// `HOST:PORT`; a server that does not know its own name leaves that out, and
    /// means the one under which it was `asked`.
    pub(crate) fn parse(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::new(host, port.parse().ok()?, asked)
    }

    fn new(host: &str, port: u16, asked: &str) -> Option<Self> {
        let host = if matches!(host, "" | "?") {
            asked
        } else {
            host
        };
        let host = host.to_owned();
        (port != 0).then_some(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Who has what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotMap {
    addresses: Vec<Address>,
    /// For each slot, a place in `addresses`, or [`FREE`].
    owners: Box<[u16]>,
}

impl SlotMap {
    /// Understands the reply to CLUSTER SLOTS of the server at `asked`.
    pub(crate) fn parse(reply: &Reply, asked: &str) -> Result<Self, Error> {
        let wrong = || Error::unexpected("CLUSTER SLOTS", reply);
        let Reply::Array(ranges) = reply else {
            return Err(wrong());
        };
        let mut map = Self {
            addresses: Vec::new(),
            owners: vec![FREE; SLOTS].into(),
        };
        for range in ranges {
            let (first, last, address) = range_of(range, asked).ok_or_else(wrong)?;
            let place = map.place(address).ok_or_else(wrong)?;
            let slots = map.owners.get_mut(first..=last).ok_or_else(wrong)?;
            slots.fill(place);
        }
        match map.addresses.is_empty() {
            true => Err(wrong()),
            false => Ok(map),
        }
    }

    /// Who has a slot, if anybody.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        let place = self.owners.get(usize::from(slot))?;
        self.addresses.get(usize::from(*place))
    }

    /// A slot has gone there.
    pub(crate) fn moved(&mut self, slot: u16, address: Address) {
        if let Some(place) = self.place(address)
            && let Some(owner) = self.owners.get_mut(usize::from(slot))
        {
            *owner = place;
        }
    }

    /// All servers that are named.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// None if there are too many.
    fn place(&mut self, address: Address) -> Option<u16> {
        let known = self.addresses.iter().position(|known| *known == address);
        let place = known.unwrap_or(self.addresses.len());
        if place >= MEMBERS {
            return None;
        }
        if known.is_none() {
            self.addresses.push(address);
        }
        u16::try_from(place).ok()
    }
}

/// `[first, last, [host, port, ...], replicas...]`
fn range_of(range: &Reply, asked: &str) -> Option<(usize, usize, Address)> {
    let Reply::Array(parts) = range else {
        return None;
    };
    let [
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Array(owner),
        ..,
    ] = &parts[..]
    else {
        return None;
    };
    let [host, Reply::Integer(port), ..] = &owner[..] else {
        return None;
    };
    let host = match host {
        Reply::Null => Bytes::new(),
        Reply::Bulk(host) | Reply::Status(host) => host.clone(),
        _ => return None,
    };
    let host = str::from_utf8(&host).ok()?;
    let address = Address::new(host, u16::try_from(*port).ok()?, asked)?;
    let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
    (first <= last).then_some((first, last, address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: Reply, port: i64) -> Reply {
        let owner = Reply::Array(vec![host, Reply::Integer(port), bulk("id")]);
        Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), owner])
    }

    fn owner(map: &SlotMap, slot: u16) -> String {
        map.owner(slot).map(Address::to_string).unwrap_or_default()
    }

    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        // as CLUSTER KEYSLOT of redis-server 7.0.15 answers
        for (key, slot) in [
            ("", 0),
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{user1000}.following", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("{bar", 4015),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn slots_have_owners_and_move() {
        let reply = Reply::Array(vec![
            range(0, 99, bulk("a"), 1),
            range(200, 16_383, bulk("::1"), 2),
            range(150, 150, Reply::Null, 3),
            range(151, 151, bulk(""), 4),
        ]);
        let mut map = SlotMap::parse(&reply, "me").unwrap();
        for (slot, wanted) in [
            (0, "a:1"),
            (99, "a:1"),
            (100, ""),
            (150, "me:3"),
            (151, "me:4"),
            (200, "[::1]:2"),
            (16_383, "[::1]:2"),
            (16_384, ""),
        ] {
            assert_eq!(owner(&map, slot), wanted, "{slot}");
        }
        map.moved(7, Address::parse("b:9", "me").unwrap());
        map.moved(8, Address::parse(":9", "me").unwrap());
        map.moved(60_000, Address::parse("b:9", "me").unwrap());
        assert_eq!((&owner(&map, 7)[..], &owner(&map, 8)[..]), ("b:9", "me:9"));
        assert_eq!(owner(&map, 6), "a:1");
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let none = Reply::Array(vec![]);
        for reply in [
            none,
            Reply::Null,
            Reply::Integer(1),
            Reply::Array(vec![Reply::Null]),
            Reply::Array(vec![range(5, 4, bulk("a"), 1)]),
            Reply::Array(vec![range(-1, 4, bulk("a"), 1)]),
            Reply::Array(vec![range(0, 16_384, bulk("a"), 1)]),
            Reply::Array(vec![range(0, 1, bulk("a"), 0)]),
            Reply::Array(vec![range(0, 1, bulk("a"), 70_000)]),
            Reply::Array(vec![range(0, 1, Reply::Integer(1), 1)]),
        ] {
            assert!(SlotMap::parse(&reply, "me").is_err(), "{reply:?}");
        }
        for text in ["", "a", "a:", "a:0", "a:x", "a:70000"] {
            assert_eq!(Address::parse(text, "me"), None, "{text}");
        }
    }

    #[test]
    fn servers_are_bounded() {
        let ranges = (0..2000).map(|n| range(n, n, bulk(&format!("h{n}")), 1));
        assert!(SlotMap::parse(&Reply::Array(ranges.collect()), "me").is_err());
        let mut map = SlotMap::parse(&Reply::Array(vec![range(0, 1, bulk("a"), 1)]), "me").unwrap();
        for n in 0..2000 {
            map.moved(n, Address::parse(&format!("h{n}:1"), "me").unwrap());
        }
        assert_eq!(map.addresses().len(), MEMBERS);
    }

    proptest! {
        #[test]
        fn whoever_had_a_slot_last_has_it(
            ranges in proptest::collection::vec((0_i64..16_384, 0_i64..100, 1_i64..50), 1..40),
        ) {
            let all = ranges.iter().map(|(first, more, port)| {
                range(*first, (first + more).min(16_383), bulk("h"), *port)
            });
            let map = SlotMap::parse(&Reply::Array(all.collect()), "me").unwrap();
            for slot in 0..16_384_i64 {
                let last = ranges.iter().rev().find(|(first, more, _)| (*first..=first + more).contains(&slot));
                let wanted = last.map(|(.., port)| format!("h:{port}")).unwrap_or_default();
                prop_assert_eq!(owner(&map, u16::try_from(slot).unwrap()), wanted);
            }
        }
    }
}
