//! One server: the connection that small requests share there, and those that
//! large values have for themselves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    pool::Pool,
    shared::{self, Call},
};
use crate::{
    Error, Options,
    cluster::Address,
    protocol::{Reply, Request},
};

/// Where connections go, and what they tell.
pub(crate) struct Place {
    pub(crate) options: Arc<Options>,
    pub(crate) address: Address,
    /// Set when a server says that it belongs to a cluster.
    is_cluster: Arc<AtomicBool>,
    /// Connections that ended too early, and have not been replaced.
    lost: AtomicU64,
}

impl Place {
    /// A connection ended that was to stay.
    pub(crate) fn lost_one(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the next connection stands in for one that was lost.
    pub(crate) fn replaces_one(&self) -> bool {
        let less = |lost: u64| lost.checked_sub(1);
        let order = Ordering::Relaxed;
        self.lost.fetch_update(order, order, less).is_ok()
    }

    pub(crate) fn is_of_cluster(&self) {
        self.is_cluster.store(true, Ordering::Relaxed);
    }
}

/// What all members of a client have in common.
pub(crate) struct Common {
    pub(crate) options: Arc<Options>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Some server has said that it belongs to a cluster.
    pub(crate) is_cluster: Arc<AtomicBool>,
}

/// A server that is asked.
pub(crate) struct Member {
    pub(crate) place: Arc<Place>,
    shared: mpsc::Sender<Call>,
    pub(crate) pool: Arc<Pool>,
    stop: CancellationToken,
}

impl Member {
    pub(crate) fn new(common: &Common, address: Address) -> Self {
        let place = Arc::new(Place {
            options: Arc::clone(&common.options),
            address,
            is_cluster: Arc::clone(&common.is_cluster),
            lost: AtomicU64::new(0),
        });
        let (shared, calls) = mpsc::channel(shared::QUEUE);
        let stop = common.stop.clone();
        let run = shared::run(Arc::clone(&place), calls, stop.clone());
        common.tasks.spawn(run);
        let pool = Pool::new(Arc::clone(&place));
        if stop.is_cancelled() {
            // nobody would close it any more
            pool.refuse();
        }
        Self {
            pool: Arc::new(pool),
            place,
            shared,
            stop,
        }
    }

    /// Asks over the connection that small requests share.
    pub(crate) async fn over_shared(&self, request: &Request) -> Result<Reply, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        let limit = self.place.options.request_timeout;
        let (answer, reply) = oneshot::channel();
        let request = request.encode();
        let mut is_queued = false;
        let asked = async {
            let call = Call { request, answer };
            let queued = self.shared.send(call).await;
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
}
