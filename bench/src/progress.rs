//! A bar on the terminal for what takes long; none where there is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Cheap to clone; all clones are one bar. The default shows nothing.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        Self(ProgressBar::hidden())
    }
}

impl Progress {
    /// Of so many of something (`rounds`), on standard error if that is a terminal.
    pub(crate) fn new(length: usize, of: &'static str) -> Self {
        let bar = ProgressBar::new(length as u64);
        let template = format!("{{bar:30}} {{pos}}/{{len}} {of}, {{eta}} left: {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.tick();
        Self(bar)
    }

    /// What is being done now.
    pub(crate) fn at(&self, what: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(what());
        }
    }

    /// One more is done.
    pub(crate) fn step(&self) {
        self.steps(1);
    }

    /// So many more are done.
    pub(crate) fn steps(&self, count: usize) {
        self.0.inc(count as u64);
    }

    /// So many are done.
    pub(crate) fn to(&self, count: usize) {
        self.0.set_position(count as u64);
    }

    /// Those that will not be.
    pub(crate) fn skip(&self, count: usize) {
        self.0.dec_length(count as u64);
    }

    /// Waits; the bar is of seconds.
    pub(crate) async fn wait(&self, lasts: Duration) {
        let began = Instant::now();
        let before = self.0.position();
        loop {
            let past = began.elapsed();
            self.0.set_position(before + past.as_secs());
            let left = lasts.saturating_sub(past);
            if left.is_zero() {
                return;
            }
            sleep(left.min(SECOND)).await;
        }
    }

    /// Prints while the bar is out of the way; without a bar just so.
    pub(crate) fn beside(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_one_bar() {
        let bar = Progress::new(10, "rounds");
        let clone = bar.clone();
        clone.step();
        bar.steps(2);
        bar.skip(4);
        assert_eq!((clone.0.position(), clone.0.length()), (3, Some(6)));
        bar.to(6);
        assert_eq!(clone.0.position(), 6);
        bar.end();
        assert!(clone.0.is_finished());
    }

    #[tokio::test]
    async fn what_is_waited_for_has_passed() {
        let (bar, began) = (Progress::new(1, "s"), Instant::now());
        bar.wait(Duration::from_millis(5)).await;
        assert!(began.elapsed() >= Duration::from_millis(5));
        assert_eq!(bar.0.position(), 0, "no whole second");
    }

    #[test]
    fn lines_are_printed_with_and_without_a_bar() {
        for bar in [Progress::default(), Progress::new(1, "runs")] {
            let mut is_printed = false;
            bar.beside(|| is_printed = true);
            assert!(is_printed);
        }
    }
}
