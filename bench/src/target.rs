//! What is measured: a named RESP endpoint, and optionally the root of its process tree.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// A named endpoint. CPU time is only known for targets with a pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `host:port`
    pub(crate) address: String,
    pub(crate) pid: Option<u32>,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, address) = text
            .split_once('=')
            .with_context(|| format!("target {text:?}: want NAME=HOST:PORT"))?;
        ensure!(!name.is_empty(), "target {text:?}: the name is empty");
        ensure!(
            address.contains(':'),
            "target {text:?}: the address has no port"
        );
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
            pid: None,
        })
    }
}

/// `NAME=PID`, the root of a target's process tree.
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

/// Gives each pid to the target of its name; a pid without a target is a typing error.
pub(crate) fn assign_pids(targets: &mut [Target], pids: &[TargetPid]) -> Result<()> {
    for TargetPid { name, pid } in pids {
        match targets.iter_mut().find(|target| target.name == *name) {
            Some(target) => target.pid = Some(*pid),
            None => bail!("--pid {name}={pid}: no --target has this name"),
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
        assign_pids(&mut targets, &["b=77".parse()?])?;
        assert_eq!((targets[0].pid, targets[1].pid), (None, Some(77)));
        assert!(assign_pids(&mut targets, &["c=1".parse()?]).is_err());
        Ok(())
    }

    #[test]
    fn a_target_needs_name_and_port() {
        for text in ["127.0.0.1:6379", "=127.0.0.1:6379", "a=localhost"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
