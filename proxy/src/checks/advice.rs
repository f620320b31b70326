//! What to say of how functions and the account are set up: against the settings, and
//! against how they were before. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    config::{Architecture, Config, Functions},
    pool::{
        link_tls::leaves_the_machine,
        platform::{
            describe::{Account, Function},
            errors::Cause,
        },
    },
};

/// The runtime that a node's zip is built for.
pub const RUNTIME: &str = "provided.al2023";
/// Rounds wake a second instance of so many nodes at a time.
pub const ROUNDS_AT_A_TIME: u32 = 8;
/// An invocation needs time for a link, and for leaving it.
const SHORTEST_TIMEOUT_S: u32 = 30;
/// Where concurrent executions are asked for.
const QUOTA: &str = "Service Quotas: Lambda, concurrent executions, L-B99A9384";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Could not be looked at, or need not.
    Skipped,
    /// It works, but not well.
    Warning,
    /// It cannot work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub check: &'static str,
    /// What is the case.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            check,
            what: what.into(),
            fix: None,
        }
    }

    /// It was not looked at.
    pub fn skipped(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Skipped,
            ..Self::ok(check, what)
        }
    }

    /// It works, but not well.
    pub fn warning(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            check,
            what: what.into(),
            fix: Some(fix.into()),
        }
    }

    /// It cannot work.
    pub fn error(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::warning(check, what, fix)
        }
    }
}

/// What the settings want of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Memory of each, in MB.
    pub memory_mb: u32,
    /// Processor of each.
    pub architecture: Architecture,
    /// Time-out of each, in seconds.
    pub timeout_s: u32,
    /// Whether nodes dial a private address.
    pub private_links: bool,
    /// Nodes.
    pub nodes: u32,
    /// Nodes that a large value needs at the same time to be stored.
    pub least: u32,
    /// Whether nodes have standbys, and so rounds.
    pub standby: bool,
    /// Whether it is AWS, and no emulator.
    pub is_aws: bool,
}

impl Wanted {
    /// By these settings.
    pub fn by(config: &Config) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let advertised = config.link_advertise.unwrap_or(config.link_listen).ip();
        Self {
            memory_mb: config.node_memory_mb,
            architecture: config.node_architecture,
            timeout_s: u32::try_from(config.function_timeout.as_secs()).unwrap_or(u32::MAX),
            private_links: leaves_the_machine(advertised) && is_private(advertised),
            nodes: u32::from(config.nodes),
            least: count(config.geometry.full.data() + 1),
            standby: config.backup.standby,
            is_aws: config.functions == Functions::Aws,
        }
    }
}

