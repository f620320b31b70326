//! What can go wrong, and what the caller can do about it.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::protocol::{ProtocolError, Reply};

/// Why something was not done. Cheap to clone: all who wait for one loader get
/// the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection. Nothing was sent.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system or TLS said.
        why: Arc<io::Error>,
    },
    /// The connection ended before the reply.
    #[error("the connection broke{}: {why}", if *sent { " after the request was sent" } else { "" })]
    Broken {
        /// Whether the server may have got the request.
        sent: bool,
        /// How.
        why: Arc<io::Error>,
    },
    /// It took too long.
    #[error("no {what} within {} ms", limit.as_millis())]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
        /// Whether the server may have got the request.
        sent: bool,
    },
    /// The server said no.
    #[error("{0}")]
    Server(ServerError),
    /// The server sent what is no reply, or one that is too large.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A reply of another kind than the command has.
    #[error("{command} was answered with {reply}")]
    Unexpected {
        /// The command.
        command: String,
        /// The beginning of the reply.
        reply: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// A command of several keys was cut up, as a cluster wants it, and not all of
    /// its parts were carried out.
    #[error("{done} of {of} parts were done; one was not: {why}")]
    Partial {
        /// Parts that were done.
        done: u64,
        /// Parts that there were.
        of: u64,
        /// What became of one of the others.
        why: Box<Error>,
    },
    /// The source of a body failed, or had another length than it said. Nothing
    /// was stored.
    #[error("the value cannot be read: {0}")]
    Source(Arc<io::Error>),
    /// The value under the key is not the one whose first part was read.
    #[error("the value changed while it was read; {0} bytes of it were delivered")]
    Changed(u64),
    /// A loader failed.
    #[error("the loader failed: {0}")]
    Loader(Arc<dyn std::error::Error + Send + Sync>),
    /// A loader panicked.
    #[error("the loader panicked")]
    LoaderPanicked,
    /// The client has been closed.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Whether the same request may well succeed when it is made again, after a
    /// pause: the connection broke, it took too long, the server is loading,
    /// busy or without what it needs at the moment, or a slot of a cluster has
    /// moved: then the next request goes to its new place. For a write ask
    /// [`Error::may_have_happened`], too.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Deadline { .. } => true,
            Self::Changed(_) => true,
            Self::Server(error) => error.code.is_passing(),
            Self::Partial { why, .. } => why.is_retryable(),
            _ => false,
        }
    }

    /// Whether the request may have been carried out although this came of it.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Broken { sent, .. } | Self::Deadline { sent, .. } => *sent,
            Self::Protocol(_) | Self::Unexpected { .. } | Self::Partial { .. } => true,
            // nothing says how far it had come
            Self::Server(error) => error.code == ErrorCode::Unavailable,
            _ => false,
        }
    }

    /// The code of a server's error, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    pub(crate) fn unexpected(command: &str, reply: &Reply) -> Self {
        let mut reply = format!("{reply:?}");
        if let Some((end, _)) = reply.char_indices().nth(80) {
            reply.truncate(end);
        }
        Self::Unexpected {
            command: command.to_owned(),
            reply,
        }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// The same of a request in front of the one that matters.
    pub(crate) fn before(self) -> Self {
        match self {
            Self::Broken { why, .. } => Self::Broken { sent: false, why },
            Self::Deadline { what, limit, .. } => Self::Deadline {
                what,
                limit,
                sent: false,
            },
            error => error,
        }
    }

    /// The connection ended, in a way that nobody has told.
    pub(crate) fn ended(sent: bool) -> Self {
        let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed");
        Self::Broken {
            sent,
            why: Arc::new(why),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Connect { why, .. } | Error::Broken { why, .. } | Error::Source(why) => {
                why.kind()
            }
            Error::Deadline { .. } => io::ErrorKind::TimedOut,
            Error::Protocol(_) | Error::Changed(_) => io::ErrorKind::InvalidData,
            Error::Usage(_) => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// An error that a server answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Its first word.
    pub code: ErrorCode,
    /// All of it, the first word included.
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered: {}", self.message)
    }
}

