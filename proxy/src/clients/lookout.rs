//! Looking out for requests before the worker sleeps. Whoever sends the next one to a worker
//! that sleeps has to wake it: that costs a client on this machine, or the interrupt of one
//! elsewhere, more than a few looks at the sockets cost (docs/performance.md).

use std::{
    convert::Infallible,
    future::pending,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{sync::Mutex, task::yield_now};

/// Looks in a row at which nothing had come, after which it may sleep: some 20 us.
const LOOKS: u32 = 40;
/// After lookouts in vain, twice as many are left out each time, so often: what comes too
/// rarely costs next to nothing.
const MOST_DOUBLINGS: u32 = 6;

/// One session at a time looks out for all: the turns that it gives to others are looks at
/// all sockets, whichever worker it is on.
#[derive(Debug, Default)]
pub struct Lookout {
    worth: Mutex<Worth>,
    /// How often something was read from a client that sends no pipelines.
    heard: AtomicU64,
}

impl Lookout {
    /// Something was read from a client that sends no pipelines.
    pub fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps this worker awake for a while. To be dropped as soon as the session has
    /// something to do, which means that it was worth it; never ends by itself.
    pub async fn keep(&self) -> Infallible {
        self.look().await;
        pending().await
    }

    async fn look(&self) {
        let Ok(mut worth) = self.worth.try_lock() else {
            return;
        };
        let Some(in_vain) = worth.begin() else { return };
        let count = || self.heard.load(Ordering::Relaxed);
        let (mut heard, mut looks, mut is_worth_it) = (count(), 0, false);
        while looks < LOOKS {
            yield_now().await;
            let now = count();
            match now == heard {
                true => looks += 1,
                false => (heard, looks, is_worth_it) = (now, 0, true),
            }
        }
        if !is_worth_it {
            worth.end_in_vain(in_vain);
        }
    }
}

/// Whether the next lookout is worth it, by what became of the ones before. Pure.
#[derive(Debug, Default)]
struct Worth {
    /// How many lookouts were in vain, one after another.
    in_vain: u32,
    /// How many are still to be left out.
    left_out: u32,
}

impl Worth {
    /// Begins a lookout, or leaves it out. Unless it ends in vain, which takes what this
    /// returns, it was worth it.
    fn begin(&mut self) -> Option<u32> {
        match self.left_out.checked_sub(1) {
            Some(left_out) => {
                self.left_out = left_out;
                None
            }
            None => Some(std::mem::take(&mut self.in_vain)),
        }
    }

    /// The lookout that began after so many in vain was another one.
    fn end_in_vain(&mut self, before: u32) {
        self.in_vain = before.saturating_add(1);
        self.left_out = (1 << self.in_vain.min(MOST_DOUBLINGS)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, sync::atomic::AtomicU32};

    use tokio::time::{Duration, timeout};

    use super::*;

    #[test]
    fn what_was_in_vain_is_left_out_more_and_more_often() {
        let mut worth = Worth::default();
        let mut left_out = Vec::new();
        for _ in 0..40 {
            let mut missed = 0;
            let before = loop {
                match worth.begin() {
                    Some(before) => break before,
                    None => missed += 1,
                }
            };
            left_out.push(missed);
            worth.end_in_vain(before);
        }
        assert_eq!(left_out[..8], [0, 1, 3, 7, 15, 31, 63, 63]);
        assert!(left_out[8..].iter().all(|&missed| missed == 63));
        // one that is worth it, and there is another at once
        while worth.begin().is_none() {}
        assert_eq!(worth.begin(), Some(0));
    }

    /// How many turns another task of the worker gets while one looks out, until it sleeps;
    /// it hears a client `heard_at` these of them.
    async fn turns(lookout: &Lookout, heard_at: &[u32]) -> u32 {
        let turns = AtomicU32::new(0);
        let count = async {
            loop {
                yield_now().await;
                let turn = turns.fetch_add(1, Ordering::Relaxed);
                if heard_at.contains(&turn) {
                    lookout.heard();
                }
            }
        };
        let until_asleep = async {
            tokio::select! {
                biased;
                () = lookout.look() => {}
                () = count => {}
            }
        };
        timeout(Duration::from_secs(20), until_asleep)
            .await
            .unwrap();
        turns.into_inner()
    }

    #[tokio::test]
    async fn it_ends_when_nothing_has_come_for_a_while() {
        let lookout = Lookout::default();
        let quiet = turns(&lookout, &[]).await;
        assert!((LOOKS - 1..=LOOKS + 1).contains(&quiet), "{quiet}");
        assert_eq!(turns(&lookout, &[]).await, 0, "left out");
        let longer = turns(&lookout, &[10, 25]).await;
        assert!((LOOKS + 24..=LOOKS + 28).contains(&longer), "{longer}");
        let again = turns(&lookout, &[]).await;
        assert!((LOOKS - 1..=LOOKS + 1).contains(&again), "{again}");
    }

    #[tokio::test]
    async fn one_looks_out_for_all_and_leaves_it_to_others_when_it_is_dropped() {
        let lookout = Lookout::default();
        {
            let mut first = pin!(lookout.look());
            let waker = std::task::Waker::noop();
            let mut cx = std::task::Context::from_waker(waker);
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert_eq!(turns(&lookout, &[]).await, 0, "another one does");
        }
        assert!(
            turns(&lookout, &[]).await >= LOOKS - 1,
            "the first had a request"
        );
    }
}
