//! Why the proxy within the program did not start, or ended.

use scatterhoard_proxy::{config::ConfigError, serve::ServeError};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot work: change it.
    #[error("{0}")]
    Settings(#[source] Cause),
    /// No node answered, too few of them may run at once, or their processes cannot be
    /// started.
    #[error("{0}")]
    Nodes(#[source] Cause),
    /// The data folder, the journal in it or the backing store cannot be used; perhaps
    /// another proxy has them.
    #[error("{0}")]
    Data(#[source] Cause),
    /// Another proxy with a later epoch owns the nodes.
    #[error("{0}")]
    Superseded(#[source] Cause),
    /// Something of the system is missing.
    #[error("{0}")]
    System(#[source] Cause),
}

impl StartError {
    /// Whether the same start may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Nodes(_) | Self::Data(_) | Self::System(_))
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.into())
    }
}

impl From<ServeError> for StartError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Listen { .. } | ServeError::ClientTls(_) => Self::Settings(error.into()),
            ServeError::NoNodes { .. } | ServeError::Quota(_) | ServeError::LocalPool(_) => {
                Self::Nodes(error.into())
            }
            ServeError::DataDir(_)
            | ServeError::Journal(_)
            | ServeError::Backing(_)
            | ServeError::Assembly(_) => Self::Data(error.into()),
            ServeError::Superseded(_) => Self::Superseded(error.into()),
            ServeError::System(_) => Self::System(error.into()),
        }
    }
}

/// How it ended, unless well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// Requests, or the journal's last sync, were cut off: what was acknowledged since
    /// the last one may be gone.
    #[error("it did not end in time, and was cut off")]
    CutOff,
    /// Another proxy, with this later epoch, owns the nodes.
    #[error("another proxy with a later epoch ({0}) owns the nodes")]
    Superseded(u64),
}
