//! Looks at how functions and the account are set up: when the proxy starts, and every
//! few minutes while it runs. Says what to change (`advice`); nothing waits for it but
//! the start, for one question: whether the account lets enough nodes run at all.

pub mod advice;

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use scatterhoard_node::random::HashMap;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Functions},
    pool::{
        Pool,
        platform::{
            Platform,
            describe::{Function, Unknown},
            errors::Cause,
        },
    },
};
use advice::{Change, Finding, Severity, Wanted};

/// Lambda takes 15 requests a second of these kinds from an account; others want some.
const EVERY: Duration = Duration::from_millis(200);
/// Questions under way at once.
const AT_ONCE: usize = 4;

/// Asks how each of these functions is set up, a few at a time and a few a second.
/// In order.
pub fn describe_all<'a>(
    platform: &'a Platform,
    functions: &'a [String],
) -> impl Stream<Item = (&'a String, Result<Function, Unknown>)> + 'a {
    paced(functions)
        .map(move |name| async move { (name, platform.describe(name).await) })
        .buffered(AT_ONCE)
}

/// Names, a few a second.
pub fn paced(functions: &[String]) -> impl Stream<Item = &String> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(
        (ticks, functions.iter()),
        |(mut ticks, mut names)| async move {
            let name = names.next()?;
            ticks.tick().await;
            Some((name, (ticks, names)))
        },
    )
}

/// Whether there is anything to ask: not where the pool is on this machine.
pub fn applies(config: &Config) -> bool {
    config.functions != Functions::Local
}

/// At the start: whether the account lets enough nodes run.
///
/// # Errors
/// What to do, when it does not.
pub async fn quota(config: &Config, platform: &Platform) -> Result<(), Finding> {
    let wanted = Wanted::by(config);
    let account = match platform.account().await {
        Ok(account) => account,
        Err(why) => {
            not_asked("lambda:GetAccountSettings", &why);
            return Ok(());
        }
    };
    let finding = advice::of_account(&wanted, account, 0);
    if finding.severity == Severity::Error {
        // functions may have concurrency of their own
        let names = config.function_names();
        let reserving = reserving(platform, &names).await;
        let finding = advice::of_account(&wanted, account, reserving);
        return match finding.severity {
            Severity::Error => Err(finding),
            _ => {
                tell(&finding);
                Ok(())
            }
        };
    }
    tell(&finding);
    Ok(())
}

/// How many of these functions have concurrency of their own, that is at least 2.
async fn reserving(platform: &Platform, functions: &[String]) -> u32 {
    // nothing borrowed, or who waits for it could not be sent to another thread
    let ask = |name: &String| {
        let (platform, name) = (platform.clone(), name.clone());
        async move { platform.reserved(&name).await }
    };
    let asked = paced(functions).map(ask).buffered(AT_ONCE);
    let count = asked
        .filter(|answer| std::future::ready(matches!(answer, Ok(Some(2..)))))
        .count();
    u32::try_from(count.await).unwrap_or(u32::MAX)
}

fn not_asked(permission: &str, why: &Unknown) {
    match why {
        Unknown::Unsupported => tracing::debug!(permission, "not known at this endpoint"),
        Unknown::Failed {
            cause: Cause::AccessDenied,
            ..
        } => tracing::info!(
            permission,
            "not checked: the proxy's role may not ask; allow it to have this checked"
        ),
        Unknown::Failed { .. } => tracing::info!(permission, %why, "not checked"),
    }
}

/// A line in the log, if it is worth one.
fn tell(finding: &Finding) {
    let Finding {
        check, what, fix, ..
    } = finding;
    let fix = fix.as_deref().unwrap_or_default();
    match finding.severity {
        Severity::Ok | Severity::Skipped => tracing::debug!(check, "{what}"),
        Severity::Warning => tracing::warn!(check, "{what}; to do: {fix}"),
        Severity::Error => tracing::error!(check, "{what}; to do: {fix}"),
    }
}

/// What was known of functions, to see them change.
#[derive(Default)]
struct Known {
    functions: HashMap<String, Function>,
    /// They were looked at once.
    is_complete: bool,
}

/// Looks at all functions of the pool, and again every `every` (zero: never again), until told to
/// stop or the endpoint turns out to know nothing but invokes.
pub async fn watch_for_ever(
    config: Config,
    platform: Platform,
    pool: Arc<Pool>,
    stop: CancellationToken,
) {
    let wanted = Wanted::by(&config);
    let every = config.function_check;
    let mut known = Known::default();
    loop {
        let names: Vec<String> = pool.members().map(|n| n.function.clone()).collect();
        let look = known.look(&wanted, &platform, &names, &pool);
        match stop.run_until_cancelled(look).await {
            Some(true) if !every.is_zero() => {}
            _ => return,
        }
        let pause = tokio::time::sleep(every);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

impl Known {
    /// Whether it makes sense to look again.
    async fn look(
        &mut self,
        wanted: &Wanted,
        platform: &Platform,
        names: &[String],
        pool: &Pool,
    ) -> bool {
        self.functions.retain(|name, _| names.contains(name));
        let (mut found, mut refused) = (Vec::new(), None);
        let mut answers = std::pin::pin!(describe_all(platform, names));
        while let Some((name, answer)) = answers.next().await {
            let function = match answer {
                Ok(function) => function,
                Err(Unknown::Unsupported) => return false,
                Err(why) => {
                    refused.get_or_insert(why);
                    continue;
                }
            };
            let advice = advice::of_function(wanted, name, &function);
            let before = self.functions.insert(name.clone(), function.clone());
            let changes = before.map_or(Vec::new(), |b| advice::changes(&b, &function));
            for change in &changes {
                metrics::counter!("scatterhoard_function_changes_total", "what" => change.name())
                    .increment(1);
                tracing::warn!(
                    function = name,
                    change = change.name(),
                    "{}",
                    consequence(*change)
                );
            }
            if changes.iter().any(|change| change.replaces_instances()) {
                pool.look_soon(name);
            }
            if !self.is_complete || !changes.is_empty() {
                found.extend(advice.into_iter().map(|f| (name.clone(), f)));
            }
        }
        let mut findings = advice::summary(found);
        if !self.is_complete {
            findings.extend(advice::of_architectures(&self.functions));
        }
        findings.iter().for_each(tell);
        if let Some(why) = refused {
            not_asked("lambda:GetFunctionConfiguration", &why);
        }
        self.is_complete = true;
        metrics::counter!("scatterhoard_function_checks_total").increment(1);
        true
    }
}

fn consequence(change: Change) -> &'static str {
    match change {
        Change::Code => {
            "the function's code was updated: its instances are replaced, what they hold is rebuilt from other nodes"
        }
        Change::Memory => {
            "the function's memory was changed: its instances are replaced, what they hold is rebuilt from other nodes"
        }
        Change::Configuration => {
            "the function's configuration was changed: its instances are replaced, what they hold is rebuilt from other nodes"
        }
        Change::State => "the function's state has changed",
    }
}
