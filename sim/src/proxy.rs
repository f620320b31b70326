//! One life of a proxy: the production parts, from its start to its death.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use scatterhoard_proxy::{
    apply::Context,
    assembly,
    clients::{Arrival, Client},
    config::Config,
    elastic::Elastic,
    epoch,
    journal::{Journal, memory::MemoryDisk},
    pool::{Links, platform},
    pubsub::{Limits, Mailbox},
    store::Store,
};
use scatterhoard_wire::Epoch;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::platform::{Death, Platform};

const SURVEY_LIMIT: Duration = Duration::from_secs(5);
const INVOKES: usize = 1_024;
const LINKS: usize = 64;

/// A running proxy.
pub struct Proxy {
    /// What sessions would share.
    pub context: Arc<Context>,
    /// Adds nodes and drains them.
    pub elastic: Elastic,
    /// Cancelled when it is dead.
    pub dead: CancellationToken,
    port: u16,
    stop: CancellationToken,
    drain: CancellationToken,
    keeper: assembly::Keeper,
}

impl Proxy {
    /// Starts one at this port, which none had before; `None` if no node answers.
    pub async fn start(
        config: &Config,
        platform: &Rc<Platform>,
        disk: Option<&MemoryDisk>,
        last_epoch: &mut Epoch,
        port: u16,
    ) -> anyhow::Result<Option<Self>> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (invokes, invoked) = mpsc::channel(INVOKES);
        let (door, links) = mpsc::channel(LINKS);
        platform.attach(port, door, invoked);
        let journal = disk.map(|disk| Journal::open_in_memory(disk, config.appendfsync));
        // what it says is read when it is known that somebody is there
        let journal = match journal.transpose() {
            Ok(journal) => journal.map(Arc::new),
            Err(error) => {
                platform.detach(port, Death::Heard);
                return Err(error.into());
            }
        };
        let invoked = platform::Platform::local(invokes);
        let pool = assembly::pool(config, invoked, address, None, journal.as_deref())?;
        let survey = pool.survey(SURVEY_LIMIT).await;
        if survey.answered == 0 {
            platform.detach(port, Death::Heard);
            return Ok(None);
        }
        // the file beside the journal goes with it
        let stored = disk.map_or(Epoch(0), |_| *last_epoch);
        let epoch = epoch::above(stored, survey.highest_epoch);
        *last_epoch = epoch.max(*last_epoch);
        let (store, chores) = assembly::store(config, &pool, epoch, journal, None)?;
        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, links) = (TaskTracker::new(), Links::Local(links));
        let keeper = assembly::start(&store, chores, links, &tasks, &stop, &drain);
        let elastic = Elastic::new(store.clone(), Box::new(|_| Ok(())));
        let context = Context::new(store, config.clone());
        Ok(Some(Self {
            context: Arc::new(context),
            elastic,
            dead: CancellationToken::new(),
            port,
            stop,
            drain,
            keeper,
        }))
    }

    /// A connection.
    pub fn client(&self) -> Client {
        let context = &self.context;
        let mailbox = Arc::new(Mailbox::new(Limits::default(), CancellationToken::new()));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let user = context.config.acl.anybody();
        let arrival = Arrival {
            peer,
            local: peer,
            descriptor: -1,
            end: CancellationToken::new(),
        };
        Client::new(context.clients.enter(arrival), user, &context.hub, &mailbox)
    }

    /// The store inside.
    pub fn store(&self) -> &Arc<Store> {
        &self.context.store
    }

    /// It dies in this moment: whatever is left of it reaches neither network nor
    /// disk any more, and ends on its own.
    pub fn kill(&self, platform: &Platform, disk: Option<&MemoryDisk>, machine: bool) {
        match disk {
            Some(disk) if machine => disk.lose_unsynced(),
            Some(disk) => disk.sever(),
            None => {}
        }
        platform.detach(
            self.port,
            if machine { Death::Silent } else { Death::Heard },
        );
        self.dead.cancel();
        self.stop.cancel();
        self.drain.cancel();
        self.keeper.stop();
    }

    /// Ends what a dead one left in this process.
    pub async fn bury(&self) {
        self.store().pool().shutdown(Duration::ZERO).await;
    }
}
