//! Whether links are TLS, and the certificate that they show: made when the proxy
//! starts, pinned by the payload of every invocation, gone with the process.

use std::{io, net::IpAddr};

use rcgen::{CertificateParams, KeyPair};
use scatterhoard_node::conduit::Acceptor;

/// When links are TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LinkTls {
    /// When they may leave this machine.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: on a network that nobody else can read or write.
    Off,
}

impl LinkTls {
    /// For links that nodes dial at `advertised`, or at `listen` if that is `None`.
    pub fn applies(self, listen: IpAddr, advertised: Option<IpAddr>) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
            Self::Auto => [Some(listen), advertised]
                .into_iter()
                .flatten()
                .any(leaves_the_machine),
        }
    }
}

/// Also "any address" does.
pub fn leaves_the_machine(ip: IpAddr) -> bool {
    !ip.to_canonical().is_loopback()
}

/// A new key, in memory only, and a certificate for it. Nobody looks at its name
/// or its dates: nodes compare its fingerprint.
pub fn new_certificate() -> io::Result<Acceptor> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = CertificateParams::new([String::from("scatterhoard")])
        .and_then(|params| params.self_signed(&key))
        .map_err(io::Error::other)?;
    Acceptor::new(certificate.der().to_vec(), key.serialize_der())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_tls_when_they_may_leave_the_machine() {
        let cases = [
            ("127.0.0.1", None, false),
            ("127.3.2.1", Some("127.0.0.1"), false),
            ("::1", None, false),
            ("::ffff:127.0.0.1", None, false),
            ("::1", Some("127.0.0.1"), false),
            ("0.0.0.0", None, true),
            ("::", None, true),
            ("10.0.1.17", None, true),
            ("10.0.1.17", Some("127.0.0.1"), true),
            ("127.0.0.1", Some("10.0.1.17"), true),
            ("0.0.0.0", Some("203.0.113.7"), true),
            ("::ffff:10.0.1.17", None, true),
        ];
        for (listen, advertised, expected) in cases {
            let listen = listen.parse().unwrap();
            let advertised = advertised.map(|ip: &str| ip.parse().unwrap());
            let applies = |setting: LinkTls| setting.applies(listen, advertised);
            assert_eq!(applies(LinkTls::Auto), expected, "{listen} {advertised:?}");
            assert!(applies(LinkTls::On) && !applies(LinkTls::Off));
        }
    }

    #[test]
    fn every_start_has_its_own_certificate() {
        let [one, other] = [(); 2].map(|()| new_certificate().unwrap().fingerprint());
        assert_ne!(one, other);
    }
}
