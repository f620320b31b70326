//! Labels of chunks: told to instances that are awake, and listed.

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::{
    LabelId, WriteId,
    limits::DELETE_BATCH,
    message::{Label, Message},
};
use tokio::time::Instant;

use super::{
    NodeError, Pool,
    link::{Answer, Link},
    node::Node,
};

impl Node {
    /// Has a label given to the instance that serves, if it is awake; if not, the
    /// next round does it.
    pub fn give_label(&self, label: &Message) {
        let link = self.open_link();
        if !link.is_some_and(|link| link.post(label)) {
            self.owe_labels();
        }
    }
}

impl Pool {
    /// Begins a round of this node, whether or not it is due; false if that cannot
    /// be at the moment. If it has begun, it must be given to [`Self::open_round`].
    pub fn begin_round(&self, node: &Node) -> bool {
        node.urge_round();
        node.begin_round(Instant::now())
    }

    /// Has an instance drop the labels of these objects.
    pub fn unlabel_on(&self, link: &Link, objects: &[WriteId]) {
        for batch in objects.chunks(DELETE_BATCH) {
            link.send(&Message::Unlabel(batch.to_vec()));
        }
    }

    /// Gives `take` all labels of the instance at the other end of a link.
    pub async fn list_labels_on(
        &self,
        link: &Arc<Link>,
        patience: Duration,
        mut take: impl FnMut(Vec<Label>),
    ) -> Result<(), NodeError> {
        let mut after: Option<LabelId> = None;
        loop {
            let deadline = Instant::now() + patience;
            let answer = self.ask(link, Message::ListLabels(after), deadline).await?;
            let Answer::Labels { labels, more } = answer else {
                return Err(NodeError::Interrupted);
            };
            let last = labels.last().map(|label| label.id);
            take(labels);
            // one that does not get on is not asked for ever
            if !more || last.is_none() || last <= after {
                return Ok(());
            }
            after = last;
        }
    }

    /// For each object of which it has labels the sum of their checksums.
    pub async fn label_sums_on(
        &self,
        link: &Arc<Link>,
        patience: Duration,
    ) -> Result<Vec<(WriteId, u32)>, NodeError> {
        let mut all: Vec<(WriteId, u32)> = Vec::new();
        loop {
            let after = all.last().map(|(id, _)| *id);
            let deadline = Instant::now() + patience;
            let answer = self.ask(link, Message::SumLabels(after), deadline).await?;
            let Answer::LabelSums { sums, more } = answer else {
                return Err(NodeError::Interrupted);
            };
            let last = sums.last().map(|(id, _)| *id);
            all.extend(sums);
            if !more || last.is_none() || last <= after {
                return Ok(all);
            }
        }
    }
}
