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
const REDIS: &str = "redis://";

/// Who the client is to say it is, and the proof.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// None: the default user.
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

/// Never shown.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// `USER:PASSWORD`, or `:PASSWORD` for the default user.
    fn parse(text: &str) -> Result<Self> {
        let (user, password) = text.split_once(':').context("want USER:PASSWORD@")?;
        Ok(Self {
            user: (!user.is_empty()).then(|| user.to_owned()),
            password: password.to_owned(),
        })
    }
}

/// A named endpoint. CPU time is only known for targets with a pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `host:port`
    pub(crate) address: String,
    pub(crate) protocol: Protocol,
    pub(crate) login: Option<Login>,
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
            login: None,
            pids: Vec::new(),
            ack: None,
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = "want NAME=HOST:PORT";
        let (name, url) = text
            .split_once('=')
            .with_context(|| format!("target {text:?}: {wanted}"))?;
        let (protocol, login, address) = if let Some(address) = url.strip_prefix(MEMCACHED) {
            (Protocol::Memcached, None, address)
        } else if let Some((login, address)) = url
            .strip_prefix(REDIS)
            .and_then(|rest| rest.rsplit_once('@'))
        {
            // not shown: there is a password in it
            let login = Login::parse(login).with_context(|| format!("target {name}"))?;
            (Protocol::Resp, Some(login), address)
        } else {
            let address = url.strip_prefix(REDIS).unwrap_or(url);
            (Protocol::Resp, None, address)
        };
        ensure!(!name.is_empty(), "target ={address}: the name is empty");
        let port = address
            .rsplit_once(':')
            .with_context(|| format!("target {name}={address}: no port, {wanted}"))?
            .1;
        ensure!(
            port.parse::<u16>().is_ok_and(|port| port > 0),
            "target {name}={address}: {port:?} is no port, {wanted}"
        );
        Ok(Self {
            protocol,
            login,
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
    fn a_password_stands_before_the_address_and_is_not_shown() -> Result<()> {
        let target = "r=redis://:p@ss@127.0.0.1:1".parse::<Target>()?;
        assert_eq!(target.address, "127.0.0.1:1");
        let login = target.login.clone().context("no login")?;
        assert_eq!((login.user, login.password.as_str()), (None, "p@ss"));
        assert!(!format!("{target:?}").contains("p@ss"));
        let target = "r=redis://me:secret@127.0.0.1:1".parse::<Target>()?;
        assert_eq!(target.login.and_then(|l| l.user).as_deref(), Some("me"));
        assert_eq!("r=redis://h:1".parse::<Target>()?.login, None);
        for text in [
            "r=redis://secret@127.0.0.1:1",
            "r=redis://:secret@127.0.0.1",
        ] {
            let error = format!("{:#}", text.parse::<Target>().unwrap_err());
            assert!(!error.contains("secret"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn memcached_is_named_by_its_scheme() -> Result<()> {
        let target = "m=memcached://127.0.0.1:11211".parse::<Target>()?;
        assert_eq!(target.address, "127.0.0.1:11211");
        assert_eq!(target.protocol, Protocol::Memcached);
        Ok(())
    }
}
