//! Planned hand-over, acted out at the end of a round: the old instance of a node
//! ends its process when the other one is known to hold all that it holds.
//!
//! The old one mostly serves. So the two change places first, links open: new
//! requests go to the other one. The old one is sealed, which its link puts in
//! order with what it still acknowledges: what it lists then is all that it will
//! ever have acknowledged, and is copied.

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::message::Message;
use tokio::time::Instant;

use super::{
    NodeError, Pool,
    link::{Answer, Link},
    node::{Node, Second, Succession, Swapped},
    retire::{Goes, Obstacle},
    rounds::Round,
};

impl From<NodeError> for Obstacle {
    /// The round that follows goes on.
    fn from(_: NodeError) -> Self {
        Self::Interrupted
    }
}

impl Pool {
    /// Who should go at the end of this round: that begins, until the instance is told
    /// to go, or it is given up. `is_merged`: the instance that serves
    /// has all that the other one has.
    pub fn retirement(&self, round: &Round, is_merged: bool) -> Option<Goes> {
        round.second.as_ref()?;
        if is_merged {
            self.retirements.lock().is_whole(round.node.id);
        }
        let ages = round.node.ages()?;
        let wearing = self.warmth.lock().wearing_age();
        let mut retirements = self.retirements.lock();
        let (node, now) = (round.node.id, Instant::now());
        let goes = retirements.choose(node, ages, wearing, now)?;
        retirements.begins(node, now);
        Some(goes)
    }

    /// Has a round made of a node whose hand-over has waited for those of others, if it
    /// need not wait any more.
    pub(super) fn resume_retirements(&self) {
        let turn = self.retirements.lock().whose_turn(Instant::now());
        if let Some(node) = turn.and_then(|id| self.seats.get(id)) {
            self.have_round(node);
        }
    }

    /// Nobody goes at the end of this round, though it is time. `is_whole`: the one that
    /// serves lacks nothing that the other one has.
    pub fn gives_up(&self, round: &Round, is_whole: bool, why: Obstacle) {
        self.retirements
            .lock()
            .gives_up(round.node.id, is_whole, Instant::now());
        metrics::counter!("scatterhoard_handovers_given_up_total", "why" => why.name())
            .increment(1);
        tracing::info!(node = %round.node.id, %why, "hand-over given up until later");
    }

    /// The two instances of a round change places, and the one that served takes
    /// nothing more. What is returned is set aside for what only that one has.
    pub async fn swap(
        &self,
        round: &mut Round,
        patience: Duration,
    ) -> Result<Succession, NodeError> {
        let second = round.second.as_ref().ok_or(NodeError::Interrupted)?;
        // behind the deletes that nobody waited for: confirmations are counted
        // for the one that serves
        self.is_there(&second.link, patience).await?;
        let swapped = round.node.swap(&round.main, self.floor());
        let Swapped { main, second, room } = swapped.ok_or(NodeError::Interrupted)?;
        second.link.send(&Message::Seal);
        (round.main, round.second) = (main, Some(second));
        Ok(room)
    }

    /// Whether the instance at the other end of a link lives and answers.
    pub async fn is_there(&self, link: &Arc<Link>, patience: Duration) -> Result<(), NodeError> {
        let deadline = Instant::now() + patience;
        match self.ask(link, Message::Ping, deadline).await? {
            Answer::Pong => Ok(()),
            _ => Err(NodeError::Interrupted),
        }
    }

    /// The second instance of a round is told to go.
    pub(super) fn retire(&self, node: &Arc<Node>, second: &Second) {
        node.retires(second.instance, second.link.invocation());
        self.retirements.lock().goes(node.id, Instant::now());
        second.link.send(&Message::Retire);
    }
}
