//! Payload and result of an invocation, as JSON: Lambda takes nothing else.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Epoch, Fingerprint, InstanceId, InvocationId, NodeId, Token},
    version::{NoCommon, Version, Versions},
};

/// Why the proxy invokes; also what the bill is broken down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Open a link and serve requests.
    Serve,
    /// The same, so that two instances of the function can be made to hold the
    /// same chunks.
    Backup,
    /// Only say what you hold: keeps the instance warm, opens no link.
    Warm,
}

impl Purpose {
    /// Lower-case name for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Backup => "backup",
            Self::Warm => "warm",
        }
    }
}

/// What the proxy sends with an invoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Nodes that speak any of these understand it as it is meant.
    pub speaks: Versions,
    /// Why.
    pub purpose: Purpose,
    /// Where to dial for the link.
    pub proxy: SocketAddr,
    /// Secret for that link.
    pub token: Token,
    /// The certificate to expect there. With one the link is TLS or nothing; none:
    /// plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Fingerprint>,
    /// Which node of the pool the function is.
    pub node: NodeId,
    /// The proxy's count of this invocation.
    pub invocation: InvocationId,
    /// The proxy's epoch; an instance that has met a higher one refuses.
    pub epoch: Epoch,
    /// Return when nothing was asked for so long.
    pub linger_ms: u32,
    /// Return so long before the deadline, whatever the load.
    pub deadline_margin_ms: u32,
}

/// How an invocation ended, in the instance's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// A ping was answered.
    Pinged,
    /// Nothing asked within the linger time; goodbye was answered.
    Idle,
    /// The deadline came near; goodbye was answered.
    Deadline,
    /// The proxy asked for it.
    Released,
    /// The same, and the process ends: seen only if it ended too late.
    Retired,
    /// The link could not be opened.
    Unreachable,
    /// The link broke or carried garbage.
    LinkLost,
    /// The proxy refused the hello.
    Rejected,
    /// The invocation's epoch is below the highest one met.
    StaleEpoch,
    /// Both sides have no version in common.
    NoVersion,
}

/// What an instance answers when it returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the instance speaks. The rest is of the highest version that the payload
    /// names, too.
    pub speaks: Versions,
    /// Which sandbox answered.
    pub instance: InstanceId,
    /// When its process started, milliseconds since 1970 by its own clock.
    pub birth_unix_ms: u64,
    /// The highest epoch it has met.
    pub highest_epoch: Epoch,
    /// Bytes of chunks it holds.
    pub held_bytes: u64,
    /// Bytes it is ready to hold.
    pub budget_bytes: u64,
    /// Number of chunks.
    pub chunks: u32,
    /// How it ended.
    pub ending: Ending,
}

