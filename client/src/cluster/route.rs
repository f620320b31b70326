//! One request's way: to whoever has its slot, after redirects, and again where
//! that is safe and helps.

use std::sync::Arc;

use tokio::time::sleep;

use crate::{
    Client, Error, ErrorCode,
    connection::{member::Member, pool::Lease},
    metrics::{Outcome, Watch},
    retry::{self, Repeat},
};

/// Redirects of one request; then they are an error.
const REDIRECTS: u32 = 5;

/// Who is asked, and how often it has been tried.
pub(crate) struct Route<'c> {
    client: &'c Client,
    slot: Option<u16>,
    repeat: Repeat,
    attempt: u32,
    redirects: u32,
    member: Arc<Member>,
    /// It is asked for a slot that is on its way there.
    is_asking: bool,
    pub(crate) watch: Watch,
}

impl<'c> Route<'c> {
    /// To whoever has `slot`; without one, to the server that the client was made for.
    pub(crate) fn new(client: &'c Client, slot: Option<u16>, repeat: Repeat, watch: Watch) -> Self {
        Self {
            watch,
            member: client.inner.cluster.owner(slot),
            client,
            slot,
            repeat,
            attempt: 0,
            redirects: 0,
            is_asking: false,
        }
    }

    /// Who is asked, if a shared connection will do.
    pub(crate) async fn shared(&mut self) -> Option<&Member> {
        self.find().await;
        if self.is_asking {
            return None;
        }
        self.watch.attempt();
        Some(&self.member)
    }

    /// A connection of its own to who is asked.
    pub(crate) async fn lease(&mut self) -> Result<Lease, Error> {
        let has_asked = self.find().await;
        let mut lease = self.member.pool.take().await?;
        if !has_asked && self.lacks_map() {
            // this connection has just told that there is a cluster
            lease.give_back();
            self.find().await;
            lease = self.member.pool.take().await?;
        }
        self.watch.attempt();
        lease.is_asking = self.is_asking;
        Ok(lease)
    }

    fn lacks_map(&self) -> bool {
        self.slot.is_some() && self.redirects == 0 && self.client.inner.cluster.lacks_map()
    }

    /// Has the map brought if it is known to be needed; whether it was.
    async fn find(&mut self) -> bool {
        let is_needed = self.lacks_map();
        if is_needed {
            self.client.refresh().await;
            self.member = self.client.inner.cluster.owner(self.slot);
        }
        is_needed
    }

    /// Prepares the next attempt, after the pause that is due; or the error, if
    /// there is to be none.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        let result = self.next(error).await;
        if let Err(error) = &result {
            self.watch.end(Outcome::Failed(error));
        }
        result
    }

    async fn next(&mut self, error: Error) -> Result<(), Error> {
        if self.redirects < REDIRECTS && self.follow(&error) {
            self.redirects += 1;
            tracing::debug!(%error, "redirected");
            self.watch.redirect(&error);
            if self.redirects > 2 {
                // they do not agree with each other: give them time
                sleep(retry::backoff(self.redirects - 3, rand::random())).await;
            }
            return Ok(());
        }
        let Some(pause) = self.client.pause(&error, self.repeat, self.attempt) else {
            return Err(error);
        };
        tracing::debug!(%error, attempt = self.attempt, "asking again");
        self.watch.retry(&error);
        self.attempt += 1;
        sleep(pause).await;
        if self.client.inner.cluster.is_cluster() && is_of_member(&error) {
            // somebody else may have its slots by now
            self.client.refresh().await;
        }
        self.is_asking = false;
        self.member = self.client.inner.cluster.owner(self.slot);
        Ok(())
    }

    /// Whether the error says who is to be asked.
    fn follow(&mut self, error: &Error) -> bool {
        let cluster = &self.client.inner.cluster;
        let asked = &self.member.place.address.host;
        let (member, is_asking) = match error.code() {
            Some(ErrorCode::Moved { slot, address }) => {
                let member = cluster.moved(*slot, address, asked);
                self.client.refresh_behind();
                (member, false)
            }
            Some(ErrorCode::Ask { address, .. }) => (cluster.member_at(address, asked), true),
            _ => return false,
        };
        let Some(member) = member else { return false };
        (self.member, self.is_asking) = (member, is_asking);
        true
    }

    /// The same for a request that cannot be made again: what it has told is kept
    /// for the next one.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.follow(error);
        self.watch.end(Outcome::Failed(error));
    }
}

/// Whether another member may do better.
fn is_of_member(error: &Error) -> bool {
    match error {
        Error::Connect { .. } | Error::Broken { .. } => true,
        _ => matches!(error.code(), Some(ErrorCode::ClusterDown)),
    }
}
