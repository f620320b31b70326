use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (i, three) in der.chunks(3).enumerate() {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() {
                '='
            } else {
                char::from(digit)
            });
        }
        if i % 16 == 15 {
            text.push('\n');
        }
    }
    text + &format!("\n-----END {label}-----\n")
}

struct Files {
    folder: tempfile::TempDir,
    issuer: Issuer,
}

fn year(offset: i64) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, format!("issuer {offset}"));
    name
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = year(0);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            issuer,
        };
        files.write("ca.pem", &pem("CERTIFICATE", files.issuer.der()));
        files.write_server(1);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn leaf(&self, serial: u64) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        )
    }

    fn write_server(&self, serial: u64) {
        let (certificate, key) = self.leaf(serial);
        self.write("key.pem", &key);
        self.write("cert.pem", &certificate);
    }

    fn revoke(&self, serials: &[u64]) {
        let now = rcgen::date_time_ymd(2020, 1, 1);
        let one = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: rcgen::date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        self.write("crl.pem", &pem("X509 CRL", list.der()));
    }

    fn settings(&self, clients: ClientCertificates, revoked: bool) -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
            clients,
            authorities: Some(self.path("ca.pem")),
            revoked: revoked.then(|| self.path("crl.pem")),
        }
    }

    fn client(&self, certificate: Option<(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

/// Shakes hands, says a word each way; whether the handshake was resumed, and the
/// certificate that was shown.
async fn talk(
    tls: &ClientTls,
    config: &Arc<ClientConfig>,
) -> io::Result<(bool, CertificateDer<'static>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls.accept(stream).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(b"pong").await?;
        stream.flush().await?;
        // until the client leaves
        stream.read_exact(&mut word).await.ok();
        io::Result::Ok(())
    };
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(config.clone())
            .connect(name, stream)
            .await?;
        stream.write_all(b"ping").await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        let (_, connection) = stream.get_ref();
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let shown = connection.peer_certificates().unwrap()[0]
            .clone()
            .into_owned();
        io::Result::Ok((resumed, shown))
    };
    let (served, asked) = tokio::join!(serve, ask);
    served?;
    asked
}

#[tokio::test]
async fn only_handshakes_without_certificates_are_resumed() {
    let files = Files::new();
    for (clients, resumes) in [
        (ClientCertificates::No, true),
        (ClientCertificates::Yes, false),
    ] {
        let tls = ClientTls::new(files.settings(clients, false)).unwrap();
        let config = Arc::new(files.client(Some(files.leaf(7))));
        assert!(!talk(&tls, &config).await.unwrap().0);
        assert_eq!(talk(&tls, &config).await.unwrap().0, resumes, "{clients:?}");
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let files = Files::new();
    files.revoke(&[7]);
    let tls = ClientTls::new(files.settings(ClientCertificates::Yes, true)).unwrap();
    let (good, bad) = (files.leaf(8), files.leaf(7));
    assert!(
        talk(&tls, &Arc::new(files.client(Some(good))))
            .await
            .is_ok()
    );
    assert!(
        talk(&tls, &Arc::new(files.client(Some(bad))))
            .await
            .is_err()
    );
    assert!(talk(&tls, &Arc::new(files.client(None))).await.is_err());
}

#[tokio::test]
async fn files_are_taken_when_they_are_whole() {
    let files = Files::new();
    let tls = ClientTls::new(files.settings(ClientCertificates::No, false)).unwrap();
    let config = Arc::new(files.client(None));
    let shown = || async { talk(&tls, &config).await.unwrap().1 };
    let old = shown().await;
    // half of them written, and half of one
    let (certificate, key) = files.leaf(2);
    files.write("cert.pem", &certificate);
    tls.renew();
    tls.renew();
    assert_eq!(shown().await, old);
    files.write("key.pem", &key[..key.len() / 2]);
    tls.renew();
    tls.renew();
    assert_eq!(shown().await, old);
    files.write("key.pem", &key);
    tls.renew();
    // seen once: it may still be written
    assert_eq!(shown().await, old);
    tls.renew();
    assert_ne!(shown().await, old);
}
