//! What is measured: a named endpoint, and optionally the processes behind it.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Resp,
    /// memcached's text protocol, as far as get, set and delete go.
    Memcached,
}

const MEMCACHED: &str = "memcached://";

/// A named endpoint. CPU time is only known for targets with a pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `host:port`
    pub(crate) address: String,
    pub(crate) protocol: Protocol,
    /// Roots of its process trees.
    pub(crate) pids: Vec<u32>,
    /// Whose word an acknowledged SET has, where rows are to say it.
    pub(crate) ack: Option<&'static str>,
}

impl Target {
    pub(crate) fn new(name: &str, address: String) -> Self {
        Self {
            name: name.to_owned(),
            address,
            protocol: Protocol::Resp,
            pids: Vec::new(),
            ack: None,
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, address) = text
            .split_once('=')
            .with_context(|| format!("target {text:?}: want NAME=HOST:PORT"))?;
        let (protocol, address) = match address.strip_prefix(MEMCACHED) {
            Some(address) => (Protocol::Memcached, address),
            None => (Protocol::Resp, address),
        };
        ensure!(!name.is_empty(), "target {text:?}: the name is empty");
        let port = address
            .rsplit_once(':')
            .with_context(|| format!("target {text:?}: the address has no port"))?
            .1;
        ensure!(
            port.parse::<u16>().is_ok_and(|port| port > 0),
            "target {text:?}: {port:?} is no port, want NAME=HOST:PORT"
        );
        Ok(Self {
            protocol,
            ..Self::new(name, address.to_owned())
        })
    }
}

/// `NAME=PID`, the root of one of a target's process trees.
#[derive(Clone, Debug)]
pub(crate) struct TargetPid {
    name: String,
    pid: u32,
}

impl FromStr for TargetPid {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, pid) = text
            .split_once('=')
            .with_context(|| format!("pid {text:?}: want NAME=PID"))?;
        let pid = pid
            .parse()
            .with_context(|| format!("pid {text:?}: not a number"))?;
        Ok(Self {
            name: name.to_owned(),
            pid,
        })
    }
}

/// Gives each pid to the target of its name; a pid without a target, or without a process,
/// is a typing error.
pub(crate) fn assign_pids(targets: &mut [Target], pids: &[TargetPid]) -> Result<()> {
    for TargetPid { name, pid } in pids {
        let Some(target) = targets.iter_mut().find(|target| target.name == *name) else {
            bail!("--pid {name}={pid}: no --target has this name");
        };
        ensure!(
            Path::new("/proc").join(pid.to_string()).exists(),
            "--pid {name}={pid}: there is no such process"
        );
        if !target.pids.contains(pid) {
            target.pids.push(*pid);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_find_their_targets() -> Result<()> {
        let mut targets = ["a=127.0.0.1:1".parse::<Target>()?, "b=[::1]:2".parse()?];
        let own = std::process::id();
        let pids = [format!("b={own}").parse()?, "b=1".parse()?];
        assign_pids(&mut targets, &pids)?;
        assert_eq!(
            (&targets[0].pids, &targets[1].pids),
            (&vec![], &vec![own, 1])
        );
        assert!(assign_pids(&mut targets, &["c=1".parse()?]).is_err());
        // Linux gives no process a number beyond 2^22
        assert!(assign_pids(&mut targets, &["a=99999999".parse()?]).is_err());
        Ok(())
    }

    #[test]
    fn a_target_needs_name_and_port() {
        for text in [
            "127.0.0.1:6379",
            "=127.0.0.1:6379",
            "a=localhost",
            "a=localhost:",
            "a=localhost:70000",
            "a=memcached://localhost",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn memcached_is_named_by_its_scheme() -> Result<()> {
        let target = "m=memcached://127.0.0.1:11211".parse::<Target>()?;
        assert_eq!(target.address, "127.0.0.1:11211");
        assert_eq!(target.protocol, Protocol::Memcached);
        Ok(())
    }
}
