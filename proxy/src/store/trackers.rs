//! Clients that track keys: the index keeps what changes only while there are any.

use std::sync::Arc;

use super::Store;
use crate::{
    pubsub::Mailbox,
    tracking::{Redirect, Wish},
};

/// A client that is told when keys change, until dropped.
pub struct TrackingEntry {
    store: Arc<Store>,
    id: u64,
    is_replaced: bool,
}

impl TrackingEntry {
    /// Another one of the same client counts.
    pub fn replaced(mut self) {
        self.is_replaced = true;
    }

    /// Whether the connection that is told instead was gone.
    pub fn is_broken(&self) -> bool {
        self.store.tracking.is_broken(self.id)
    }
}

impl Drop for TrackingEntry {
    fn drop(&mut self) {
        if self.is_replaced {
            return;
        }
        let mut index = self.store.index();
        self.store.tracking.leave(self.id);
        index.keep_changed(self.store.tracking.any());
    }
}

impl Store {
    /// A client wants to be told when keys change, from now on.
    pub fn track(
        self: &Arc<Self>,
        id: u64,
        wish: Wish,
        mailbox: Arc<Mailbox>,
        redirect: Option<Redirect>,
    ) -> TrackingEntry {
        let mut index = self.index();
        self.tracking.enter(id, wish, mailbox, redirect);
        index.keep_changed(true);
        TrackingEntry {
            store: self.clone(),
            id,
            is_replaced: false,
        }
    }
}
