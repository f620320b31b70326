//! The handle that programs have.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    Command, Error, Options, Set, SetOptions, Ttl,
    cluster::{Cluster, Route, Several, slot_of, together},
    command::{self, Lane, checked},
    connection::member::Common,
    fill::Flights,
    metrics::Watch,
    protocol::{Reply, Request},
    retry::{self, Repeat},
};

/// A client of one server, or of the cluster that it belongs to. Cheap to clone;
/// all clones use the same connections: to each server one that small requests
/// share, and [`Options::connections`] for large values.
///
/// A future that is dropped gives its request up: what it had sent may still be
/// carried out, its reply is thrown away, and no other request is disturbed.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Arc<Options>,
    pub(crate) cluster: Cluster,
    pub(crate) flights: Flights,
    pub(crate) tasks: TaskTracker,
    stop: CancellationToken,
}

impl Client {
    /// A client, once the server has answered.
    ///
    /// # Errors
    /// When it cannot be reached or does not let us in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let client = Self::new(options);
        client.ping().await?;
        Ok(client)
    }

    /// A client that connects when it is asked for something.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let options = Arc::new(options);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let common = Common {
            options: Arc::clone(&options),
            tasks: tasks.clone(),
            stop: stop.clone(),
            is_cluster: Arc::default(),
        };
        Self {
            inner: Arc::new(Inner {
                cluster: Cluster::new(common),
                options,
                flights: Flights::default(),
                tasks,
                stop,
            }),
        }
    }

    /// Takes no more requests and waits for those under way, streams included,
    /// but no longer than `limit`. Returns whether all were done. A request that is
    /// sent to a server which was not met before ends with [`Error::Closed`].
    pub async fn close(&self, limit: Duration) -> bool {
        // before the pools are looked for: who comes later finds it
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let pools = self.inner.cluster.pools();
        let (are_shared_done, are_pools_done) = futures_util::join!(
            timeout(limit, self.inner.tasks.wait()),
            join_all(pools.iter().map(|pool| pool.close(limit)))
        );
        are_shared_done.is_ok() && !are_pools_done.contains(&false)
    }

    /// Asks the server whether it is there; of a cluster the one that the client was
    /// made for.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.call(Request::new("PING"), Lane::Shared, Repeat::Always)
            .await?;
        Ok(())
    }

    /// The value of a key, over a connection of its own: however large it is,
    /// nobody waits behind it. Values above 16 KiB are read to where they stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let request = keyed("GET", key.as_ref());
        command::value("GET", self.call(request, Lane::Own, Repeat::Always).await?)
    }

    /// The same over the connection that small requests share: for values that
    /// are known to be small. Many at once go in few packets. A large one comes
    /// as well, but others wait behind it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_small(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let request = keyed("GET", key.as_ref());
        command::value(
            "GET",
            self.call(request, Lane::Shared, Repeat::Always).await?,
        )
    }

    /// The bytes of a value from `range.start` up to `range.end`, or as many of
    /// them as there are: none if there is no value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        let wrong = |_| Error::usage("a range ends beyond 2^63");
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let start = i64::try_from(range.start).map_err(wrong)?;
        let last = i64::try_from(range.end - 1).map_err(wrong)?;
        let request = keyed("GETRANGE", key.as_ref()).number(start).number(last);
        let lane = Lane::of(0, range.end - range.start);
        let reply = self.call(request, lane, Repeat::Always).await?;
        Ok(command::value("GETRANGE", reply)?.unwrap_or_default())
    }

    /// Stores a value, for ever.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<(), Error> {
        self.set_with(key, value, SetOptions::new()).await?;
        Ok(())
    }

    /// Stores a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<Set, Error> {
        let mut request = keyed("SET", key.as_ref()).arg(value);
        for argument in options.arguments()? {
            request = request.arg(argument);
        }
        let lane = match options.returns_previous() {
            true => Lane::Own,
            false => Lane::of(request.bytes(), 0),
        };
        options.outcome(self.call(request, lane, options.repeat()).await?)
    }

    /// Deletes a key; returns whether it was there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.delete_many([key]).await? > 0)
    }

    /// Deletes keys; returns how many were there. In a cluster, all at once is what
    /// shares a slot.
    ///
    /// # Errors
    /// See [`Error`], [`Error::Partial`] among them.
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        let parts = self.several(Several {
            command: "DEL",
            items: with_keys(keys),
            lane: None,
            repeat: Repeat::IfNotDone,
        });
        let parts = parts.await.into_iter();
        let counts = parts.map(|part| command::count("DEL", &part.result?));
        Ok(together(counts.collect())?.iter().sum())
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let reply = self
            .sized(keyed("EXISTS", key.as_ref()), Repeat::Always)
            .await?;
        Ok(command::number("EXISTS", &reply)? > 0)
    }

    /// How long a key has to live.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl, Error> {
        let reply = self
            .sized(keyed("PTTL", key.as_ref()), Repeat::Always)
            .await?;
        command::ttl(&reply)
    }

    /// Lets a key go away after `time`; returns whether it is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, time: Duration) -> Result<bool, Error> {
        let ms = command::positive_ms(time)?;
        let request = keyed("PEXPIRE", key.as_ref()).number(ms);
        let reply = self.sized(request, Repeat::Always).await?;
        Ok(command::number("PEXPIRE", &reply)? > 0)
    }

    /// Lets a key stay for ever; returns whether it was to go.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let reply = self
            .sized(keyed("PERSIST", key.as_ref()), Repeat::IfNotDone)
            .await?;
        Ok(command::number("PERSIST", &reply)? > 0)
    }

    /// The values of several keys, in their order, over a connection of its own. In
    /// a cluster keys are asked for by slot, and several slots at the same time: what
    /// shares none may be of different moments.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let items = with_keys(keys);
        let mut values = vec![None; items.len()];
        let parts = self.several(Several {
            command: "MGET",
            items,
            lane: Some(Lane::Own),
            repeat: Repeat::Always,
        });
        for part in parts.await {
            let found = command::values(part.result?, part.places.len())?;
            for (place, value) in part.places.into_iter().zip(found) {
                if let Some(slot) = values.get_mut(place) {
                    *slot = value;
                }
            }
        }
        Ok(values)
    }

    /// Stores several values for ever, all at once. In a cluster, all at once is what
    /// shares a slot.
    ///
    /// # Errors
    /// See [`Error`], [`Error::Partial`] among them.
    pub async fn set_many(
        &self,
        pairs: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Into<Bytes>)>,
    ) -> Result<(), Error> {
        let pairs = pairs.into_iter();
        let pair = |(key, value): (_, _)| vec![copied(key), Into::<Bytes>::into(value)];
        let parts = self.several(Several {
            command: "MSET",
            items: pairs.map(pair).collect(),
            lane: None,
            repeat: Repeat::Always,
        });
        let parts = parts.await.into_iter();
        together(parts.map(|part| part.result).collect())?;
        Ok(())
    }

    /// Appends to a value, or makes it; returns its length.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Result<u64, Error> {
        let request = keyed("APPEND", key.as_ref()).arg(value);
        command::count("APPEND", &self.sized(request, Repeat::IfNotDone).await?)
    }

    /// Adds to a number, or makes it; returns what it is now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn incr(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        let request = keyed("INCRBY", key.as_ref()).number(by);
        command::number("INCRBY", &self.sized(request, Repeat::IfNotDone).await?)
    }

    /// Any other command. Errors of the server are [`Error::Server`]. In a cluster it
    /// goes to whoever has its key; see [`Command::routed_by`].
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Usage`] for commands that change the connection,
    /// such as MULTI, SUBSCRIBE and SELECT.
    pub async fn command(&self, command: Command) -> Result<Reply, Error> {
        let lane = command.lane()?;
        let slot = command.key().map(|key| slot_of(key));
        self.call_at(slot, command.request, lane, command.repeat)
            .await
    }

    /// A request whose reply is small.
    async fn sized(&self, request: Request, repeat: Repeat) -> Result<Reply, Error> {
        let lane = Lane::of(request.bytes(), 0);
        self.call(request, lane, repeat).await
    }

    /// Asks whoever has the first key, again where that is safe and helps.
    pub(crate) async fn call(
        &self,
        request: Request,
        lane: Lane,
        repeat: Repeat,
    ) -> Result<Reply, Error> {
        let slot = request.arguments().get(1).map(|key| slot_of(key));
        self.call_at(slot, request, lane, repeat).await
    }

    async fn call_at(
        &self,
        slot: Option<u16>,
        request: Request,
        lane: Lane,
        repeat: Repeat,
    ) -> Result<Reply, Error> {
        let name = request.arguments().first().cloned().unwrap_or_default();
        let watch = Watch::begin(&self.inner.options, &name, request.bytes());
        let span = request_span(&name, lane);
        async {
            let mut route = Route::new(self, slot, repeat, watch);
            loop {
                let shared = match lane {
                    Lane::Shared => route.shared().await,
                    Lane::Own => None,
                };
                let result = match shared {
                    Some(member) => member.over_shared(&request).await,
                    None => over_own(&mut route, &request).await,
                };
                match result.and_then(checked) {
                    Ok(reply) => {
                        route.watch.replied(&reply);
                        return Ok(reply);
                    }
                    Err(error) => route.after(error).await?,
                }
            }
        }
        .instrument(span)
        .await
    }

    /// How long to wait before the next attempt, if there is to be one.
    pub(crate) fn pause(&self, error: &Error, repeat: Repeat, attempt: u32) -> Option<Duration> {
        let retries = self.inner.options.retries;
        retry::pause(error, repeat, attempt, retries, rand::random())
    }
}

async fn over_own(route: &mut Route<'_>, request: &Request) -> Result<Reply, Error> {
    let mut lease = route.lease().await?;
    let reply = lease.call(request.encode()).await?;
    lease.give_back();
    Ok(reply)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.inner.options).finish()
    }
}

/// Around all attempts of a request.
pub(crate) fn request_span(command: &[u8], lane: Lane) -> tracing::Span {
    tracing::debug_span!("request", command = %command.escape_ascii(), ?lane)
}

/// A command of one key, which is copied.
pub(crate) fn keyed(command: &'static str, key: &[u8]) -> Request {
    Request::new(command).arg(Bytes::copy_from_slice(key))
}

fn with_keys(keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Vec<Bytes>> {
    keys.into_iter().map(|key| vec![copied(key)]).collect()
}

fn copied(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}
