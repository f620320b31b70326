//! `replay`: a whole trace on a pool of bounded capacity: through the real proxy, sped up
//! and at a smaller size, or in virtual time with the proxy's own policies: what is hit,
//! what is lost, what is invoked for it.

mod pool;
mod profile;
mod real;
mod runs;
mod simulated;
mod story;

use anyhow::{Result, bail, ensure};
use local_lambda::Architecture;
use serde::{Serialize, Serializer};

use crate::results::{Output, Results};
pub(crate) use pool::PoolArgs;
pub(crate) use profile::Probed;
use real::{RealArgs, RealOutcome};
pub(crate) use runs::{Bills, Outcome, arch_name, play};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pool: PoolArgs,
    /// In virtual time, nodes and platform simulated.
    #[arg(long)]
    pure: bool,
    #[command(flatten)]
    real: RealArgs,
    /// Three hours of a generated trace on 40 nodes in virtual time, unless there is a trace;
    /// then, without --pure, a generated hour for real.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: Output,
}

/// What is written as JSON: one of both, or both.
#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    pure: Option<&'a Outcome>,
    /// Beside the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    real: Option<&'a RealOutcome>,
}

/// What was played.
struct Played {
    pure: Option<Outcome>,
    real: Option<RealOutcome>,
}

impl Serialize for Played {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.pure.as_ref(), self.real.as_ref()) {
            (None, Some(real)) => real.serialize(serializer),
            (pure, real) => Both { pure, real }.serialize(serializer),
        }
    }
}

impl Played {
    /// An error if not all was played.
    fn end(&self) -> Result<()> {
        self.pure.as_ref().map_or(Ok(()), Outcome::end)?;
        match self.real.as_ref().and_then(|real| real.broken_off.as_ref()) {
            Some(why) => bail!("broken off: {why}"),
            None => Ok(()),
        }
    }
}

impl Results for Played {
    fn text(&self, markdown: bool) -> String {
        let pure = self.pure.as_ref().map(|o| simulated::text(o, markdown));
        let real = self.real.as_ref().map(|o| real::text(o, markdown));
        let both: Vec<String> = [pure, real].into_iter().flatten().collect();
        both.join("\n")
    }

    fn drawings(&self) -> Vec<(String, String)> {
        let pure = self.pure.as_ref().map(simulated::drawings);
        let real = self.real.as_ref().map(real::drawing);
        pure.into_iter().flatten().chain(real).collect()
    }
}

/// Plays the trace and tells what came of it.
pub(crate) fn run(mut args: Args) -> Result<()> {
    if args.quick {
        args.pool.make_quick();
        args.real.make_quick();
    }
    let pure = (args.pure || args.quick).then(|| args.play_pure());
    let mut played = Played {
        pure: pure.transpose()?,
        real: None,
    };
    let mut ended = played.end();
    if !args.pure && ended.is_ok() {
        match args.play_real() {
            Ok(real) => {
                played.real = Some(real);
                ended = played.end();
            }
            // what was simulated is told all the same
            Err(error) if played.pure.is_some() => ended = Err(error),
            Err(error) => return Err(error),
        }
    }
    args.output.close(ended, &played)?;
    let hits = played.real.as_ref().map_or(1, |real| real.counts.hits);
    ensure!(!args.quick || hits > 0, "nothing was hit");
    Ok(())
}

impl Args {
    fn play_pure(&self) -> Result<Outcome> {
        let trace = self.pool.requests(self.quick)?;
        let (story, pattern) = (self.pool.story(&trace), self.pool.pattern()?);
        let settings = self.pool.settings(story.hours, Architecture::X86)?;
        let skipped = trace.skipped;
        play(&self.pool, &story, &pattern, &settings, skipped)
    }

    fn play_real(&self) -> Result<RealOutcome> {
        let (trace, pattern, day) = match self.quick {
            true => {
                let (trace, pattern) = real::quick(self.pool.seed);
                (trace, pattern, "a tenth every third minute".into())
            }
            false => (
                self.pool.requests(false)?,
                self.pool.pattern()?,
                self.pool.day_name(),
            ),
        };
        real::run(&self.real, &self.pool, trace, &pattern, day)
    }
}

#[cfg(test)]
pub(crate) use profile::tests::profile as slow_profile;

#[cfg(test)]
mod tests;