fn is_private(ip: std::net::IpAddr) -> bool {
    match ip.to_canonical() {
        std::net::IpAddr::V4(ip) => ip.is_private(),
        std::net::IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// What is not right with a function.
pub fn of_function(wanted: &Wanted, name: &str, function: &Function) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(of_state(name, function));
    found.extend(of_runtime(name, function));
    if function.memory_mb != wanted.memory_mb {
        let (has, set) = (function.memory_mb, wanted.memory_mb);
        found.push(Finding::warning(
            "memory",
            format!("{name} has {has} MB, the settings say {set}: times to hold invocations, and costs, are reckoned with the latter"),
            format!("set --node-memory-mb {has}, or the function's memory to {set} MB"),
        ));
    }
    let set = wanted.architecture.to_string();
    if let Some(has) = function.architecture.as_ref().filter(|has| **has != set) {
        found.push(Finding::warning(
            "architecture",
            format!("{name} runs on {has}, the settings say {set}: times to hold invocations are reckoned with the latter's price"),
            format!("set --node-architecture {has}, or deploy the function for {set}"),
        ));
    }
    if function.timeout_s < SHORTEST_TIMEOUT_S {
        found.push(Finding::warning(
            "timeout",
            format!(
                "{name} times out after {} s: busy nodes change their links all the time",
                function.timeout_s
            ),
            format!("set the function's time-out to {} s", wanted.timeout_s),
        ));
    } else if function.timeout_s != wanted.timeout_s {
        let (has, set) = (function.timeout_s, wanted.timeout_s);
        found.push(Finding::warning(
            "timeout",
            format!("{name} times out after {has} s, the settings say {set}"),
            format!("set --function-timeout-s {has}, or the function's time-out to {set} s"),
        ));
    }
    if function.purge_delay.as_deref() != Some("0") {
        found.push(Finding::warning(
            "environment",
            format!("{name} lacks MIMALLOC_PURGE_DELAY=0: what its allocator keeps is beyond its budget, and may end it"),
            "set MIMALLOC_PURGE_DELAY to 0 in the function's environment",
        ));
    }
    if wanted.is_aws && wanted.private_links && function.vpc.is_none() {
        found.push(Finding::error(
            "vpc",
            format!("{name} is in no VPC and cannot reach a private address"),
            "put the function into the proxy's VPC and zone, or set --link-advertise to an address that it reaches",
        ));
    }
    found
}

fn of_state(name: &str, function: &Function) -> Option<Finding> {
    let why = function
        .state_reason
        .as_deref()
        .unwrap_or("no reason given");
    let check = "state";
    let cause = function.reason_code.as_deref();
    let cause = cause.and_then(Cause::of_state_reason);
    let anew = match cause {
        Some(cause) => format!("{}; then deploy the function again", cause.fix()),
        None => "deploy the function again".into(),
    };
    match function.state.as_deref() {
        Some("Failed") => Some(Finding::error(
            check,
            format!("{name} has failed: {why}"),
            anew,
        )),
        Some("Pending") => Some(Finding::warning(
            check,
            format!("{name} is not ready yet: {why}"),
            "wait until its state is Active",
        )),
        Some("Inactive") => Some(Finding::warning(
            check,
            format!("{name} is inactive after weeks without use: its first invokes fail"),
            "wait: the first invoke wakes it, within a few minutes",
        )),
        _ if function.last_update.as_deref() == Some("Failed") => Some(Finding::warning(
            check,
            format!("the last update of {name} has failed: it runs what it ran before"),
            anew,
        )),
        _ if function.environment_error.is_some() => Some(Finding::error(
            check,
            format!(
                "the environment of {name} cannot be read: {}",
                function.environment_error.as_deref().unwrap_or_default()
            ),
            "see that its KMS key is enabled and that its role may kms:Decrypt",
        )),
        _ => None,
    }
}

fn of_runtime(name: &str, function: &Function) -> Option<Finding> {
    let check = "runtime";
    if function.snap_start {
        return Some(Finding::error(
            check,
            format!(
                "{name} has SnapStart on: instances would begin with the same memory and identity"
            ),
            "switch SnapStart off",
        ));
    }
    match function.runtime.as_deref() {
        Some(RUNTIME) | None => None,
        Some(other) if other.starts_with("provided") => Some(Finding::warning(
            check,
            format!("{name} has runtime {other}; nodes are built for {RUNTIME}"),
            format!("set the function's runtime to {RUNTIME}"),
        )),
        Some(other) => Some(Finding::error(
            check,
            format!("{name} has runtime {other}, which does not run a node"),
            format!("deploy the node's zip with runtime {RUNTIME}"),
        )),
    }
}

/// Whether all functions run on the same kind of processor: prices and the zip go by it.
pub fn of_architectures<'a>(
    functions: impl IntoIterator<Item = (&'a String, &'a Function)>,
) -> Option<Finding> {
    let mut kinds: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    for (name, function) in functions {
        if let Some(architecture) = &function.architecture {
            kinds.entry(architecture).or_insert((0, name)).0 += 1;
        }
    }
    let shown = kinds
        .iter()
        .map(|(kind, (count, name))| format!("{count} {kind} ({name})"));
    (kinds.len() > 1).then(|| {
        Finding::warning(
            "architecture",
            format!(
                "functions are of different kinds: {}",
                shown.collect::<Vec<_>>().join(", ")
            ),
            "deploy all of them for one architecture",
        )
    })
}