/// The first word of a server's error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `ERR`: the request is wrong.
    Err,
    /// `MOVED`: another member of the cluster has the key.
    Moved {
        /// The key's slot.
        slot: u16,
        /// Whose it is.
        address: String,
    },
    /// `ASK`: another member has the key this time.
    Ask {
        /// The key's slot.
        slot: u16,
        /// Who is to be asked.
        address: String,
    },
    /// `CROSSSLOT`: keys of several slots.
    CrossSlot,
    /// `CLUSTERDOWN`: nobody has the slot at the moment.
    ClusterDown,
    /// `TRYAGAIN`: slots are moving.
    TryAgain,
    /// `UNAVAILABLE`: Scatterhoard cannot reach what it needs at the moment.
    Unavailable,
    /// `LOADING`: the server is starting.
    Loading,
    /// `BUSY`: a script is running.
    Busy,
    /// `MASTERDOWN`: a replica without its master.
    MasterDown,
    /// `OOM`: no memory left.
    Oom,
    /// `MISCONF`: the disk takes no more.
    Misconf,
    /// `READONLY`: a replica.
    ReadOnly,
    /// `WRONGTYPE`: the key holds another kind of value.
    WrongType,
    /// `NOAUTH`: a password is needed.
    NoAuth,
    /// `WRONGPASS`: user or password are wrong.
    WrongPass,
    /// `NOPERM`: the user may not do this.
    NoPerm,
    /// `NOPROTO`: the server does not speak this version of RESP.
    NoProto,
    /// `NOSCRIPT`: the script is not there.
    NoScript,
    /// Any other.
    Other(String),
}

impl ErrorCode {
    /// Whether it passes by itself.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::ClusterDown
                | Self::Moved { .. }
                | Self::Ask { .. }
                | Self::TryAgain
                | Self::Unavailable
                | Self::Loading
                | Self::Busy
                | Self::MasterDown
        )
    }
}

impl ServerError {
    /// What a server's line means.
    #[must_use]
    pub fn parse(line: &Bytes) -> Self {
        let message = String::from_utf8_lossy(line).into_owned();
        let mut words = message.split(' ');
        let code = words.next().unwrap_or_default();
        let mut place = || Some((words.next()?.parse().ok()?, words.next()?.to_owned()));
        let code = match code {
            "ERR" => ErrorCode::Err,
            "MOVED" | "ASK" => match (code, place()) {
                ("MOVED", Some((slot, address))) => ErrorCode::Moved { slot, address },
                (_, Some((slot, address))) => ErrorCode::Ask { slot, address },
                (_, None) => ErrorCode::Other(code.to_owned()),
            },
            "CROSSSLOT" => ErrorCode::CrossSlot,
            "CLUSTERDOWN" => ErrorCode::ClusterDown,
            "TRYAGAIN" => ErrorCode::TryAgain,
            "UNAVAILABLE" => ErrorCode::Unavailable,
            "LOADING" => ErrorCode::Loading,
            "BUSY" => ErrorCode::Busy,
            "MASTERDOWN" => ErrorCode::MasterDown,
            "OOM" => ErrorCode::Oom,
            "MISCONF" => ErrorCode::Misconf,
            "READONLY" => ErrorCode::ReadOnly,
            "WRONGTYPE" => ErrorCode::WrongType,
            "NOAUTH" => ErrorCode::NoAuth,
            "WRONGPASS" => ErrorCode::WrongPass,
            "NOPERM" => ErrorCode::NoPerm,
            "NOPROTO" => ErrorCode::NoProto,
            "NOSCRIPT" => ErrorCode::NoScript,
            other => ErrorCode::Other(other.to_owned()),
        };
        Self { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &'static str) -> ServerError {
        ServerError::parse(&Bytes::from_static(line.as_bytes()))
    }

    #[test]
    fn codes() {
        let moved = ErrorCode::Moved {
            slot: 3999,
            address: "127.0.0.1:6381".to_owned(),
        };
        assert_eq!(parse("MOVED 3999 127.0.0.1:6381").code, moved);
        assert_eq!(parse("MOVED x").code, ErrorCode::Other("MOVED".to_owned()));
        assert_eq!(parse("OOM command not allowed").code, ErrorCode::Oom);
        assert_eq!(parse("").code, ErrorCode::Other(String::new()));
        assert_eq!(parse("WRONGTYPE x y").message, "WRONGTYPE x y");
    }

    #[test]
    fn what_to_do() {
        let server = |line| Error::Server(parse(line));
        for passing in [
            "LOADING x",
            "UNAVAILABLE x",
            "TRYAGAIN",
            "BUSY x",
            "MOVED 1 a:1",
            "ASK 1 a:1",
        ] {
            assert!(server(passing).is_retryable(), "{passing}");
        }
        for lasting in ["ERR x", "WRONGTYPE x", "NOAUTH x", "OOM x", "CROSSSLOT x"] {
            assert!(!server(lasting).is_retryable(), "{lasting}");
            assert!(!server(lasting).may_have_happened(), "{lasting}");
        }
        assert!(Error::ended(true).may_have_happened());
        assert!(!Error::ended(false).may_have_happened());
        assert!(Error::ended(false).is_retryable());
        assert!(!Error::Closed.is_retryable());
    }
}
