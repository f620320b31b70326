//! TLS for clients, with a certificate from files, which may be replaced while the
//! proxy runs.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{net::TcpStream, time::interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::session::ClientStream;

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    No,
    /// They may; a wrong one is refused.
    Optional,
    /// They must.
    Yes,
}

/// Where TLS is spoken, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The certificate and those that it rests on, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whether clients must show one, too.
    pub clients: ClientCertificates,
    /// On which those must rest, PEM.
    pub authorities: Option<PathBuf>,
    /// Those of them that are revoked, PEM.
    pub revoked: Option<PathBuf>,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// All of them together.
    #[error("{0}")]
    Tls(String),
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shakes hands with clients.
pub struct ClientTls {
    settings: Settings,
    current: Mutex<Arc<ServerConfig>>,
    looks: Mutex<Looks>,
}

/// What tells a file from one that has been written anew.
type Mark = Option<(SystemTime, u64)>;

/// The files as they were when they were taken, and when they were last looked at.
struct Looks {
    taken: Vec<Mark>,
    last: Vec<Mark>,
}

impl ClientTls {
    /// Reads the files.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let marks = marks(&settings);
        let current = load(&settings)?;
        Ok(Self {
            settings,
            current: Mutex::new(Arc::new(current)),
            looks: Mutex::new(Looks {
                taken: marks.clone(),
                last: marks,
            }),
        })
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.settings.listen
    }

    /// Shakes hands with a client.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<ClientStream> {
        let acceptor = TlsAcceptor::from(self.current.lock().clone());
        let stream = acceptor.accept(stream).await?;
        Ok(ClientStream::Tls(Box::new(stream)))
    }

    /// Takes new files in place of the old ones, until stopped; connections that
    /// there are stay as they are.
    pub async fn renew_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(LOOK_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.renew();
        }
    }

    /// Takes files that have changed, once two looks have found them the same: one
    /// that is half written may be in order as far as it goes. If they cannot be
    /// used, the old ones stay.
    pub fn renew(&self) {
        let now = marks(&self.settings);
        {
            let mut looks = self.looks.lock();
            let is_settled = looks.last == now;
            looks.last.clone_from(&now);
            if looks.taken == now || !is_settled {
                return;
            }
        }
        match load(&self.settings) {
            Ok(config) => {
                *self.current.lock() = Arc::new(config);
                self.looks.lock().taken = now;
                tracing::info!("new TLS certificate");
            }
            // perhaps only one of them has been written yet
            Err(error) => tracing::warn!(%error, "new TLS files cannot be used, the old ones stay"),
        }
    }
}

fn marks(settings: &Settings) -> Vec<Mark> {
    let files = [
        Some(&settings.certificate),
        Some(&settings.key),
        settings.authorities.as_ref(),
        settings.revoked.as_ref(),
    ];
    let mark = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.into_iter().flatten().map(mark).collect()
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, e))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|e| wrong(path, e))?;
    match all.is_empty() {
        true => Err(wrong(path, "no certificate in it")),
        false => Ok(all),
    }
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let all = CertificateRevocationListDer::pem_file_iter(path).map_err(|e| wrong(path, e))?;
    all.collect::<Result<_, _>>().map_err(|e| wrong(path, e))
}

fn load(settings: &Settings) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|e| wrong(&settings.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Tls(e.to_string()))?;
    let builder = match (settings.clients, &settings.authorities) {
        (ClientCertificates::No, _) => builder.with_no_client_auth(),
        (_, None) => {
            let why = "tls_auth_clients needs tls_ca_cert_file";
            return Err(TlsError::Tls(why.into()));
        }
        (clients, Some(path)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| wrong(path, e))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            if let Some(path) = &settings.revoked {
                // authorities without a list revoke nothing
                verifier = verifier
                    .with_crls(revoked(path)?)
                    .allow_unknown_revocation_status();
            }
            let verifier = match clients {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::No | ClientCertificates::Yes => verifier,
            };
            let verifier = verifier.build().map_err(|e| wrong(path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| TlsError::Tls(format!("certificate and key: {e}")))?;
    if settings.clients != ClientCertificates::No {
        // each handshake shows the certificate anew: it may have run out
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
