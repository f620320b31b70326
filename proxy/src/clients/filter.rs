//! Which connections CLIENT KILL means. Pure.

use bytes::Bytes;

use super::info::{ClientInfo, Kind};

/// All that is said must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its number.
    pub id: Option<u64>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// Where it comes from, `address:port`.
    pub address: Option<Bytes>,
    /// Where it came to, likewise.
    pub local_address: Option<Bytes>,
    /// Who it is.
    pub user: Option<Bytes>,
    /// Not the one who asks.
    pub skips_me: bool,
}

impl Filter {
    /// Whether it means this connection; `mine` is that of who asks.
    pub fn fits(&self, id: u64, mine: u64, info: &ClientInfo) -> bool {
        let is = |wanted: &Option<Bytes>, text: String| {
            wanted.as_ref().is_none_or(|wanted| *wanted == text)
        };
        self.id.is_none_or(|wanted| wanted == id)
            && self.kind.is_none_or(|kind| kind == info.kind())
            && is(&self.address, info.peer.to_string())
            && is(&self.local_address, info.local.to_string())
            && self.user.as_ref().is_none_or(|user| *user == info.user)
            && !(self.skips_me && id == mine)
    }
}
