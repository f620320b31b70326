//! Connections that one request has for itself: for large values, and streams.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    member::Place,
    send,
    socket::{Connection, connect},
};
use crate::{
    Error, Options,
    command::checked,
    protocol::{Encoded, Reply, Request},
};

/// Idle connections, and how many more there may be.
pub(crate) struct Pool {
    place: Arc<Place>,
    free: Arc<Semaphore>,
    /// The one used last is at the end.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// A connection of one's own. Dropped, it is ended, unless it was given back.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    pub(crate) options: Arc<Options>,
    /// Requests are for a slot that is on its way to this server.
    pub(crate) is_asking: bool,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
    loss: Loss,
}

/// Dropped, a connection is lost.
struct Loss(Option<Arc<Place>>);

impl Drop for Loss {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            place.lost_one();
        }
    }
}

impl Pool {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(place.options.connections)),
            idle: Mutex::default(),
            place,
        }
    }

    /// A connection, as soon as there may be one.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Lease, Error> {
        let limit = self.place.options.request_timeout;
        let permit = match timeout(limit, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Error::Closed),
            Err(_) => {
                let what = "free connection";
                let sent = false;
                return Err(Error::Deadline { what, limit, sent });
            }
        };
        let connection = match self.idle(Instant::now()) {
            Some(connection) => connection,
            None => connect(&self.place).await?,
        };
        Ok(Lease {
            connection,
            options: Arc::clone(&self.place.options),
            is_asking: false,
            pool: Arc::clone(self),
            permit,
            loss: Loss(Some(Arc::clone(&self.place))),
        })
    }

    /// Gives no connection from now on.
    pub(crate) fn refuse(&self) {
        self.free.close();
    }

    fn idle(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let limit = self.place.options.idle_timeout;
        idle.retain(|(since, _)| now.duration_since(*since) < limit);
        while let Some((_, mut connection)) = idle.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
            self.place.lost_one();
        }
        None
    }

    /// Waits until nobody has a connection, within `limit`, and ends all.
    /// Returns whether all were given back.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        let connections = self.place.options.connections;
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let is_done = match timeout(limit, self.free.acquire_many(all)).await {
            Ok(Ok(_)) => true,
            // closed before
            Ok(Err(_)) => self.free.available_permits() >= connections,
            Err(_) => false,
        };
        self.free.close();
        self.idle.lock().clear();
        is_done
    }
}

impl Lease {
    /// Sends a request and reads its reply.
    pub(crate) async fn call(&mut self, request: Encoded) -> Result<Reply, Error> {
        self.prepare().await?;
        self.exchange(request).await
    }

    /// Before each request to a server to which a slot is on its way: ASKING, or it
    /// would answer with MOVED.
    pub(crate) async fn prepare(&mut self) -> Result<(), Error> {
        if self.is_asking {
            let reply = self.exchange(Request::new("ASKING").encode()).await;
            // nothing that matters was carried out
            checked(reply.map_err(|error| error.before())?)?;
        }
        Ok(())
    }

    async fn exchange(&mut self, request: Encoded) -> Result<Reply, Error> {
        self.send(request).await?;
        let options = &self.options;
        let reply = self
            .connection
            .reply(options.request_timeout, options.value_limit_bytes);
        reply.await.map_err(|failure| failure.into_error(true))
    }

    /// Sends two requests at once and reads their replies.
    pub(crate) async fn call_both(&mut self, requests: [Request; 2]) -> Result<[Reply; 2], Error> {
        let [first, second] = requests.map(|request| request.encode());
        if self.is_asking {
            return Ok([self.call(first).await?, self.call(second).await?]);
        }
        let (first, second) = (first.segments, second.segments);
        let segments = [first, second].concat();
        let first = self.call(Encoded { segments }).await?;
        let options = &self.options;
        let second = self
            .connection
            .reply(options.request_timeout, options.value_limit_bytes);
        let second = second.await.map_err(|failure| failure.into_error(true))?;
        Ok([first, second])
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: Encoded) -> Result<(), Error> {
        let mut segments = VecDeque::from(request.segments);
        let stall = self.options.request_timeout;
        let sending = send(&mut self.connection.io, &mut segments, stall);
        sending.await.map_err(|failure| failure.into_error(true))
    }

    /// For the next one. Only when all replies have been read.
    pub(crate) fn give_back(self) {
        let Self {
            connection,
            pool,
            permit,
            mut loss,
            ..
        } = self;
        loss.0 = None;
        if connection.parser.is_between() && !pool.free.is_closed() {
            pool.idle.lock().push((Instant::now(), connection));
        }
        drop(permit);
    }
}
