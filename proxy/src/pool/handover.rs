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
    node::{Node, Second},
    retire::Goes,
    rounds::Round,
};

impl Pool {
    /// Who should go at the end of this round, after which each instance has what
    /// the other one has.
    pub fn retirement(&self, round: &Round) -> Option<Goes> {
        round.second.as_ref()?;
        self.retirements.lock().is_whole(round.node.id);
        let ages = round.node.ages()?;
        let wearing = self.warmth.lock().wearing_age();
        let retirements = self.retirements.lock();
        retirements.choose(round.node.id, ages, wearing, Instant::now())
    }

    /// The two instances of a round change places, and the one that served takes
    /// nothing more.
    pub async fn swap(&self, round: &mut Round, patience: Duration) -> Result<(), NodeError> {
        let second = round.second.as_ref().ok_or(NodeError::Interrupted)?;
        // behind the deletes that nobody waited for: confirmations are counted
        // for the one that serves
        self.is_there(&second.link, patience).await?;
        let swapped = round.node.swap(&round.main, self.floor());
        let (main, second) = swapped.ok_or(NodeError::Interrupted)?;
        second.link.send(&Message::Seal);
        (round.main, round.second) = (main, Some(second));
        Ok(())
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
