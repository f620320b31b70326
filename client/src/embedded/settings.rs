//! How the proxy within the program is set up.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use scatterhoard_proxy::{
    config::{Config, Functions, Options},
    local_pool::Program,
    store::Ack,
};

use super::{NodeProgram, Nodes, StartError};

/// When a small write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acknowledge {
    /// When enough nodes have it.
    #[default]
    Quorum,
    /// When the proxy has it; nodes get it behind that.
    Proxy,
}

/// How the proxy is set up; what is not said has the default of the program
/// `scatterhoard`.
#[derive(Clone, Debug)]
pub struct Settings {
    options: Options,
    program: Option<NodeProgram>,
}

impl Settings {
    /// With nodes there.
    #[must_use]
    pub fn new(nodes: Nodes) -> Self {
        let settings = Self {
            options: Options::default(),
            program: None,
        };
        settings.at(nodes)
    }

    /// With the settings of a file of `scatterhoard serve` (`scatterhoard.example.toml`
    /// has them all). What is about ports for clients, the admin port, threads and logs
    /// means nothing here.
    ///
    /// # Errors
    /// [`StartError::Settings`] when it cannot be read, or has settings that do not
    /// exist.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, StartError> {
        let options = Options::from_file(path.as_ref())?;
        let program = None;
        Ok(Self { options, program })
    }

    /// Nodes are there.
    #[must_use]
    pub fn at(mut self, nodes: Nodes) -> Self {
        (self.options.lambda_endpoint, self.program) = match nodes {
            Nodes::Processes(program) => (None, Some(program)),
            Nodes::Endpoint(url) => (Some(url), None),
            Nodes::Aws => (Some("aws".into()), None),
        };
        self
    }

    /// How many nodes, one function each; by default two more than chunks.
    #[must_use]
    pub fn nodes(mut self, nodes: u16) -> Self {
        self.options.nodes = Some(nodes);
        self
    }

    /// Memory of each node, in MB; 512 by default.
    #[must_use]
    pub fn node_memory_mb(mut self, mb: u32) -> Self {
        self.options.node_memory_mb = Some(mb);
        self
    }

    /// Functions are called PREFIX-000 and so on; `scatterhoard-node` by default.
    #[must_use]
    pub fn function_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.function_prefix = Some(prefix.into());
        self
    }

    /// Data and parity chunks of large values; 10 and 2 by default.
    #[must_use]
    pub fn data_parity(mut self, data: u8, parity: u8) -> Self {
        self.options.data_parity = Some(format!("{data}+{parity}"));
        self
    }

    /// Memory for small hot values in this program, in MB; 64 by default, 0: none.
    #[must_use]
    pub fn hot_tier_mb(mut self, mb: u32) -> Self {
        self.options.hot_tier_mb = Some(mb);
        self
    }

    /// Memory for large values under way, in MB; 256 by default.
    #[must_use]
    pub fn inflight_mb(mut self, mb: u32) -> Self {
        self.options.inflight_mb = Some(mb);
        self
    }

    /// When small writes are acknowledged.
    #[must_use]
    pub fn acknowledge(mut self, when: Acknowledge) -> Self {
        self.options.ack = Some(match when {
            Acknowledge::Quorum => Ack::Quorum,
            Acknowledge::Proxy => Ack::Proxy,
        });
        self
    }

    /// Whether each node has a second instance; it has by default.
    #[must_use]
    pub fn standby(mut self, standby: bool) -> Self {
        self.options.standby = Some(standby);
        self
    }

    /// Keep the index in this folder, so that a later start has it. One proxy at a time.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.data_dir = Some(folder.into());
        self
    }

    /// Where nodes dial; a free port of the loopback by default.
    #[must_use]
    pub fn link_listen(mut self, address: SocketAddr) -> Self {
        self.options.link_listen = Some(address);
        self
    }

    /// That address as nodes see it, if it differs.
    #[must_use]
    pub fn link_advertise(mut self, address: SocketAddr) -> Self {
        self.options.link_advertise = Some(address);
        self
    }

    /// Longest shutdown; 10 s by default. Whole seconds.
    #[must_use]
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.options.shutdown_timeout_s = Some(limit.as_secs());
        self
    }

    pub(super) fn checked(self) -> Result<(Config, Program), StartError> {
        let wrong = |text: &str| StartError::Settings(text.into());
        let Self {
            mut options,
            program,
        } = self;
        options.admin = Some("off".into());
        options.tls_listen = None;
        if options.cluster.is_some() {
            let text = "cluster: a proxy within a program is alone, nobody could be sent to it";
            return Err(wrong(text));
        }
        let config = Config::from_options(options)?;
        let program = match (&config.functions, program) {
            (Functions::Local, None) => {
                let text = "it is not said where nodes are: Settings::at, or lambda_endpoint";
                return Err(wrong(text));
            }
            (_, Some(program)) => program.0,
            // not used
            (_, None) => Program::at(PathBuf::new()),
        };
        Ok((config, program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(settings: Settings) -> String {
        let error = settings.checked().unwrap_err();
        assert!(matches!(error, StartError::Settings(_)) && !error.is_retryable());
        error.to_string()
    }

    fn file(text: &str) -> Result<Settings, StartError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scatterhoard.toml");
        std::fs::write(&path, text).unwrap();
        Settings::from_file(path)
    }

    #[test]
    fn what_is_said_is_taken() {
        let program = || Nodes::Processes(NodeProgram::at("/bin/scatterhoard"));
        let settings = Settings::new(program())
            .nodes(7)
            .node_memory_mb(256)
            .data_parity(4, 2)
            .hot_tier_mb(1)
            .inflight_mb(2)
            .acknowledge(Acknowledge::Proxy)
            .standby(false)
            .data_dir("/tmp/x")
            .function_prefix("mine")
            .shutdown_timeout(Duration::from_secs(3));
        let (config, program) = settings.checked().unwrap();
        assert_eq!((config.nodes, config.node_memory_mb), (7, 256));
        assert_eq!(config.geometry.full.to_string(), "4+2");
        assert_eq!(
            (config.hot_bytes, config.inflight_bytes),
            (1 << 20, 2 << 20)
        );
        assert_eq!(config.ack, Ack::Proxy);
        assert_eq!(config.data_dir.as_deref(), Some(Path::new("/tmp/x")));
        assert_eq!(config.function_names()[6], "mine-006");
        assert_eq!(config.shutdown_timeout, Duration::from_secs(3));
        assert_eq!(config.admin, None);
        assert!(!config.backup.standby);
        assert_eq!(program.path, Path::new("/bin/scatterhoard"));
        assert_eq!(program.args, ["node"]);
        let (config, _) = Settings::new(Nodes::Aws).checked().unwrap();
        assert_eq!(config.functions, Functions::Aws);
        let url = Nodes::Endpoint("http://127.0.0.1:1".into());
        let (config, _) = Settings::new(url).checked().unwrap();
        assert!(matches!(config.functions, Functions::Endpoint(_)));
    }

    #[test]
    fn what_cannot_work_is_said() {
        let few = Settings::new(Nodes::Aws).nodes(3);
        assert!(why(few).contains("needs at least 12 nodes"));
        assert!(why(Settings::new(Nodes::Endpoint("ftp://x".into()))).contains("http(s)"));
        assert!(why(Settings::new(Nodes::Aws).data_parity(0, 1)).contains("data_parity"));
        assert!(why(file("nodes = 14").unwrap()).contains("where nodes are"));
        let cluster = file("cluster = [\"127.0.0.1:6379 0-16383\"]").unwrap();
        assert!(why(cluster.at(Nodes::Aws)).contains("alone"));
        for wrong in ["nods = 14", "nodes = \"x\"", "nodes ="] {
            assert!(
                matches!(file(wrong), Err(StartError::Settings(_))),
                "{wrong}"
            );
        }
        assert!(Settings::from_file("/nowhere").is_err());
    }
}
