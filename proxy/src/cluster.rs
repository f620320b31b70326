//! Several proxies as one Redis Cluster: each owns hash slots, and its own pool. Who
//! owns what comes from the configuration and does not change while proxies run.
//!
//! Slots that are on their way from one proxy to another, and a proxy that takes over
//! for one that is gone, would have their place in [`Topology::verdict`].

use std::{fmt, ops::RangeInclusive};

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use scatterhoard_script::Sha1;

use crate::{
    command::{CommandError, CommandSpec},
    value::Value,
};

/// Hash slots of a cluster.
pub const SLOTS: u16 = 16_384;
/// Proxies of one: their numbers fit a byte.
const MAX_MEMBERS: usize = 256;

/// The slot of a key: that of the part between its first `{` and the next `}`, if there
/// is anything between them, so that keys can be made to share one.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    let crc = crc_fast::checksum(CrcAlgorithm::Crc16Xmodem, tag.unwrap_or(key));
    // the remainder is below SLOTS
    (crc % u64::from(SLOTS)) as u16
}

/// Where clients find a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One proxy of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// 40 hexadecimal digits that follow from its address.
    pub id: String,
    /// Where it is.
    pub address: Address,
    /// Its port for TLS.
    pub tls_port: Option<u16>,
    /// Its slots, in order.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Member {
    /// Its port for a client that came by TLS, or not.
    pub fn port(&self, tls: bool) -> u16 {
        self.tls_port.filter(|_| tls).unwrap_or(self.address.port)
    }

    /// `HOST:PORT[/TLS-PORT] FIRST-LAST...`
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let address = words.next().ok_or("a member has no address")?;
        let wrong = || format!("{address} is no HOST:PORT or HOST:PORT/TLS-PORT");
        let (plain, tls) = match address.split_once('/') {
            Some((plain, tls)) => (plain, Some(tls)),
            None => (address, None),
        };
        let port = |digits: &str| digits.parse().ok().filter(|port| *port != 0);
        let tls_port = match tls {
            Some(digits) => Some(port(digits).ok_or_else(wrong)?),
            None => None,
        };
        let address = address_of(plain).ok_or_else(wrong)?;
        let slots: Result<Vec<_>, String> = words.map(slots_of).collect();
        let id = Sha1::of(address.to_string().as_bytes()).to_string();
        Ok(Self {
            id,
            address,
            tls_port,
            slots: slots?,
        })
    }
}

fn address_of(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Address {
        host: host.to_owned(),
        port,
    })
}

fn slots_of(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let slot = |digits: &str| digits.parse().ok().filter(|slot| *slot < SLOTS);
    match (slot(first), slot(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("{text} are no slots: FIRST-LAST, from 0 to 16383")),
    }
}

/// Who owns which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    members: Vec<Member>,
    me: usize,
    owners: Box<[u8]>,
}

/// Where the keys of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Here, or it has none.
    Here,
    /// In several slots.
    Across,
    /// In this slot, which another proxy owns.
    Elsewhere(u16),
}

impl Topology {
    /// Understands the members, of which `me` is the address of this one.
    pub fn parse(members: &[String], me: &str) -> Result<Self, String> {
        let members: Result<Vec<Member>, String> =
            members.iter().map(|text| Member::parse(text)).collect();
        let members = members?;
        if members.len() > MAX_MEMBERS {
            return Err(format!("a cluster has at most {MAX_MEMBERS} members"));
        }
        let mine = address_of(me);
        let me = members
            .iter()
            .position(|m| Some(&m.address) == mine.as_ref());
        let me = me.ok_or_else(|| match mine {
            Some(mine) => format!("{mine} is none of the members (cluster_self says which it is)"),
            None => "cluster_self must be HOST:PORT".into(),
        })?;
        let mut owners: Vec<Option<u8>> = vec![None; usize::from(SLOTS)];
        for (number, member) in (0..=u8::MAX).zip(&members) {
            let twice = |other: &&Member| other.address == member.address;
            if members.iter().filter(twice).count() > 1 {
                return Err(format!("{} is there twice", member.address));
            }
            for slot in member.slots.iter().cloned().flatten() {
                if owners[usize::from(slot)].replace(number).is_some() {
                    return Err(format!("slot {slot} has two owners"));
                }
            }
        }
        let all: Option<Vec<u8>> = owners.iter().copied().collect();
        let free = owners.iter().position(Option::is_none);
        let owners = all.ok_or_else(|| format!("slot {} has no owner", free.unwrap_or(0)))?;
        Ok(Self {
            members,
            me,
            owners: owners.into(),
        })
    }

    /// All proxies.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// This one.
    pub fn me(&self) -> &Member {
        &self.members[self.me]
    }

    /// Who owns a slot.
    pub fn owner(&self, slot: u16) -> &Member {
        let number = self.owners.get(usize::from(slot)).copied().unwrap_or(0);
        &self.members[usize::from(number)]
    }

