//! The end of a round in which an instance goes: what only that one has is brought
//! to the other one, or it stays for now.

use scatterhoard_node::random::{HashMap, HashSet};
use scatterhoard_wire::{ChunkDescriptor, ChunkId, WriteId};

use tokio::time::Instant;

use super::{Store, standby::ids};
use crate::{
    keyspace::Expected,
    pool::{
        node::Succession,
        retire::{Goes, Obstacle, Unsettled},
        rounds::{CopyError, Round},
    },
};

/// How the end of a round came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    /// Nobody goes.
    None,
    /// The second instance has nothing that the one that serves lacks: it goes.
    Done,
    /// The two may have changed places, but the one that served has something yet.
    BrokenOff,
}

/// What to do with a chunk that only the old instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is to be copied; where it fits no more it is repaired elsewhere, if a key
    /// names it.
    Bring(Option<Expected>),
    /// It goes with its instance.
    Leave,
}

/// What the index says of chunks on a node.
struct Wanted {
    expected: HashMap<ChunkId, Expected>,
    named: HashSet<WriteId>,
}

impl Wanted {
    fn new(expected: Vec<Expected>) -> Self {
        Self {
            named: expected.iter().map(|e| e.chunk.id.write_id).collect(),
            expected: expected.into_iter().map(|e| (e.chunk.id, e)).collect(),
        }
    }

    /// `is_stray`: no key names it, or it should be on other nodes, and nobody uses
    /// it. Of what is named here, the chunks with other indices were moved away: a
    /// node gets a second chunk of an object only when it has lost the first.
    fn verdict(&self, id: ChunkId, is_stray: bool) -> Verdict {
        match self.expected.get(&id) {
            Some(expected) => Verdict::Bring(Some(*expected)),
            None if is_stray || self.named.contains(&id.write_id) => Verdict::Leave,
            None => Verdict::Bring(None),
        }
    }
}

impl Store {
    /// Lets the second instance go for good, if it should and may: of the two the one
    /// whose time it is. Where that cannot be done it stays until later.
    pub(super) async fn hand_over(&self, round: &mut Round, unsettled: Unsettled) -> HandOver {
        let Some(goes) = self.pool.retirement(round, unsettled.is_merged()) else {
            return HandOver::None;
        };
        if let Some(obstacle) = unsettled.obstacle(goes) {
            self.pool.gives_up(round, unsettled.is_merged(), obstacle);
            return HandOver::None;
        }
        let result = match goes {
            // what it was given may have died since
            Goes::Second => {
                let patience = self.settings.patience;
                let answers = self.pool.is_there(&round.main, patience).await;
                answers.map_err(Obstacle::from)
            }
            Goes::Main => self.change_places(round).await,
        };
        match result {
            Ok(()) => HandOver::Done,
            Err(obstacle) => {
                let is_whole = goes == Goes::Second;
                self.pool.gives_up(round, is_whole, obstacle);
                HandOver::BrokenOff
            }
        }
    }

    async fn change_places(&self, round: &mut Round) -> Result<(), Obstacle> {
        let patience = self.settings.patience;
        let room = self.pool.swap(round, patience).await?;
        self.drain_second(round, &room).await
    }

    /// Copies all that only the second instance has and that may be needed: also what
    /// no key names yet. `room` was set aside for that.
    async fn drain_second(&self, round: &Round, room: &Succession) -> Result<(), Obstacle> {
        let patience = self.settings.patience;
        let second = round.second.as_ref().ok_or(Obstacle::Interrupted)?;
        let began = self.newest_write_id();
        // sealed: nothing is added to it any more
        let on_second = self.pool.list_on(&second.link, patience).await?;
        let on_main = self.pool.list_on(&round.main, patience).await?;
        let there = ids(&on_main);
        let only_there: Vec<ChunkDescriptor> = on_second
            .into_iter()
            .filter(|c| !there.contains(&c.id))
            .collect();
        if only_there.is_empty() {
            return Ok(());
        }
        let wanted = Wanted::new(self.expected_on(round.node.id).await);
        let suspects = |chunks: &[ChunkDescriptor]| {
            let ids = chunks.iter().map(|c| c.id.write_id);
            let suspects = ids.filter(|id| *id <= began && !wanted.named.contains(id));
            suspects.collect::<HashSet<WriteId>>()
        };
        let strays = self.strays_among(round, suspects(&only_there)).await;
        let judged = only_there.iter().map(|chunk| {
            let is_stray = strays.contains(&chunk.id.write_id);
            (chunk, wanted.verdict(chunk.id, is_stray))
        });
        let bring = judged.filter_map(|(chunk, verdict)| match verdict {
            Verdict::Bring(expected) => Some((chunk, expected)),
            Verdict::Leave => None,
        });
        let bring: Vec<_> = bring.collect();
        let bytes = bring.iter().map(|(c, _)| c.layout.accounted_bytes());
        // before room is made for it, which others would take
        room.owe(bytes.sum());
        // what was deleted since the round began was told to the other one alone, and
        // takes the room of what came instead
        self.discard_from(round, suspects(&on_main)).await?;
        let mut left_out = 0;
        for (chunk, expected) in bring {
            if expected.is_some_and(|e| self.is_gone(&e)) {
                // evicted meanwhile: others get the room
                drop(room.part(chunk.layout.accounted_bytes()));
                continue;
            }
            match self.bring(round, room, chunk).await {
                Ok(()) => {}
                Err(CopyError::Interrupted) => return Err(Obstacle::Interrupted),
                Err(error) => {
                    // one that is not sound is no loss
                    left_out += usize::from(matches!(error, CopyError::Full));
                    let mut lost: Vec<Expected> = expected.into_iter().collect();
                    lost.retain(|e| self.drop_half(round, &round.main, e));
                    self.note_lost(round, &lost).await;
                }
            }
        }
        match left_out {
            0 => Ok(()),
            _ => Err(Obstacle::NoRoom),
        }
    }

    /// Whether no key names it any more, and nobody reads it.
    fn is_gone(&self, expected: &Expected) -> bool {
        let index = self.index();
        index.key_of(expected).is_none() && !index.is_held(expected.chunk.id.write_id)
    }

    /// Copies a chunk from the second instance to the one that serves. That waits for
    /// no others, which wait for it instead: until all is there, reads do without it,
    /// and writes without the room.
    async fn bring(
        &self,
        round: &Round,
        room: &Succession,
        chunk: &ChunkDescriptor,
    ) -> Result<(), CopyError> {
        let second = round.second.as_ref().ok_or(CopyError::Interrupted)?;
        let bytes = chunk.layout.accounted_bytes();
        let _ = self.backup_rate.begin(bytes, Instant::now());
        let _room = room
            .part(bytes)
            .or_else(|| round.node.reserve_own(bytes))
            .ok_or(CopyError::Full)?;
        let patience = self.settings.patience;
        self.pool
            .copy_chunk(&second.link, &round.main, chunk, patience)
            .await
    }
}
