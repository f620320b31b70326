//! How often what is carried out as one is carried out again because others were
//! faster: mostly a few times at the most. When it goes on, other writes wait for
//! it, until it is through.

use std::time::{Duration, Instant};

use crate::{
    resp::Reply,
    store::{Closed, Store},
};

/// After so many tries in vain others wait.
const OPEN: usize = 3;
/// Not for one that takes longer than this.
const SHORT: Duration = Duration::from_secs(1);
/// After this nothing is tried again.
const DEADLINE: Duration = Duration::from_secs(30);

/// The tries of one transaction.
pub(super) struct Attempts<'a> {
    store: &'a Store,
    began: Instant,
    last: Instant,
    tries: usize,
    others_wait: Option<Closed<'a>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        let now = Instant::now();
        Self {
            store,
            began: now,
            last: now,
            tries: 0,
            others_wait: None,
        }
    }

    /// Returns when it may be tried, or tried again.
    pub(super) async fn next(&mut self) -> Result<(), Reply> {
        let (now, tries) = (Instant::now(), self.tries);
        self.tries += 1;
        if tries == 0 {
            return Ok(());
        }
        metrics::counter!("scatterhoard_transactions_again_total").increment(1);
        if now - self.began >= DEADLINE {
            let text = "UNAVAILABLE others write to the same keys all the time; try again";
            return Err(Reply::Error(text.into()));
        }
        let was_short = now - self.last < SHORT;
        if !was_short {
            self.others_wait = None;
        } else if self.others_wait.is_none() && tries >= OPEN {
            self.others_wait = Some(self.store.gate().close().await);
        }
        tokio::task::yield_now().await;
        self.last = Instant::now();
        Ok(())
    }
}
