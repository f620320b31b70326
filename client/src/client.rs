//! The handle that programs have.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    Command, Error, Options, Set, SetOptions, Ttl,
    command::{self, Lane, checked},
    connection::{
        pool::Pool,
        shared::{self, Call},
    },
    fill::Flights,
    protocol::{Reply, Request},
    retry::{self, Repeat},
};

/// A client of one server. Cheap to clone; all clones use the same connections:
/// one that small requests share, and [`Options::connections`] for large values.
///
/// A future that is dropped gives its request up: what it had sent may still be
/// carried out, its reply is thrown away, and no other request is disturbed.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Arc<Options>,
    shared: mpsc::Sender<Call>,
    pub(crate) pool: Arc<Pool>,
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
        let (shared, calls) = mpsc::channel(shared::QUEUE);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(shared::run(Arc::clone(&options), calls, stop.clone()));
        Self {
            inner: Arc::new(Inner {
                pool: Arc::new(Pool::new(Arc::clone(&options))),
                options,
                shared,
                flights: Flights::default(),
                tasks,
                stop,
            }),
        }
    }

    /// Takes no more requests and waits for those under way, streams included,
    /// but no longer than `limit`. Returns whether all were done.
    pub async fn close(&self, limit: Duration) -> bool {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let (is_shared_done, is_pool_done) = futures_util::join!(
            timeout(limit, self.inner.tasks.wait()),
            self.inner.pool.close(limit)
        );
        is_shared_done.is_ok() && is_pool_done
    }

    /// Asks the server whether it is there.
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

    /// Deletes keys; returns how many were there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, Error> {
        let request = with_keys("DEL", keys);
        if request.arguments().len() == 1 {
            return Ok(0);
        }
        command::count("DEL", &self.sized(request, Repeat::IfNotDone).await?)
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

    /// The values of several keys, in their order, over a connection of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let request = with_keys("MGET", keys);
        let wanted = request.arguments().len() - 1;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let reply = self.call(request, Lane::Own, Repeat::Always).await?;
        command::values(reply, wanted)
    }

    /// Stores several values for ever, all at once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_many(
        &self,
        pairs: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Into<Bytes>)>,
    ) -> Result<(), Error> {
        let mut request = Request::new("MSET");
        for (key, value) in pairs {
            request = request.arg(Bytes::copy_from_slice(key.as_ref())).arg(value);
        }
        if request.arguments().len() > 1 {
            self.sized(request, Repeat::Always).await?;
        }
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

    /// Any other command. Errors of the server are [`Error::Server`].
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Usage`] for commands that change the connection,
    /// such as MULTI, SUBSCRIBE and SELECT.
    pub async fn command(&self, command: Command) -> Result<Reply, Error> {
        let lane = command.lane()?;
        self.call(command.request, lane, command.repeat).await
    }

    /// A request whose reply is small.
    async fn sized(&self, request: Request, repeat: Repeat) -> Result<Reply, Error> {
        let lane = Lane::of(request.bytes(), 0);
        self.call(request, lane, repeat).await
    }

    /// Asks, again where that is safe and helps.
    pub(crate) async fn call(
        &self,
        request: Request,
        lane: Lane,
        repeat: Repeat,
    ) -> Result<Reply, Error> {
        let name = request.arguments().first().cloned().unwrap_or_default();
        let span = tracing::debug_span!("request", command = %name.escape_ascii(), ?lane);
        async {
            let mut attempt = 0;
            loop {
                let result = match lane {
                    Lane::Shared => self.over_shared(&request).await,
                    Lane::Own => self.over_own(&request).await,
                };
                let error = match result.and_then(checked) {
                    Ok(reply) => return Ok(reply),
                    Err(error) => error,
                };
                let Some(pause) = self.pause(&error, repeat, attempt) else {
                    return Err(error);
                };
                tracing::debug!(%error, attempt, "asking again");
                tokio::time::sleep(pause).await;
                attempt += 1;
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

    async fn over_shared(&self, request: &Request) -> Result<Reply, Error> {
        if self.inner.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        let limit = self.inner.options.request_timeout;
        let (answer, reply) = oneshot::channel();
        let request = request.encode();
        let mut is_queued = false;
        let asked = async {
            let call = Call { request, answer };
            let queued = self.inner.shared.send(call).await;
            queued.map_err(|_| Error::Closed)?;
            is_queued = true;
            reply.await.unwrap_or_else(|_| Err(Error::ended(true)))
        };
        let result = timeout(limit, asked).await;
        result.unwrap_or(Err(Error::Deadline {
            what: "reply",
            limit,
            sent: is_queued,
        }))
    }

    async fn over_own(&self, request: &Request) -> Result<Reply, Error> {
        let mut lease = self.inner.pool.take().await?;
        let reply = lease.call(request.encode()).await?;
        lease.give_back();
        Ok(reply)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.inner.options).finish()
    }
}

/// A command of one key, which is copied.
pub(crate) fn keyed(command: &'static str, key: &[u8]) -> Request {
    Request::new(command).arg(Bytes::copy_from_slice(key))
}

fn with_keys(command: &'static str, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Request {
    keys.into_iter()
        .fold(Request::new(command), |request, key| {
            request.arg(Bytes::copy_from_slice(key.as_ref()))
        })
}
