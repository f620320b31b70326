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
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};
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

/// A client has so long to shake hands.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shakes hands with clients.
pub struct ClientTls {
    settings: Settings,
    current: Mutex<Arc<ServerConfig>>,
    /// When the files that are used were written.
    written: Mutex<Vec<Option<SystemTime>>>,
}

impl ClientTls {
    /// Reads the files.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let written = written(&settings);
        let current = load(&settings)?;
        Ok(Self {
            settings,
            current: Mutex::new(Arc::new(current)),
            written: Mutex::new(written),
        })
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.settings.listen
    }

    /// Shakes hands with a client.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<ClientStream> {
        let acceptor = TlsAcceptor::from(self.current.lock().clone());
        match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(stream) => Ok(ClientStream::Tls(Box::new(stream?))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Takes new files in place of the old ones, until stopped; connections that
    /// there are stay as they are.
    pub async fn renew_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(LOOK_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.renew();
        }
    }

    /// Takes files that have changed; if they cannot be used, the old ones stay.
    pub fn renew(&self) {
        let now = written(&self.settings);
        if *self.written.lock() == now {
            return;
        }
        match load(&self.settings) {
            Ok(config) => {
                *self.current.lock() = Arc::new(config);
                *self.written.lock() = now;
                tracing::info!("new TLS certificate");
            }
            // perhaps only one of them has been written yet
            Err(error) => tracing::warn!(%error, "new TLS files cannot be used, the old ones stay"),
        }
    }
}

fn written(settings: &Settings) -> Vec<Option<SystemTime>> {
    let files = [
        Some(&settings.certificate),
        Some(&settings.key),
        settings.authorities.as_ref(),
    ];
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    files.into_iter().flatten().map(written).collect()
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
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match clients {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::No | ClientCertificates::Yes => verifier,
            };
            let verifier = verifier.build().map_err(|e| wrong(path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder
        .with_single_cert(chain, key)
        .map_err(|e| TlsError::Tls(format!("certificate and key: {e}")))
}
