//! Who shakes hands how: the proxy shows its certificate, the node accepts that
//! one and no other. No names, no authorities, no dates.
//!
//! TLS 1.3 with one suite and one group, since both ends are ours: there is
//! nothing to negotiate down to. The node stays unknown to TLS; its one-time
//! token says who it is, inside.

use std::{fmt, io, net::IpAddr, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    PeerIncompatible, ServerConfig, ServerConnection, SignatureScheme,
    client::{
        ClientSessionMemoryCache, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::NoServerSessionStorage,
    version::TLS13,
};
use scatterhoard_wire::Fingerprint;
use tokio::net::TcpStream;

use super::{Reader, Writer, session};

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Fingerprint(bytes)
}

fn wrong(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// The proxy's end: shows one certificate.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    fingerprint: Fingerprint,
}

impl Acceptor {
    /// With a certificate (DER) and its key (PKCS#8).
    pub fn new(certificate: Vec<u8>, key: Vec<u8>) -> io::Result<Self> {
        let fingerprint = fingerprint(&certificate);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate)],
                PrivatePkcs8KeyDer::from(key).into(),
            )
            .map_err(wrong)?;
        // the next invocation of the same process comes back with a ticket, which
        // spares both ends the certificate; we remember nobody
        config.ticketer = ring::Ticketer::new().map_err(wrong)?;
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
        })
    }

    /// What nodes must pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Shakes hands with whoever dialled, however long that takes: the caller has
    /// the clock.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Reader, Writer)> {
        let connection = ServerConnection::new(self.config.clone()).map_err(wrong)?;
        let (reader, writer) = session::open(Box::new(connection.into()), stream).await?;
        Ok((Reader::Tls(reader), Writer::Tls(writer)))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acceptor").field(&self.fingerprint).finish()
    }
}

/// The node's end: accepts one certificate. Keep it for the next invocation: it
/// has the ticket that makes the next handshake cheaper.
#[derive(Clone)]
pub struct Dialer {
    config: Arc<ClientConfig>,
    fingerprint: Fingerprint,
}

impl Dialer {
    /// For the proxy with this certificate.
    pub fn new(fingerprint: Fingerprint) -> io::Result<Self> {
        let verifier = Pinned {
            fingerprint,
            provider: provider(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.enable_sni = false;
        // one proxy; tickets are of sessions in which it showed the certificate
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(1)));
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
        })
    }

    /// The certificate that it accepts.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Shakes hands with the proxy at `ip`, however long that takes.
    pub async fn connect(&self, stream: TcpStream, ip: IpAddr) -> io::Result<(Reader, Writer)> {
        let name = ServerName::IpAddress(ip.into());
        let connection = ClientConnection::new(self.config.clone(), name).map_err(wrong)?;
        let (reader, writer) = session::open(Box::new(connection.into()), stream).await?;
        Ok((Reader::Tls(reader), Writer::Tls(writer)))
    }
}

/// Accepts one certificate, from whoever proves to have its key.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(end_entity).is(&self.fingerprint) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        crypto::CryptoProvider,
        sign::{CertifiedKey, SingleCertAndKey},
    };

    use super::*;
    use crate::conduit::tests::{certificate, pair, with_limit};

    #[tokio::test]
    async fn a_copied_certificate_without_its_key_is_refused() {
        let [(real, _), (_, key)] = [certificate(), certificate()];
        let provider: CryptoProvider = provider();
        let key = PrivatePkcs8KeyDer::from(key).into();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let copied = CertifiedKey::new(vec![CertificateDer::from(real.clone())], key);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(copied)));
        let impostor = Acceptor {
            config: Arc::new(config),
            fingerprint: fingerprint(&real),
        };
        let dialer = Dialer::new(fingerprint(&real)).unwrap();
        let (near, far) = pair(None).await;
        let ip = far.local_addr().unwrap().ip();
        let (dialled, accepted) =
            with_limit(async { tokio::join!(dialer.connect(near, ip), impostor.accept(far)) })
                .await;
        let error = dialled.err().unwrap().to_string();
        assert!(error.contains("BadSignature"), "{error}");
        assert!(accepted.is_err());
    }
}
