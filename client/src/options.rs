//! Where to connect, and within what bounds.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{Error, cluster::Address, metrics::Metrics};

/// TLS to the server.
#[derive(Clone)]
pub struct Tls {
    pub(crate) config: Arc<ClientConfig>,
}

impl Tls {
    /// With a configuration of one's own: client certificates, the system's
    /// authorities, ciphers.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }

    /// The server's certificate must rest on one of these, PEM.
    ///
    /// # Errors
    /// When they cannot be read, or there are none.
    pub fn with_authorities(pem: &[u8]) -> Result<Self, Error> {
        let wrong = |why: &dyn fmt::Display| Error::usage(format!("certificates: {why}"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"there are none"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::new(Arc::new(config)))
    }
}

/// Where to connect, as whom, and within what bounds.
///
/// ```
/// use std::time::Duration;
/// let options = scatterhoard_client::Options::new("127.0.0.1", 6379)
///     .password("secret")
///     .request_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
    pub(crate) name: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) wants_tls: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) connections: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) value_limit_bytes: u64,
    pub(crate) metrics: Option<Arc<dyn Metrics>>,
    /// The proxy within the program.
    #[cfg(feature = "embedded")]
    pub(crate) inside: Option<crate::embedded::Inside>,
}

impl Options {
    /// A server, and everything else by default.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            user: None,
            password: None,
            database: 0,
            name: None,
            tls: None,
            wants_tls: false,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            connections: 16,
            idle_timeout: Duration::from_secs(60),
            retries: 2,
            value_limit_bytes: 1 << 30,
            metrics: None,
            #[cfg(feature = "embedded")]
            inside: None,
        }
    }

    /// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`; with `rediss://`
    /// [`Options::tls`] is needed, too. User and password may have `%XX` in them.
    ///
    /// # Errors
    /// When it is anything else.
    ///
    /// ```
    /// use scatterhoard_client::Options;
    /// assert!(Options::from_url("redis://:secret@127.0.0.1:6380/2").is_ok());
    /// assert!(Options::from_url("http://127.0.0.1").is_err());
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        // the URL may have a password in it: never part of an error
        let wrong = |what| Error::usage(format!("not a URL of a server: {what}"));
        let (tls, rest) = match url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(wrong("it must begin with redis:// or rediss://")),
        };
        let (who, place) = match rest.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, rest),
        };
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (address, "6379"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = port
            .parse()
            .map_err(|_| wrong("the port is not a number"))?;
        let mut options = Self::new(host, port);
        options.wants_tls = tls;
        if !database.is_empty() {
            let number = database.parse();
            options.database = number.map_err(|_| wrong("the database is not a number"))?;
        }
        if let Some(who) = who {
            let (user, password) = who.split_once(':').unwrap_or((who, ""));
            let decode = |text| percent_decoded(text).ok_or_else(|| wrong("%XX is wrong"));
            options.user = Some(decode(user)?).filter(|user| !user.is_empty());
            options.password = Some(decode(password)?).filter(|word| !word.is_empty());
            if options.user.is_some() && options.password.is_none() {
                return Err(wrong("a user without a password"));
            }
        }
        Ok(options)
    }

    /// Log in as this user; without, as `default`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Log in with this password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Another database than 0.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// What connections are called in the server's CLIENT LIST.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Connect by TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long a connection may take, handshakes included; 5 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a request on the shared connection may take; on one of its own,
    /// how long it may wait for that, for the beginning of the reply, and for
    /// each further piece of a value either way. 10 s by default.
    #[must_use]
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How many connections may be open for large values and streams, besides
    /// the shared one; 16 by default. Others wait. In a cluster, to each member.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 10_000);
        self
    }

    /// How long such a connection may be idle before it is not used any more;
    /// 60 s by default.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How often a request is made again where that is safe ([`crate::retry`]);
    /// 2 by default.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The largest value that is taken into memory; 1 GiB by default. Streams
    /// have no limit.
    #[must_use]
    pub fn value_limit_bytes(mut self, bytes: u64) -> Self {
        self.value_limit_bytes = bytes;
        self
    }

    /// Who is told of what happens; nobody by default.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    pub(crate) fn address(&self) -> Address {
        Address {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// Without the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address().to_string())
            .field("user", &self.user)
            .field("database", &self.database)
            .field("tls", &(self.wants_tls || self.tls.is_some()))
            .finish_non_exhaustive()
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let digits = str::from_utf8(behind.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind.get(2..)?;
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let options = Options::from_url("rediss://me:a%40b:c@cache.example:7000/3").unwrap();
        assert_eq!(options.address().to_string(), "cache.example:7000");
        assert_eq!(options.user.as_deref(), Some("me"));
        assert_eq!(options.password.as_deref(), Some("a@b:c"));
        assert_eq!((options.database, options.wants_tls), (3, true));
        let options = Options::from_url("redis://[::1]").unwrap();
        assert_eq!(options.address().to_string(), "[::1]:6379");
        assert_eq!((&options.user, &options.password), (&None, &None));
        let options = Options::from_url("redis://:pw@h/").unwrap();
        assert_eq!(options.user, None);
        assert_eq!(options.password.as_deref(), Some("pw"));
        for wrong in [
            "",
            "h:1",
            "http://h",
            "redis://",
            "redis://:6379",
            "redis://h:x",
            "redis://h:70000",
            "redis://h/x",
            "redis://u@h",
            "redis://:%4@h",
            "redis://:%zz@h",
        ] {
            let error = Options::from_url(wrong).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{wrong}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let options = Options::new("h", 1).user("u").password("hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = Options::from_url("redis://:hunter2@h:x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn authorities_must_be_certificates() {
        assert!(Tls::with_authorities(b"").is_err());
        assert!(Tls::with_authorities(b"-----BEGIN CERTIFICATE-----\nxx").is_err());
        let wrong = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(Tls::with_authorities(wrong).is_err());
    }
}
