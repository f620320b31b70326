//! Reading through the cache: what it has not, a loader brings, once per key and
//! process however many ask.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    Client, Error, Expiry, SetOptions,
    client::keyed,
    cluster::{Route, slot_of},
    command::{self, checked},
    freshness::{Freshness, Keep},
    metrics::{Clock, Watch},
    protocol::{Reply, Request},
    retry::Repeat,
};

/// Values that are loaded anew in the background at the same time. Beyond, a
/// stale one is returned without: somebody asks for it again.
const BEHIND: usize = 64;

type Outcome = Result<Bytes, Error>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// The loaders that run, by key.
pub(crate) struct Flights {
    /// No more than there are callers who wait, and [`BEHIND`].
    by_key: Mutex<HashMap<Bytes, Flight>>,
    behind: Arc<Semaphore>,
    /// How many have ended.
    landed: AtomicU64,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            by_key: Mutex::default(),
            behind: Arc::new(Semaphore::new(BEHIND)),
            landed: AtomicU64::new(0),
        }
    }
}

/// Ends a flight, however its task ends.
struct Landing {
    client: Client,
    key: Bytes,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let flights = &self.client.inner.flights;
        flights.landed.fetch_add(1, Ordering::SeqCst);
        flights.by_key.lock().remove(&self.key);
    }
}

impl Client {
    /// The value of a key, or what `load` returns, which is stored then.
    ///
    /// - Of all who ask this client and its clones for a key at the same time,
    ///   one loads, the others get the same. Its loader runs in a task of its own:
    ///   that a caller gives up disturbs nobody.
    /// - A value that is stale ([`Keep::then_stale_for`]) is returned at once, and
    ///   loaded anew in the background. How good it is follows from its expiry in
    ///   the cache: all who use a key should keep it alike.
    /// - If the loader fails or panics, all who wait get that
    ///   ([`Error::Loader`], [`Error::LoaderPanicked`]); nothing is stored, and the
    ///   next caller loads anew.
    /// - A cache that cannot be reached is one that has nothing: the loader is
    ///   asked. Errors that do not pass (a wrong password, a key of another type)
    ///   are returned.
    /// - A value that cannot be stored is returned all the same.
    ///
    /// # Errors
    /// See above.
    pub async fn get_or_insert_with<L, F, E>(
        &self,
        key: impl AsRef<[u8]>,
        keep: Keep,
        load: L,
    ) -> Result<Bytes, Error>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let key = Bytes::copy_from_slice(key.as_ref());
        let looked = self.inner.flights.landed.load(Ordering::SeqCst);
        match self.look(&key, keep).await {
            Ok((Some(value), Freshness::Fresh)) => return Ok(value),
            Ok((Some(value), _)) => {
                self.load_behind(key, keep, load, looked);
                return Ok(value);
            }
            Ok((None, _)) => {}
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the cache cannot be read: loading");
            }
            Err(error) => return Err(error),
        }
        self.flight(key, keep, load, looked, None).await
    }

    /// The value, and how good it is; both in one round trip.
    async fn look(&self, key: &Bytes, keep: Keep) -> Result<(Option<Bytes>, Freshness), Error> {
        let watch = Watch::begin(&self.inner.options, b"GET", key.len() as u64);
        let mut route = Route::new(self, Some(slot_of(key)), Repeat::Always, watch);
        loop {
            match look_once(&mut route, key, keep).await {
                Ok(seen) => {
                    route
                        .watch
                        .replied(&seen.0.clone().map_or(Reply::Null, Reply::Bulk));
                    return Ok(seen);
                }
                Err(error) => route.after(error).await?,
            }
        }
    }

    fn load_behind<L, F, E>(&self, key: Bytes, keep: Keep, load: L, looked: u64)
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let flights = &self.inner.flights;
        if flights.by_key.lock().contains_key(&key) {
            return;
        }
        if let Ok(permit) = Arc::clone(&flights.behind).try_acquire_owned() {
            // nobody waits: the task goes on by itself
            drop(self.flight(key, keep, load, looked, Some(permit)));
        }
    }

    /// Joins the flight of this key, or begins it.
    fn flight<L, F, E>(
        &self,
        key: Bytes,
        keep: Keep,
        load: L,
        looked: u64,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Flight
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let flights = &self.inner.flights;
        let (landing, flight, outcome_to) = {
            let mut by_key = flights.by_key.lock();
            if let Some(flight) = by_key.get(&key) {
                if let Some(metrics) = &self.inner.options.metrics {
                    metrics.joined();
                }
                return flight.clone();
            }
            let (outcome_to, outcome) = oneshot::channel();
            let flight = outcome.map(|outcome| outcome.unwrap_or(Err(Error::LoaderPanicked)));
            let flight = flight.boxed().shared();
            by_key.insert(key.clone(), flight.clone());
            let client = self.clone();
            (Landing { client, key }, flight, outcome_to)
        };
        // one that has landed after the caller looked may have stored what is wanted
        let is_behind = flights.landed.load(Ordering::SeqCst) != looked;
        self.inner.tasks.spawn(async move {
            let (client, key) = (&landing.client, &landing.key);
            let found = match is_behind {
                true => client.look(key, keep).await.ok(),
                false => None,
            };
            let outcome = match found {
                Some((Some(value), Freshness::Fresh)) => Ok(value),
                _ => client.load(key, keep, load).await,
            };
            drop((landing, permit));
            // all who wait may have given up
            let _ = outcome_to.send(outcome);
        });
        flight
    }

    async fn load<L, F, E>(&self, key: &Bytes, keep: Keep, load: L) -> Outcome
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // `load` itself may panic, before its future does
        let clock = Clock::begin(&self.inner.options);
        let loading = AssertUnwindSafe(async { load().await }).catch_unwind();
        let loaded = match loading.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::Loader(error.into().into())),
            Err(_) => Err(Error::LoaderPanicked),
        };
        clock.loader(loaded.as_ref().err());
        let value = loaded?;
        let expiry = Expiry::In(keep.expiry(rand::random()));
        let options = SetOptions::new().expiry(expiry);
        if let Err(error) = self.set_with(key, value.clone(), options).await {
            tracing::warn!(%error, "what was loaded is not stored");
        }
        Ok(value)
    }
}

async fn look_once(
    route: &mut Route<'_>,
    key: &Bytes,
    keep: Keep,
) -> Result<(Option<Bytes>, Freshness), Error> {
    // the TTL first: what expires between them is missing, not fresh
    let requests: [Request; 2] = [keyed("PTTL", key), keyed("GET", key)];
    let mut lease = route.lease().await?;
    let [ttl, value] = lease.call_both(requests).await?;
    lease.give_back();
    let freshness = keep.judge(command::ttl(&checked(ttl)?)?);
    let value = command::value("GET", checked(value)?)?;
    Ok((value, freshness))
}