    /// Where these keys are.
    pub fn verdict<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Verdict {
        let mut slots = keys.map(slot_of);
        let Some(first) = slots.next() else {
            return Verdict::Here;
        };
        if slots.any(|slot| slot != first) {
            return Verdict::Across;
        }
        match usize::from(self.owners[usize::from(first)]) == self.me {
            true => Verdict::Here,
            false => Verdict::Elsewhere(first),
        }
    }

    /// Whether the keys of these requests, together, are here; who came by TLS is sent
    /// on to ports of that kind.
    pub fn check<'r>(
        &self,
        requests: impl Iterator<Item = (&'static CommandSpec, &'r [Value])>,
        tls: bool,
    ) -> Result<(), CommandError> {
        self.check_from(requests, 0, tls)
    }

    /// The same where the arguments before `checked` have been looked at: of these only
    /// the first key counts.
    pub fn check_from<'r>(
        &self,
        requests: impl Iterator<Item = (&'static CommandSpec, &'r [Value])>,
        checked: usize,
        tls: bool,
    ) -> Result<(), CommandError> {
        let keys = requests.flat_map(|(spec, r)| keys_of(spec, r, checked));
        let keys: Vec<Bytes> = keys.collect();
        match self.verdict(keys.iter().map(|key| &key[..])) {
            Verdict::Here => Ok(()),
            Verdict::Across => Err(CommandError::CrossSlot),
            Verdict::Elsewhere(slot) => {
                let owner = self.owner(slot);
                let (host, port) = (&owner.address.host, owner.port(tls));
                Err(CommandError::Moved {
                    slot,
                    to: format!("{host}:{port}"),
                })
            }
        }
    }
}

/// Keys, and channels of shards, which have slots, too.
fn keys_of(spec: &CommandSpec, request: &[Value], checked: usize) -> Vec<Bytes> {
    let at = |(number, place): (usize, usize)| {
        let key = request
            .get(place)
            .filter(|_| number == 0 || place >= checked);
        key.cloned().map(Value::into_contiguous)
    };
    match spec.name {
        "spublish" => at((0, 1)).into_iter().collect(),
        "ssubscribe" | "sunsubscribe" => (1..request.len()).enumerate().filter_map(at).collect(),
        _ => spec
            .keys
            .places(request)
            .enumerate()
            .filter_map(at)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
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
    fn every_slot_has_one_owner() {
        let lines = members(&["a:1/11 0-99 200", "[::1]:2 100-199 201-16383"]);
        let topology = Topology::parse(&lines, "a:1").unwrap();
        assert_eq!(topology.me().slots, [0..=99, 200..=200]);
        assert_eq!(topology.me().id.len(), 40);
        assert_eq!(
            (topology.me().port(true), topology.me().port(false)),
            (11, 1)
        );
        assert_eq!(topology.owner(200), topology.me());
        let other = topology.owner(16_383);
        assert_eq!((&other.address.host[..], other.port(true)), ("::1", 2));
        // each of them says the same of all
        let again = Topology::parse(&lines, "[::1]:2").unwrap();
        assert_eq!((again.members(), again.me()), (topology.members(), other));
        for (wrong, why) in [
            (&["a:1 0-16382"][..], "no owner"),
            (&["a:1 0-16384"], "no slots"),
            (&["a:1 5-4 0-16383"], "no slots"),
            (&["a:1 0-16383 7"], "two owners"),
            (&["a:1 0-16383", "a:1"], "twice"),
            (&["b:1 0-16383"], "none of the members"),
            (&["a 0-16383"], "no HOST:PORT"),
            (&["a:0 0-16383"], "no HOST:PORT"),
            (&[""], "no address"),
        ] {
            let error = Topology::parse(&members(wrong), "a:1").unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_request_is_for_one_slot_of_one_proxy() {
        let lines = members(&["a:1 0-8191", "b:2/3 8192-16383"]);
        let topology = Topology::parse(&lines, "a:1").unwrap();
        let verdict = |keys: &[&str]| topology.verdict(keys.iter().map(|k| k.as_bytes()));
        assert_eq!(verdict(&[]), Verdict::Here);
        assert_eq!(verdict(&["bar", "{bar}2"]), Verdict::Here);
        assert_eq!(verdict(&["bar", "foo"]), Verdict::Across);
        assert_eq!(verdict(&["foo"]), Verdict::Elsewhere(12_182));
        let moved = |tls| {
            let request = ["get", "foo"].map(Value::from);
            let spec = CommandSpec::of(&request).unwrap();
            let check = topology.check([(spec, &request[..])].into_iter(), tls);
            check.unwrap_err().to_string()
        };
        assert_eq!(moved(false), "MOVED 12182 b:2");
        assert_eq!(moved(true), "MOVED 12182 b:3");
    }
}
