use proptest::{collection::vec, prelude::*};

use super::*;

const FORCE: State = State::Draining { force: true };
const DRAIN: State = State::Draining { force: false };

fn load(node: u16, state: State, named_bytes: u64, free_bytes: u64) -> Load {
    Load {
        node: NodeId(node),
        state,
        named_bytes,
        free_bytes,
    }
}

#[test]
fn a_node_comes_and_goes_in_one_order_only() {
    let drain = |force| Change::Drain { force };
    assert_eq!(State::Active.after(drain(false)), Some(DRAIN));
    assert_eq!(DRAIN.after(drain(true)), Some(FORCE));
    assert_eq!(FORCE.after(drain(false)), Some(FORCE), "it stays forced");
    for draining in [DRAIN, FORCE] {
        assert_eq!(draining.after(Change::Cancel), Some(State::Active));
        assert_eq!(draining.after(Change::Emptied), Some(State::Gone));
        assert_eq!(draining.after(Change::GivenUp), Some(State::Unreached));
        assert_eq!(draining.after(Change::Join), None);
    }
    assert_eq!(State::Gone.after(Change::Join), Some(State::Active));
    for change in [drain(false), Change::Cancel, Change::Emptied] {
        assert_eq!(State::Gone.after(change), None);
    }
    for change in [
        Change::Join,
        Change::Cancel,
        Change::Emptied,
        Change::GivenUp,
    ] {
        assert_eq!(State::Active.after(change), None);
    }
    // it may be tried again, or come back
    assert_eq!(State::Unreached.after(drain(false)), Some(DRAIN));
    assert_eq!(State::Unreached.after(Change::Join), Some(State::Active));
    assert_eq!(State::Unreached.after(Change::Emptied), None);
}

#[test]
fn a_state_comes_back_from_its_code() {
    for state in State::ALL {
        assert_eq!(State::of_code(state.code()), Some(state));
    }
    assert_eq!(State::of_code(5), None);
}

#[test]
fn who_is_configured_is_there_unless_the_journal_says_otherwise() {
    let at = |n| NodeId(n);
    assert_eq!(seats(3, &[]), [State::Active; 3]);
    let journal = [(at(1), State::Gone), (at(4), DRAIN)];
    let all = [
        State::Active,
        State::Gone,
        State::Active,
        State::Gone,
        DRAIN,
    ];
    assert_eq!(seats(3, &journal), all);
    // one that was added and has gone is of no interest any more
    assert_eq!(seats(2, &[(at(5), State::Gone)]), [State::Active; 2]);
    assert_eq!(seats(1, &[(at(1), State::Active)]), [State::Active; 2]);
    // what may hold something yet is
    let unreached = [State::Active, State::Unreached];
    assert_eq!(seats(1, &[(at(1), State::Unreached)]), unreached);
}

#[test]
fn the_refusal_says_what_is_lacking() {
    let loads: Vec<Load> = (0..4).map(|n| load(n, State::Active, 100, 30)).collect();
    let drain = |nodes: &[u16], need, force| {
        let chosen: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        may_drain(&loads, &chosen, need, force)
    };
    let lacking = |lacking_bytes| Err(Refusal::NoRoom { lacking_bytes });
    assert_eq!(drain(&[3], 3, false), lacking(10));
    assert_eq!(drain(&[3], 3, true), Ok(()));
    assert_eq!(drain(&[2, 3], 2, false), lacking(140));
    let few = Err(Refusal::TooFew { left: 2, need: 3 });
    assert_eq!(drain(&[2, 3], 3, true), few, "not even if it is forced");
    assert_eq!(drain(&[7], 1, false), Err(Refusal::Unknown(NodeId(7))));
    assert_eq!(drain(&[], 1, false), Err(Refusal::Nothing));
}

#[test]
fn what_drains_already_needs_room_too() {
    let loads = [
        load(0, DRAIN, 50, 90),
        load(1, State::Active, 20, 40),
        load(2, State::Active, 20, 40),
        load(3, State::Gone, 0, 1000),
    ];
    let lacking = may_drain(&loads, &[NodeId(1)], 1, false);
    assert_eq!(lacking, Err(Refusal::NoRoom { lacking_bytes: 30 }));
    let (node, state) = (NodeId(3), "gone");
    let gone = may_drain(&loads, &[node], 1, false);
    assert_eq!(gone, Err(Refusal::State { node, state }));
}

proptest! {
    #[test]
    fn those_who_may_come_are_different_and_were_not_there(
        codes in vec(0u8..5, 0..20), more in 0usize..30,
    ) {
        let states: Vec<State> = codes.iter().map(|c| State::of_code(*c).unwrap()).collect();
        let most = states.len() + more;
        let gone = states.iter().filter(|s| !s.is_member()).count();
        let free: Vec<NodeId> = free(&states, most).collect();
        prop_assert_eq!(free.len(), gone + more);
        prop_assert!(free.windows(2).all(|two| two[0] < two[1]));
        for node in free {
            let state = states.get(usize::from(node.0));
            prop_assert!(state.is_none_or(|s| !s.is_member()));
            prop_assert!(usize::from(node.0) < most);
        }
    }

    #[test]
    fn those_who_go_are_the_last_active_ones(codes in vec(0u8..5, 0..20), count in 0usize..30) {
        let states: Vec<State> = codes.iter().map(|c| State::of_code(*c).unwrap()).collect();
        let chosen = last_active(&states, count);
        let active = states.iter().filter(|s| s.takes_chunks()).count();
        prop_assert_eq!(chosen.len(), count.min(active));
        let stays = |n: &usize| states[*n].takes_chunks() && !chosen.contains(&NodeId(*n as u16));
        let last_staying = (0..states.len()).rev().find(stays);
        for node in &chosen {
            prop_assert!(states[usize::from(node.0)].takes_chunks());
            prop_assert!(last_staying.is_none_or(|last| last < usize::from(node.0)));
        }
    }

    #[test]
    fn a_drain_that_is_allowed_leaves_room_and_enough_nodes(
        bytes in vec((0u8..5, 0u64..100, 0u64..100), 1..12),
        chosen in vec(0u16..12, 1..5), need in 1usize..6, force: bool,
    ) {
        let loads: Vec<Load> = bytes.iter().zip(0..).map(|((code, named, free), n)| {
            load(n, State::of_code(*code).unwrap(), *named, *free)
        }).collect();
        let chosen: Vec<NodeId> = chosen.into_iter().map(NodeId).collect();
        let stays = |l: &&Load| l.state == State::Active && !chosen.contains(&l.node);
        let goes = |l: &&Load| chosen.contains(&l.node) || l.state.is_draining();
        let left = loads.iter().filter(stays).count();
        let room: u64 = loads.iter().filter(stays).map(|l| l.free_bytes).sum();
        let moving: u64 = loads.iter().filter(goes).map(|l| l.named_bytes).sum();
        match may_drain(&loads, &chosen, need, force) {
            Ok(()) => prop_assert!(left >= need && (force || moving <= room)),
            Err(Refusal::NoRoom { lacking_bytes }) => {
                prop_assert!(!force && left >= need);
                prop_assert_eq!(room + lacking_bytes, moving);
            }
            Err(Refusal::TooFew { left: said, .. }) => prop_assert!(said == left && left < need),
            Err(_) => {}
        }
    }
}
