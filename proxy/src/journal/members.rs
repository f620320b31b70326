//! Which nodes belong to the pool: rows beside those of the index, in the same log. So
//! what the disk has of one is never behind what it has of the other: a node that has
//! gone is named by no key that is read with it.

use scatterhoard_wire::NodeId;

use super::{
    Journal, JournalError, Why,
    tables::{Op, Table},
};
use crate::pool::membership::State;

const VERSION: u8 = 1;

fn encode(node: NodeId, state: State) -> (Vec<u8>, Vec<u8>) {
    (node.0.to_be_bytes().to_vec(), vec![VERSION, state.code()])
}

/// What [`encode`] made; none for something else.
fn decode(key: &[u8], value: &[u8]) -> Option<(NodeId, State)> {
    let node = NodeId(u16::from_be_bytes(key.try_into().ok()?));
    match value {
        // the highest number stands for no node
        [VERSION, code] if node.0 < u16::MAX => Some((node, State::of_code(*code)?)),
        _ => None,
    }
}

impl Journal {
    /// What it says of nodes: those that were added, or are to go, or have gone.
    pub fn members(&self) -> Result<Vec<(NodeId, State)>, JournalError> {
        let (mut members, mut damaged) = (Vec::new(), 0_u64);
        let tables = self.tables.lock();
        let Some(tables) = tables.as_ref() else {
            return Ok(members);
        };
        let mut later = None;
        let read = tables.rows(Table::Nodes, &mut |key, value| match decode(key, value) {
            Some(member) => members.push(member),
            None => match value {
                [version, ..] if *version > VERSION => later = Some(*version),
                _ => damaged += 1,
            },
        });
        if damaged > 0 {
            metrics::counter!("scatterhoard_journal_damaged_total").increment(damaged);
            tracing::warn!(damaged, "records of nodes are damaged and left out");
        }
        let path = self.place.path().to_owned();
        let read = match later {
            Some(version) => Err(Why::Later(version)),
            None => read.map_err(Why::from),
        };
        let failed = |why| JournalError { path, why };
        read.map(|()| members).map_err(failed)
    }

    /// Notes states of nodes, all or none. When it returns, only the death of the
    /// machine can undo it.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn note_members(&self, members: &[(NodeId, State)]) -> Result<(), String> {
        if let Some(why) = self.failure() {
            return Err(why);
        }
        let put = |(node, state): &(NodeId, State)| {
            let (key, value) = encode(*node, *state);
            Op::Put(Table::Nodes, key, value)
        };
        let ops = members.iter().map(put).collect();
        let committed = match self.tables.lock().as_ref() {
            Some(tables) => tables.commit(ops),
            None => Err(fjall::Error::Poisoned),
        };
        match committed {
            Ok(()) => {
                self.has_written();
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::{Fsync, memory::MemoryDisk, tables::Tables};

    proptest! {
        #[test]
        fn a_member_comes_back_and_garbage_does_no_harm(
            node in 0..u16::MAX, code in 0u8..5, key: Vec<u8>, value: Vec<u8>,
        ) {
            let member = (NodeId(node), State::of_code(code).unwrap());
            let (encoded, with) = encode(member.0, member.1);
            prop_assert_eq!(decode(&encoded, &with), Some(member));
            if let Some((node, state)) = decode(&key, &value) {
                prop_assert_eq!(encode(node, state), (key, value));
            }
        }
    }

    #[test]
    fn members_survive_the_proxy_and_a_flush() {
        let disk = MemoryDisk::default();
        let open = || Journal::open_in_memory(&disk, Fsync::Always).unwrap();
        let going = (NodeId(3), State::Draining { force: true });
        let journal = open();
        journal
            .note_members(&[going, (NodeId(9), State::Active)])
            .unwrap();
        journal.note_members(&[(NodeId(9), State::Gone)]).unwrap();
        let mut index = crate::keyspace::Keyspace::default();
        index.keep_changes();
        index.flush(None);
        journal.write(&mut index);
        let members = open().members().unwrap();
        assert_eq!(members, [going, (NodeId(9), State::Gone)]);
    }

    #[test]
    fn what_a_later_release_says_of_nodes_is_not_left_out() {
        for (version, is_later) in [(VERSION + 1, true), (0, false)] {
            let disk = MemoryDisk::default();
            let journal = Journal::open_in_memory(&disk, Fsync::Always).unwrap();
            let (key, mut value) = encode(NodeId(3), State::Gone);
            value[0] = version;
            let tables = disk.open().unwrap();
            tables
                .commit(vec![Op::Put(Table::Nodes, key, value)])
                .unwrap();
            let members = journal.members();
            match is_later {
                true => assert!(members.unwrap_err().to_string().contains("a later release")),
                false => assert_eq!(members.unwrap(), []),
            }
        }
    }

    #[test]
    fn a_full_disk_refuses() {
        let disk = MemoryDisk::default();
        let journal = Journal::open_in_memory(&disk, Fsync::Always).unwrap();
        disk.fill(true);
        let member = (NodeId(1), State::Gone);
        assert!(journal.note_members(&[member]).is_err());
        assert!(journal.failure().is_some());
    }
}