/// Whether one function's reserved concurrency will do: a round wakes two instances, and
/// an invocation that was given up (a link that broke, a proxy before this one) may go on
/// for a while beside the one that takes its place.
pub fn of_reserved(wanted: &Wanted, name: &str, reserved: Option<u32>) -> Option<Finding> {
    let fix = "reserve 3, or nothing";
    match reserved {
        Some(0) => Some(Finding::error(
            "reserved concurrency",
            format!("{name} has a reserved concurrency of 0: it is never run"),
            fix,
        )),
        Some(1) if wanted.standby => Some(Finding::warning(
            "reserved concurrency",
            format!(
                "{name} has a reserved concurrency of 1: its standby can never be brought up to date"
            ),
            fix,
        )),
        Some(2) if wanted.standby => Some(Finding::warning(
            "reserved concurrency",
            format!(
                "{name} has a reserved concurrency of 2: while an invocation that was given up has not ended, its node or its standby is throttled"
            ),
            fix,
        )),
        _ => None,
    }
}

/// Whether the account's concurrency will do, `reserving` of the functions having their
/// own.
pub fn of_account(wanted: &Wanted, account: Account, reserving: u32) -> Finding {
    let check = "concurrency";
    let sharing = wanted.nodes.saturating_sub(reserving);
    let rounds = match wanted.standby {
        true => sharing.min(ROUNDS_AT_A_TIME),
        false => 0,
    };
    let needed = sharing + rounds;
    let least = wanted.least.saturating_sub(reserving);
    let Account { unreserved, .. } = account;
    if unreserved < least {
        return Finding::error(
            check,
            format!(
                "the account allows {unreserved} concurrent executions; a large value needs {least} nodes at once to be stored"
            ),
            format!(
                "ask for {needed} or more ({QUOTA}); until then set --data-parity to fewer data chunks, as 4+2 with --nodes 6"
            ),
        );
    }
    if unreserved < needed {
        return Finding::warning(
            check,
            format!(
                "the account allows {unreserved} concurrent executions; {sharing} nodes and their rounds use up to {needed}: some invokes will be throttled"
            ),
            format!("ask for {needed} or more ({QUOTA}), or set fewer --nodes"),
        );
    }
    Finding::ok(
        check,
        format!("{unreserved} concurrent executions, of which up to {needed} are used"),
    )
}

/// What has become different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Other code: instances are new, and empty.
    Code,
    /// Another memory size: the same.
    Memory,
    /// Another runtime, architecture, time-out, environment or VPC: the same.
    Configuration,
    /// Not active any more, or active again.
    State,
}

impl Change {
    /// Label for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Memory => "memory",
            Self::Configuration => "configuration",
            Self::State => "state",
        }
    }

    /// Whether all instances of the function are replaced by it.
    pub fn replaces_instances(self) -> bool {
        self != Self::State
    }
}

/// How a function differs from what it was.
pub fn changes(before: &Function, after: &Function) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.code_sha256 != after.code_sha256 {
        changes.push(Change::Code);
    }
    if before.memory_mb != after.memory_mb {
        changes.push(Change::Memory);
    }
    let rest = |f: &Function| {
        let f = f.clone();
        (
            f.runtime,
            f.architecture,
            f.timeout_s,
            f.purge_delay,
            f.vpc,
            f.snap_start,
        )
    };
    // the date alone tells of changes that are not looked at
    let is_dated = changes.is_empty() && before.last_modified != after.last_modified;
    if rest(before) != rest(after) || is_dated {
        changes.push(Change::Configuration);
    }
    if before.state != after.state {
        changes.push(Change::State);
    }
    changes
}

/// The same of many functions in one: they tend to be set up alike.
pub fn summary(found: Vec<(String, Finding)>) -> Vec<Finding> {
    let mut groups: Vec<(Finding, usize)> = Vec::new();
    for (name, finding) in found {
        let rest = finding.what.replacen(&name, "", 1);
        let same = groups.iter_mut().find(|(first, _)| {
            first.check == finding.check
                && first.severity == finding.severity
                && first.fix == finding.fix
                && first.what.ends_with(&rest[rest.find(' ').unwrap_or(0)..])
        });
        match same {
            Some((_, more)) => *more += 1,
            None => groups.push((finding, 0)),
        }
    }
    let told = groups.into_iter().map(|(mut first, more)| {
        if more > 0 {
            first.what = format!("{} (and {more} more functions)", first.what);
        }
        first
    });
    told.collect()
}

#[cfg(test)]
mod tests;
