//! `scatterhoard doctor`: looks at everything that a proxy with these settings needs,
//! and says what to fix. Stores nothing on nodes; one of them is invoked twice.

mod machine;
mod visit;

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    checks::{
        self,
        advice::{self, Finding, Severity, Wanted},
    },
    config::{Config, Functions},
    local_pool::{self, Program},
    pool::platform::{
        InvokeFailure, Platform,
        describe::Unknown,
        errors::{Blame, Cause},
    },
};

/// AWS refuses requests that are off by more than 300 s.
const SKEW_ERROR_S: i64 = 240;
/// Expiries are off by as much, and it grows.
const SKEW_WARNING_S: i64 = 5;
const CHECKS_GRACE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Whether nothing is wrong; warnings may be there.
    pub ok: bool,
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Examination {
    fn of(findings: Vec<Finding>) -> Self {
        Self {
            ok: findings.iter().all(|f| f.severity < Severity::Error),
            findings,
        }
    }

    /// For people: a line each, and what to do below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Ok => "ok     ",
                Severity::Skipped => "-      ",
                Severity::Warning => "WARNING",
                Severity::Error => "ERROR  ",
            };
            text += &format!("{mark}  {:<20}  {}\n", finding.check, finding.what);
            if let Some(fix) = &finding.fix {
                text += &format!("{:31}to do: {fix}\n", "");
            }
        }
        let count = |severity| {
            self.findings
                .iter()
                .filter(|f| f.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        text + &format!("{errors} errors, {warnings} warnings\n")
    }
}

/// Looks at everything. With a local pool, one is started for the time.
pub async fn examine(config: &Config, program: &Program) -> Examination {
    let mut findings = machine::examine(config);
    let local = match config.functions {
        Functions::Local => {
            match local_pool::start(config, program, config.function_names().into_iter()).await {
                Ok(local) => Some(local),
                Err(error) => {
                    findings.push(Finding::error(
                        "local pool",
                        format!("it cannot be started: {error:#}"),
                        "see the message",
                    ));
                    return Examination::of(findings);
                }
            }
        }
        Functions::Endpoint(_) | Functions::Aws => None,
    };
    let endpoint = match (&config.functions, &local) {
        (_, Some(local)) => Some(local.endpoint_url()),
        (Functions::Endpoint(url), None) => Some(url.clone()),
        (Functions::Aws | Functions::Local, None) => None,
    };
    let platform = Platform::connect(endpoint.as_deref()).await;
    findings.extend(examine_platform(config, &platform).await);
    if let Some(local) = local {
        local.shutdown(CHECKS_GRACE).await;
    }
    Examination::of(findings)
}

async fn examine_platform(config: &Config, platform: &Platform) -> Vec<Finding> {
    let names = config.function_names();
    let Some(first) = names.first() else {
        return Vec::new();
    };
    let (answer, ahead_s) = platform.dry_run(first).await;
    let mut findings = vec![of_account(&answer)];
    findings.push(of_clock(ahead_s));
    if findings[0].severity == Severity::Error {
        // nothing else would say anything new
        return findings;
    }
    let (invokes, callable) = of_invokes(platform, &names).await;
    findings.extend(invokes);
    findings.extend(of_functions(config, platform, &names).await);
    findings.extend(of_quota(config, platform, &names).await);
    match callable {
        Some(function) => findings.extend(of_links(config, platform, &function).await),
        None => findings.push(Finding::skipped(
            "links",
            "no function can be invoked: whether it reaches this machine is not known",
        )),
    }
    findings
}

/// Credentials, region and endpoint: whether the platform answers for a function at all.
fn of_account(answer: &Result<(), InvokeFailure>) -> Finding {
    let check = "credentials";
    match answer.as_ref().map_err(InvokeFailure::cause) {
        Err(Some(cause)) if is_general(cause) => {
            let what = answer.as_ref().err().map(ToString::to_string);
            Finding::error(check, what.unwrap_or_default(), cause.fix())
        }
        _ => Finding::ok(check, "the platform answers and accepts the credentials"),
    }
}

/// Whether it says nothing of one function.
fn is_general(cause: Cause) -> bool {
    matches!(cause.blame(), Blame::Pool { .. })
}

fn of_clock(ahead_s: Option<i64>) -> Finding {
    let check = "clock";
    let Some(ahead_s) = ahead_s else {
        return Finding::skipped(check, "the platform does not say what time it is");
    };
    let side = if ahead_s > 0 { "behind" } else { "ahead of" };
    let what = format!(
        "this machine's clock is {} s {side} the platform's",
        ahead_s.abs()
    );
    let fix = Cause::ClockSkew.fix();
    match ahead_s.abs() {
        SKEW_ERROR_S.. => Finding::error(check, what, fix),
        SKEW_WARNING_S.. => Finding::warning(check, what, fix),
        _ => Finding::ok(check, "it agrees with the platform's, to 5 s"),
    }
}

/// Whether each function may be invoked, and one that may.
async fn of_invokes(platform: &Platform, names: &[String]) -> (Vec<Finding>, Option<String>) {
    let check = "invoke";
    let asked = checks::paced(names)
        .map(|name| async move { (name, platform.dry_run(name).await.0) })
        .buffered(4);
    let answers: Vec<_> = asked.collect().await;
    let (mut found, mut callable) = (Vec::new(), None);
    for (name, answer) in answers {
        match answer {
            Ok(()) => {
                callable.get_or_insert_with(|| name.clone());
            }
            Err(failure) => {
                let fix = failure.cause().map_or("see the message", Cause::fix);
                let what = match failure.cause() {
                    // the platform's words have names and numbers of their own
                    Some(cause) => format!("{name} cannot be invoked: {}", cause.what()),
                    None => format!("{name} cannot be invoked: {failure}"),
                };
                found.push((name.clone(), Finding::error(check, what, fix)));
            }
        }
    }
    let mut findings = advice::summary(found);
    if findings.is_empty() {
        findings.push(Finding::ok(
            check,
            format!("all {} functions may be invoked", names.len()),
        ));
    }
    (findings, callable)
}

