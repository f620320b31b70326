//! A bar on the terminal for what takes long; none where there is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Cheap to clone; all clones are one bar. The default shows nothing.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        Self(ProgressBar::hidden())
    }
}

impl Progress {
    /// Of so many rounds, on standard error if that is a terminal.
    pub(crate) fn new(rounds: usize) -> Self {
        let bar = ProgressBar::new(rounds as u64);
        let template = "{bar:30} {pos}/{len} rounds, {eta} left: {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// What is being done now.
    pub(crate) fn at(&self, what: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(what());
        }
    }

    /// A round is over.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    /// Rounds that will not be.
    pub(crate) fn skip(&self, rounds: usize) {
        self.0.dec_length(rounds as u64);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
