//! How requests come, apart from what a cell says: the options of `load` that the tables of
//! `compare` leave as they are.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::popularity::Popularity;
use super::schedule::{Arrivals, MAX_RATE, OpenLoop};
use crate::trace::Trace;

/// What a GET that finds nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnMiss {
    /// An error: everything was stored before.
    #[default]
    Fail,
    /// A miss, counted.
    Count,
    /// A miss, counted; the client then stores the value.
    Fill,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Traffic {
    /// Which key is next: turn, uniform, zipf:EXPONENT or trace:FILE (seconds,op,key,bytes).
    #[arg(long, default_value = "turn")]
    pub(crate) popularity: Popularity,
    /// Leaves out lines of a trace that do not parse, and counts them.
    #[arg(long)]
    skip_bad_lines: bool,
    /// Requests a second of all clients together, whatever the server does (open loop):
    /// latencies then count from when a request was due. Without it, each client sends its
    /// next request when the one before is answered (closed loop).
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How the requests of --rate are spread.
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Arrivals,
    /// What a GET that finds nothing is: an error, a miss, or a miss after which the value
    /// is stored.
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) on_miss: OnMiss,
    /// Do not store all keys before the load begins.
    #[arg(long)]
    pub(crate) no_prefill: bool,
    /// Of keys, sizes, operations, arrivals and contents.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Of `--popularity trace:FILE`, once it is read.
    #[arg(skip)]
    pub(crate) trace: Option<Arc<Trace>>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            popularity: Popularity::Turn,
            skip_bad_lines: false,
            rate: None,
            arrivals: Arrivals::Poisson,
            on_miss: OnMiss::Fail,
            no_prefill: false,
            seed: 1,
            trace: None,
        }
    }
}

impl Traffic {
    /// As it comes unless told otherwise.
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Lines of the trace that were left out; none unless that was asked for.
    pub(crate) fn skipped_lines(&self) -> Option<u64> {
        let trace = self.trace.as_ref().filter(|_| self.skip_bad_lines);
        trace.map(|trace| trace.skipped)
    }

    pub(crate) fn open_loop(&self) -> Option<OpenLoop> {
        let arrivals = self.arrivals;
        self.rate.map(|rate| OpenLoop { rate, arrivals })
    }

    /// Refuses what makes no sense, and reads the trace.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        if let Some(rate) = self.rate {
            ensure!(
                rate.is_finite() && rate > 0.0 && rate <= MAX_RATE,
                "--rate {rate}: above 0, and {MAX_RATE} at most"
            );
        }
        ensure!(
            !self.no_prefill || self.on_miss != OnMiss::Fail,
            "--no-prefill: every GET would fail; say --on-miss count or --on-miss fill"
        );
        if let Popularity::Trace(path) = &self.popularity {
            self.trace = Some(Arc::new(Trace::read(path, self.skip_bad_lines)?));
        }
        Ok(())
    }
}