/// How each function is set up.
async fn of_functions(config: &Config, platform: &Platform, names: &[String]) -> Vec<Finding> {
    let check = "functions";
    let wanted = Wanted::by(config);
    let (mut found, mut described) = (Vec::new(), Vec::new());
    let mut answers = std::pin::pin!(checks::describe_all(platform, names));
    while let Some((name, answer)) = answers.next().await {
        match answer {
            Ok(function) => {
                let of_it = advice::of_function(&wanted, name, &function);
                found.extend(of_it.into_iter().map(|f| (name.clone(), f)));
                described.push((name, function));
            }
            Err(Unknown::Unsupported) => {
                return vec![Finding::skipped(
                    check,
                    "this endpoint does not tell how functions are set up",
                )];
            }
            // told for invokes
            Err(Unknown::Failed {
                cause: Cause::FunctionMissing,
                ..
            }) => {}
            Err(Unknown::Failed { cause, text }) => {
                let finding = Finding::warning(
                    check,
                    format!("{name} cannot be looked at: {cause} ({text})"),
                    "allow the proxy's role lambda:GetFunctionConfiguration on its functions",
                );
                found.push((name.clone(), finding));
                // the others would say the same
                break;
            }
        }
    }
    let mut findings = advice::summary(found);
    let kinds = described.iter().map(|(name, function)| (*name, function));
    findings.extend(advice::of_architectures(kinds));
    if findings.is_empty() {
        findings.push(Finding::ok(
            check,
            format!(
                "{} functions are set up as the settings say",
                described.len()
            ),
        ));
    }
    findings
}

/// Whether the account lets all of them run.
async fn of_quota(config: &Config, platform: &Platform, names: &[String]) -> Vec<Finding> {
    let wanted = Wanted::by(config);
    let account = match platform.account().await {
        Ok(account) => account,
        Err(Unknown::Unsupported) => {
            let what = "this endpoint does not tell its limits";
            return vec![Finding::skipped("concurrency", what)];
        }
        Err(why) => {
            return vec![Finding::warning(
                "concurrency",
                format!("the account's limits cannot be looked at: {why}"),
                "allow the proxy's role lambda:GetAccountSettings",
            )];
        }
    };
    let (mut found, mut reserving) = (Vec::new(), 0);
    let mut asked = std::pin::pin!(
        checks::paced(names)
            .map(|name| async move { (name, platform.reserved(name).await) })
            .buffered(4)
    );
    while let Some((name, answer)) = asked.next().await {
        let Ok(reserved) = answer else { break };
        reserving += u32::from(reserved.is_some_and(|n| n >= 2));
        let finding = advice::of_reserved(&wanted, name, reserved);
        found.extend(finding.map(|f| (name.clone(), f)));
    }
    let mut findings = vec![advice::of_account(&wanted, account, reserving)];
    findings.extend(advice::summary(found));
    findings
}

/// Whether a function reaches this machine where it will have to.
async fn of_links(config: &Config, platform: &Platform, function: &str) -> Vec<Finding> {
    let listener = match bind(config.link_listen).await {
        Ok(listener) => listener,
        Err(finding) => return vec![finding],
    };
    let address = match (config.link_advertise, listener.local_addr()) {
        (Some(address), _) | (None, Ok(address)) => address,
        (None, Err(error)) => {
            return vec![Finding::error(
                "links",
                error.to_string(),
                "see the message",
            )];
        }
    };
    let mut findings = Vec::from_iter(visit::where_nodes_dial(config, address));
    findings.extend(visit::visit(config, platform, function, listener, address).await);
    findings
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Finding> {
    scatterhoard_node::socket::listen(address).await.map_err(|error| {
        let what = format!("cannot listen on {address}: {error}");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Finding::warning(
                "links",
                what,
                "if a proxy runs here, all is well, but whether functions reach it was not tried; else choose another --link-listen",
            ),
            _ => Finding::error("links", what, "choose another --link-listen"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_by_what_they_break() {
        let severity = |ahead_s| of_clock(ahead_s).severity;
        assert_eq!(severity(None), Severity::Skipped);
        assert_eq!(severity(Some(0)), Severity::Ok);
        assert_eq!(severity(Some(-4)), Severity::Ok);
        assert_eq!(severity(Some(5)), Severity::Warning);
        assert_eq!(severity(Some(-100)), Severity::Warning);
        assert_eq!(severity(Some(240)), Severity::Error);
        assert!(of_clock(Some(600)).what.contains("600 s behind"));
        assert!(of_clock(Some(-600)).what.contains("600 s ahead"));
    }

    #[test]
    fn errors_decide_and_all_is_said() {
        let mut findings = vec![
            Finding::ok("a", "fine"),
            Finding::skipped("b", "no matter"),
            Finding::warning("c", "hm", "improve it"),
        ];
        let good = Examination::of(findings.clone());
        assert!(good.ok);
        findings.push(Finding::error("d", "broken", "repair it"));
        let bad = Examination::of(findings);
        assert!(!bad.ok);
        let text = bad.text();
        for words in [
            "fine",
            "no matter",
            "to do: improve it",
            "to do: repair it",
            "1 errors, 1 warnings",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!(json["findings"][3]["severity"], "error");
        assert_eq!(json["findings"][0].get("fix"), None);
    }
}
