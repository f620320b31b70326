//! Looks whether most nodes fail at the same time, tells of it, and asks nodes whether
//! they still do (`outage` decides).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Pool,
    lifecycle::Event,
    outage::{Extent, News},
};

/// There before anything has happened: alarms go by it.
pub(super) fn register_metrics() {
    metrics::gauge!("scatterhoard_outage").set(0.0);
    metrics::gauge!("scatterhoard_nodes_failing").set(0.0);
}

impl Pool {
    /// How far an outage goes that there is at present, and for how long.
    pub fn outage(&self) -> Option<(Extent, Duration)> {
        self.outage.lock().extent(Instant::now())
    }

    /// Takes a look at all nodes.
    pub(super) fn oversee(self: &Arc<Self>) {
        let now = Instant::now();
        let active = self.nodes().filter_map(|node| node.trouble_if_active());
        let troubles: Vec<_> = active.collect();
        let failing = troubles.iter().flatten().count();
        let decision = self.outage.lock().look(troubles.into_iter(), now);
        #[allow(clippy::cast_precision_loss, reason = "metrics are doubles")]
        metrics::gauge!("scatterhoard_nodes_failing").set(failing as f64);
        if let Some(news) = decision.news {
            self.tell(news);
        }
        if decision.ask > 0 {
            self.ask_failing(decision.ask, now);
        }
    }

    /// Has some that fail dial, the longest not asked first.
    fn ask_failing(self: &Arc<Self>, count: usize, now: Instant) {
        let failing = self
            .active()
            .filter(|node| node.trouble().is_some() && node.would_invoke(now));
        let mut nodes: Vec<_> = failing.collect();
        nodes.sort_by_key(|node| node.last_contact());
        for node in nodes.into_iter().take(count) {
            self.drive(node, Event::Wanted);
        }
    }

    fn tell(&self, news: News) {
        let address = self.settings.link_address;
        match news {
            News::Began(extent) => {
                metrics::gauge!("scatterhoard_outage").set(1.0);
                let cause = extent.trouble.name();
                metrics::counter!("scatterhoard_outages_total", "cause" => cause).increment(1);
                let fix = extent.fix();
                tracing::error!(cause, link_advertise = %address, "outage: {extent}; to do: {fix}");
            }
            News::GoesOn(extent, after) => {
                let (cause, fix, after_s) = (extent.trouble.name(), extent.fix(), after.as_secs());
                tracing::error!(cause, link_advertise = %address, after_s, "outage: {extent}; to do: {fix}");
            }
            News::Ended(after) => {
                metrics::gauge!("scatterhoard_outage").set(0.0);
                tracing::info!(
                    after_s = after.as_secs(),
                    "the outage is over: most nodes answer again"
                );
            }
        }
    }
}
