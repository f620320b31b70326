//! A function: the program that its instances run, and its limits.

use crate::Error;
use crate::prices::Architecture;
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Which idle instance gets the next invocation. Lambda documents none; the
/// most recently used one is what is usually seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// The one that became idle last.
    #[default]
    MostRecent,
    /// The one that has been idle longest.
    LeastRecent,
    /// Any, drawn from a generator with this seed.
    Random(u64),
}

/// Configuration of a function.
///
/// A change of the program, its arguments, environment, memory, time-out or
/// architecture needs new instances (as on Lambda); the other fields take
/// effect on the instances there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// Name, 1 to 64 letters, digits, `-` or `_`.
    pub name: String,
    /// The program; it speaks the Runtime API.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default, with = "text::os_strings")]
    pub args: Vec<OsString>,
    /// Its environment beside what Lambda sets itself; at most 4 KB. Nothing of
    /// this process's own environment is handed on but `PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Memory in MB, 128 to 10,240. Enforced, and billed.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u32,
    /// Longest invocation, above zero and at most 900 s. On Lambda whole seconds.
    #[serde(
        default = "default_timeout",
        rename = "timeout_s",
        with = "text::seconds"
    )]
    pub timeout: Duration,
    /// Concurrent invocations that only this function may use, and its limit.
    /// `Some(0)` throttles every invocation.
    #[serde(default)]
    pub reserved_concurrency: Option<u32>,
    /// Which idle instance is reused.
    #[serde(default)]
    pub routing: Routing,
    /// Reclaim an instance that has been idle this long.
    #[serde(default, rename = "idle_timeout_s", with = "text::optional_seconds")]
    pub idle_timeout: Option<Duration>,
    /// Reclaim an instance of this age; a busy one finishes first.
    #[serde(default, rename = "max_age_s", with = "text::optional_seconds")]
    pub max_age: Option<Duration>,
    /// What to bill it as.
    #[serde(default)]
    pub architecture: Architecture,
}

fn default_memory_mb() -> u32 {
    128
}

fn default_timeout() -> Duration {
    Duration::from_secs(3)
}

const MAX_ENV_BYTES: usize = 4096;

impl FunctionConfig {
    /// A function with Lambda's defaults: 128 MB, 3 s, no reservation.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> FunctionConfig {
        FunctionConfig {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            memory_mb: default_memory_mb(),
            timeout: default_timeout(),
            reserved_concurrency: None,
            routing: Routing::default(),
            idle_timeout: None,
            max_age: None,
            architecture: Architecture::default(),
        }
    }

    /// Checks the limits that Lambda has too.
    ///
    /// # Errors
    /// [`Error::InvalidFunction`] saying what to change.
    pub fn validate(&self) -> Result<(), Error> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let env_bytes: usize = self.env.iter().map(|(k, v)| k.len() + v.len()).sum();
        let reason =
            if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(letters) {
                "a name has 1 to 64 letters, digits, - or _".to_owned()
            } else if self.program.as_os_str().is_empty() {
                "it needs a program".to_owned()
            } else if !(128..=10_240).contains(&self.memory_mb) {
                format!("memory_mb {} is not within 128 to 10240", self.memory_mb)
            } else if self.timeout.is_zero() || self.timeout > Duration::from_secs(900) {
                format!("timeout {:?} is not within (0, 900 s]", self.timeout)
            } else if env_bytes > MAX_ENV_BYTES {
                format!("{env_bytes} bytes of environment; at most {MAX_ENV_BYTES}")
            } else if self
                .env
                .iter()
                .any(|(k, v)| k.is_empty() || k.contains(['=', '\0']) || v.contains('\0'))
            {
                "an environment name is empty or holds '=' or NUL".to_owned()
            } else {
                return Ok(());
            };
        Err(Error::InvalidFunction {
            name: self.name.clone(),
            reason,
        })
    }

    /// Whether instances started for `self` may serve `other`.
    pub(crate) fn same_instances(&self, other: &FunctionConfig) -> bool {
        self.program == other.program
            && self.args == other.args
            && self.env == other.env
            && self.memory_mb == other.memory_mb
            && self.timeout == other.timeout
            && self.architecture == other.architecture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked() {
        let good = FunctionConfig::new("node-007", "/bin/true");
        assert!(good.validate().is_ok());
        for bad in [
            FunctionConfig {
                name: "a b".into(),
                ..good.clone()
            },
            FunctionConfig {
                name: "x".repeat(65),
                ..good.clone()
            },
            FunctionConfig {
                program: PathBuf::new(),
                ..good.clone()
            },
            FunctionConfig {
                memory_mb: 127,
                ..good.clone()
            },
            FunctionConfig {
                timeout: Duration::from_secs(901),
                ..good.clone()
            },
            FunctionConfig {
                timeout: Duration::ZERO,
                ..good.clone()
            },
            FunctionConfig {
                env: [("A".into(), "x".repeat(4096))].into(),
                ..good.clone()
            },
            FunctionConfig {
                env: [("A=B".into(), String::new())].into(),
                ..good.clone()
            },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_uses_seconds_and_plain_strings() {
        let mut f = FunctionConfig::new("f", "/bin/f");
        f.args = vec!["--x".into()];
        f.idle_timeout = Some(Duration::from_millis(1500));
        f.routing = Routing::Random(7);
        let json = serde_json::to_value(&f).unwrap();
        assert_eq!(json["timeout_s"], 3.0);
        assert_eq!(json["idle_timeout_s"], 1.5);
        assert_eq!(json["args"][0], "--x");
        assert_eq!(json["routing"]["random"], 7);
        assert_eq!(serde_json::from_value::<FunctionConfig>(json).unwrap(), f);
        let short = r#"{"name":"f","program":"/bin/f","routing":"least-recent"}"#;
        assert_eq!(
            serde_json::from_str::<FunctionConfig>(short)
                .unwrap()
                .memory_mb,
            128
        );
        assert!(
            serde_json::from_str::<FunctionConfig>(r#"{"name":"f","program":"p","memory":1}"#)
                .is_err()
        );
    }

    #[test]
    fn only_what_the_process_sees_needs_new_instances() {
        let a = FunctionConfig::new("f", "/bin/f");
        assert!(a.same_instances(&FunctionConfig {
            reserved_concurrency: Some(1),
            ..a.clone()
        }));
        assert!(!a.same_instances(&FunctionConfig {
            memory_mb: 256,
            ..a.clone()
        }));
        assert!(!a.same_instances(&FunctionConfig {
            timeout: Duration::from_secs(4),
            ..a.clone()
        }));
    }
}