/// The peer's JSON is not what this version expects.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Not JSON, or fields missing or of the wrong type.
    #[error("invoke payload: {0}")]
    Json(#[from] serde_json::Error),
    /// Both sides have no version in common.
    #[error(transparent)]
    NoCommon(#[from] NoCommon),
}

/// What every payload and every report has, whatever their version.
#[derive(Deserialize)]
struct Speaker {
    speaks: Versions,
}

/// The version to read it in.
fn agree(bytes: &[u8], ours: Versions) -> Result<Version, InvokeError> {
    let theirs: Speaker = serde_json::from_slice(bytes)?;
    Ok(ours.agree(theirs.speaks)?)
}

impl Invocation {
    /// Reads a payload, for an instance that speaks `ours`; also the version of the
    /// link and the report that follow.
    ///
    /// # Errors
    /// There is no such version, or it is no payload.
    pub fn from_json(bytes: &[u8], ours: Versions) -> Result<(Self, Version), InvokeError> {
        let version = agree(bytes, ours)?;
        Ok((serde_json::from_slice(bytes)?, version))
    }
}

impl Report {
    /// Reads the result of an invocation whose payload said `ours`.
    ///
    /// # Errors
    /// The instance speaks none of these, or it is no report.
    pub fn from_json(bytes: &[u8], ours: Versions) -> Result<Self, InvokeError> {
        agree(bytes, ours)?;
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::version::SPOKEN;

    fn payload(certificate: Option<Fingerprint>) -> Invocation {
        Invocation {
            speaks: SPOKEN,
            purpose: Purpose::Serve,
            proxy: SocketAddr::from(([127, 0, 0, 1], 7)),
            token: Token(1),
            certificate,
            node: NodeId(3),
            invocation: InvocationId(4),
            epoch: Epoch(5),
            linger_ms: 6,
            deadline_margin_ms: 7,
        }
    }

    #[test]
    fn a_certificate_is_there_or_not_and_never_half() {
        let pin = Fingerprint(std::array::from_fn(|i| i as u8));
        for certificate in [None, Some(pin)] {
            let text = serde_json::to_string(&payload(certificate)).unwrap();
            assert_eq!(text.contains("certificate"), certificate.is_some());
            let back = Invocation::from_json(text.as_bytes(), SPOKEN).unwrap().0;
            assert_eq!(back, payload(certificate));
            // a damaged one is no reason to do without
            let cut = text.replace("1e1f\"", "1e\"");
            let same = Invocation::from_json(cut.as_bytes(), SPOKEN).is_ok();
            assert_eq!(same, certificate.is_none());
        }
        let mut other = pin;
        other.0[31] ^= 1;
        assert!(pin.is(&pin) && !pin.is(&other));
    }

    fn report() -> Report {
        Report {
            speaks: SPOKEN,
            instance: InstanceId(1),
            birth_unix_ms: 2,
            highest_epoch: Epoch(3),
            held_bytes: 4,
            budget_bytes: 5,
            chunks: 6,
            ending: Ending::Idle,
        }
    }

    fn versions(oldest: u8, newest: u8) -> Versions {
        Versions::new(oldest, newest).unwrap()
    }

    /// With what nobody knows today.
    fn with_more(value: &impl Serialize, more: &[(String, Value)]) -> Vec<u8> {
        let mut value = serde_json::to_value(value).unwrap();
        let fields = value.as_object_mut().unwrap();
        for (name, what) in more {
            fields.entry(name).or_insert(what.clone());
        }
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn a_release_further_away_is_named_whatever_else_it_says() {
        let far = br#"{"purpose":["new"],"speaks":[8,9],"x":1}"#;
        let none = NoCommon {
            ours: versions(5, 6),
            theirs: versions(8, 9),
        };
        let is_it = |error: InvokeError| matches!(error, InvokeError::NoCommon(e) if e == none);
        assert!(is_it(Invocation::from_json(far, none.ours).unwrap_err()));
        assert!(is_it(Report::from_json(far, none.ours).unwrap_err()));
        for bad in [
            &b"{}"[..],
            b"[]",
            br#"{"speaks":[9,8]}"#,
            br#"{"speaks":5}"#,
        ] {
            let error = Invocation::from_json(bad, SPOKEN).unwrap_err();
            assert!(matches!(error, InvokeError::Json(_)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_a_later_release_adds_is_ignored(
            later in 0u8..9,
            names in btree_map("[a-z_]{1,12}", 0..4usize, 0..6),
        ) {
            let kinds = [json!(null), json!([1, {"a": 2}]), json!("text"), json!({"b": [{}]})];
            let more = names.into_iter().map(|(name, kind)| (name, kinds[kind].clone()));
            // what we know may be there or not, but is not to be anything
            let more: Vec<_> = more.filter(|(name, _)| name != "certificate").collect();
            let newest = SPOKEN.newest().0;
            let (mut payload, mut report) = (payload(None), report());
            payload.speaks = versions(newest, newest + later);
            report.speaks = payload.speaks;
            let (read, version) =
                Invocation::from_json(&with_more(&payload, &more), SPOKEN).unwrap();
            prop_assert_eq!((read, version), (payload, SPOKEN.newest()));
            let read = Report::from_json(&with_more(&report, &more), SPOKEN).unwrap();
            prop_assert_eq!(read, report);
        }
    }
}
