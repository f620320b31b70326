//! What requests take and must give back.

use std::sync::atomic::Ordering;

use super::Store;

impl Store {
    /// What somebody has still, by name: nothing, as soon as no request is under way.
    pub fn leftovers(&self) -> impl Iterator<Item = &'static str> {
        let is_even = {
            let index = self.index();
            self.behind.is_even(index.dirty_bytes_held())
        };
        let there = [
            ("admitted bytes", !self.memory.is_unused()),
            ("pins", self.index().has_pins()),
            (
                "bytes for queued values",
                self.early.load(Ordering::SeqCst) > 0,
            ),
            ("writes under way", !self.under_way.lock().is_empty()),
            (
                "turns to edit",
                self.edits.available_permits() < super::edit::EDITS_AT_ONCE,
            ),
            ("a closed gate", self.gate.is_closing()),
            ("room for values that no node has", !is_even),
        ];
        there
            .into_iter()
            .filter_map(|(what, is)| is.then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use scatterhoard_wire::{Epoch, Geometry, Layout, WriteId};

    use crate::{
        keyspace::{Condition, KeyRef, Keyspace, NewExpiry, Object},
        store::behind::Behind,
        value::Value,
    };

    /// Room that was taken is somebody's, or it is missed.
    #[tokio::test]
    async fn room_for_values_that_no_node_has_is_accounted_for() {
        let behind = Behind::new(10_000);
        let mut index = Keyspace::default();
        let layout = Layout::new(Geometry::new(1, 1).unwrap(), 3, 1024).unwrap();
        let write_id = |counter| WriteId {
            epoch: Epoch(1),
            counter,
        };
        let key = KeyRef { db: 0, key: b"key" };
        let taken = || async {
            let value = Value::from(Bytes::from_static(b"abc"));
            let ticket = behind.admit(value, Duration::ZERO).await;
            ticket.unwrap_or_else(|_| panic!("no room"))
        };
        assert!(behind.is_even(index.dirty_bytes_held()));
        // given back by one that is not redeemed
        drop(taken().await);
        for counter in 1..=3 {
            let ticket = taken().await;
            assert!(!behind.is_even(index.dirty_bytes_held()));
            let object = Arc::new(Object::unplaced(write_id(counter), layout));
            index.commit(key, object, Condition::Always, NewExpiry::Keep, 1);
            ticket.redeem(&mut index, key, write_id(counter));
            behind.released(index.take_released());
            assert!(behind.is_even(index.dirty_bytes_held()));
            assert!(index.dirty_bytes_held() > 0);
        }
        index.remove(key, 1);
        assert!(!behind.is_even(index.dirty_bytes_held()), "not given back");
        behind.released(index.take_released());
        assert!(behind.is_even(index.dirty_bytes_held()));
    }
}
