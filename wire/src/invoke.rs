//! Payload and result of an invocation, as JSON: Lambda takes nothing else.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Fingerprint, InstanceId, InvocationId, NodeId, Token};

/// Version of payload and result. A field that a node must not overlook needs a
/// new one: since 2 there is the certificate, and a node that did not look for it
/// would send its token in plain text; since 3 there is [`Purpose::Backup`]; since
/// 4 nodes can be told to retire.
pub const VERSION: u32 = 4;

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
    /// [`VERSION`].
    pub version: u32,
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
}

/// What an instance answers when it returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
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
    /// Another version.
    #[error(
        "invoke payload version {0}, expected {VERSION}: proxy and nodes must be of the same release"
    )]
    Version(u32),
}

fn check_version(version: u32) -> Result<(), InvokeError> {
    if version == VERSION {
        Ok(())
    } else {
        Err(InvokeError::Version(version))
    }
}

impl Invocation {
    /// Reads a payload.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvokeError> {
        let payload: Self = serde_json::from_slice(bytes)?;
        check_version(payload.version)?;
        Ok(payload)
    }
}

impl Report {
    /// Reads a result.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvokeError> {
        let report: Self = serde_json::from_slice(bytes)?;
        check_version(report.version)?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(certificate: Option<Fingerprint>) -> Invocation {
        Invocation {
            version: VERSION,
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
            let back = Invocation::from_json(text.as_bytes()).unwrap();
            assert_eq!(back, payload(certificate));
            // a damaged one is no reason to do without
            let cut = text.replace("1e1f\"", "1e\"");
            let same = Invocation::from_json(cut.as_bytes()).is_ok();
            assert_eq!(same, certificate.is_none());
        }
        let mut other = pin;
        other.0[31] ^= 1;
        assert!(pin.is(&pin) && !pin.is(&other));
    }

    #[test]
    fn another_release_is_refused() {
        let mut old = payload(None);
        old.version = 1;
        let text = serde_json::to_vec(&old).unwrap();
        assert!(matches!(
            Invocation::from_json(&text),
            Err(InvokeError::Version(1))
        ));
    }
}
