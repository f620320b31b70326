//! Where writes wait while a transaction is carried out that others have
//! overtaken several times.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{RwLock, RwLockWriteGuard},
    time::{Instant, timeout_at},
};

/// So long it stays closed at the most.
const LONGEST: Duration = Duration::from_secs(1);

/// Open nearly always.
#[derive(Default)]
pub struct Gate {
    /// Who has closed it, or is about to. Looked at with every write, mostly alone.
    closing: AtomicUsize,
    /// When it opens by itself.
    opens: Mutex<Option<Instant>>,
    lock: RwLock<()>,
}

/// The gate is closed until this is dropped, or has been there for a second.
pub struct Closed<'a> {
    /// Before the gate's own lock is given back: who comes then need not look at it.
    _count: Count<'a>,
    _lock: RwLockWriteGuard<'a, ()>,
}

struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// Returns when the gate is open. Who has passed it may write at any time then.
    pub async fn pass(&self) {
        if self.closing.load(Ordering::Relaxed) > 0 {
            let opens = *self.opens.lock();
            let opens = opens.unwrap_or_else(|| Instant::now() + LONGEST);
            // whoever closed it may wait for anything: nobody waits for ever for that
            let _ = timeout_at(opens, self.lock.read()).await;
        }
    }

    /// Whether somebody has closed it, or is about to.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed) > 0
    }

    /// Closes the gate, when nobody else does.
    pub async fn close(&self) -> Closed<'_> {
        self.closing.fetch_add(1, Ordering::Relaxed);
        let count = Count(&self.closing);
        let lock = self.lock.write().await;
        *self.opens.lock() = Some(Instant::now() + LONGEST);
        Closed {
            _lock: lock,
            _count: count,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_comes_while_it_is_closed_waits() {
        let gate = Gate::default();
        gate.pass().now_or_never().unwrap();
        let closed = gate.close().await;
        let mut pass = std::pin::pin!(gate.pass());
        assert!(pass.as_mut().now_or_never().is_none());
        let mut second = Box::pin(gate.close());
        assert!(second.as_mut().now_or_never().is_none());
        drop(closed);
        pass.await;
        // one that gives up closes nothing
        drop(second);
        gate.pass().now_or_never().unwrap();
    }

    #[tokio::test]
    async fn it_opens_by_itself() {
        let gate = Gate::default();
        let closed = gate.close().await;
        // would wait for ever
        gate.pass().await;
        // it is open now, for all who come
        gate.pass().now_or_never().unwrap();
        drop(closed);
        let _closed = gate.close().await;
        assert!(gate.pass().now_or_never().is_none());
    }
}
