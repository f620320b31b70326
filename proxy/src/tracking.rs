//! CLIENT TRACKING: who has read which keys, and who wants to know of all keys that
//! begin so, to be told as soon as one of them changes. As in Redis, databases are not
//! told apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use scatterhoard_node::random::HashMap;

use crate::pubsub::{Mailbox, Message};

/// What all keys that are remembered may take, and who read them.
const MAX_BYTES: usize = 256 << 20;
/// What a key takes besides its bytes; and one who read it.
const KEY_BYTES: usize = 120;
const READER_BYTES: usize = 8;

/// What a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Of all keys with its prefixes, not of those that it reads.
    pub broadcast: bool,
    /// Nothing of what it changes itself.
    pub no_loop: bool,
    /// These; none of them overlap, but that an empty one may be among them.
    pub prefixes: BTreeSet<Bytes>,
}

/// The connection that is told instead.
#[derive(Clone)]
pub struct Redirect {
    /// Its number.
    pub id: u64,
    /// Where it finds its messages.
    pub mailbox: Weak<Mailbox>,
}

struct Tracker {
    wish: Wish,
    mailbox: Arc<Mailbox>,
    redirect: Option<Redirect>,
    is_broken: bool,
}

impl Tracker {
    fn tell(&mut self, key: Option<&Bytes>) {
        let message = |redirected| Message::Invalidate {
            key: key.cloned(),
            redirected,
        };
        let Some(redirect) = &self.redirect else {
            self.mailbox.put(message(false));
            return;
        };
        match redirect.mailbox.upgrade() {
            Some(mailbox) => mailbox.put(message(true)),
            None => {
                self.is_broken = true;
                self.mailbox.put(Message::RedirectBroken(redirect.id));
            }
        }
    }
}

/// A key that somebody read.
struct Read {
    by: Vec<u64>,
    place: usize,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<u64, Tracker>,
    keys: HashMap<Bytes, Read>,
    /// The same keys, for one of them to be chosen at random.
    order: Vec<Bytes>,
    bytes: usize,
}

/// All that is tracked.
pub struct Tracking {
    /// Looked at with every change, mostly alone.
    clients: AtomicUsize,
    most_keys: AtomicUsize,
    state: Mutex<State>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            clients: AtomicUsize::new(0),
            most_keys: AtomicUsize::new(1_000_000),
            state: Mutex::default(),
        }
    }
}

tokio::task_local! {
    static ACTOR: u64;
}

/// Has the changes that this makes be those of a client, which may not want to hear
/// of them.
pub async fn acting<F: Future>(client: u64, work: F) -> F::Output {
    ACTOR.scope(client, work).await
}

impl Tracking {
    /// Keys that are remembered at most.
    pub fn most_keys(&self) -> usize {
        self.most_keys.load(Ordering::Relaxed)
    }

    /// The same from now on.
    pub fn set_most_keys(&self, most: usize) {
        self.most_keys.store(most, Ordering::Relaxed);
    }

    /// Whether anybody wants to be told.
    pub fn any(&self) -> bool {
        self.clients.load(Ordering::Relaxed) > 0
    }

    /// How many want to be told, and keys that are remembered.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.clients.len(), state.keys.len())
    }

    /// A client wants this from now on.
    pub fn enter(&self, id: u64, wish: Wish, mailbox: Arc<Mailbox>, redirect: Option<Redirect>) {
        let tracker = Tracker {
            wish,
            mailbox,
            redirect,
            is_broken: false,
        };
        let mut state = self.state.lock();
        state.clients.insert(id, tracker);
        self.clients.store(state.clients.len(), Ordering::Relaxed);
    }

    /// It wants nothing any more.
    pub fn leave(&self, id: u64) {
        let mut state = self.state.lock();
        state.clients.remove(&id);
        self.clients.store(state.clients.len(), Ordering::Relaxed);
        if state.clients.is_empty() {
            *state = State::default();
        }
    }

    /// Whether the connection that is to be told instead of this one was not there when
    /// there was something to tell.
    pub fn is_broken(&self, id: u64) -> bool {
        let state = self.state.lock();
        state.clients.get(&id).is_some_and(|t| t.is_broken)
    }

    /// A client is about to read these keys.
    pub fn remember(&self, id: u64, keys: impl Iterator<Item = Bytes>) {
        let state = &mut *self.state.lock();
        for key in keys {
            state.remember(id, &key);
        }
        while state.keys.len() > self.most_keys() || state.bytes > MAX_BYTES {
            let place = scatterhoard_node::random::rng().random_range(0..state.order.len());
            let key = state.order[place].clone();
            state.forget(&key, None);
        }
    }

    /// A key has changed.
    pub fn changed(&self, key: &[u8]) {
        let actor = ACTOR.try_with(|id| *id).ok();
        let state = &mut *self.state.lock();
        state.forget(key, actor);
        let mut copy = None;
        for (id, tracker) in &mut state.clients {
            let is_own = tracker.wish.no_loop && Some(*id) == actor;
            if tracker.wish.covers(key) && !is_own {
                tracker.tell(Some(
                    copy.get_or_insert_with(|| Bytes::copy_from_slice(key)),
                ));
            }
        }
    }

    /// Any key may have changed.
    pub fn flushed(&self) {
        let state = &mut *self.state.lock();
        (state.keys, state.order, state.bytes) = Default::default();
        state.clients.values_mut().for_each(|t| t.tell(None));
    }
}

impl Wish {
    /// Whether it wants to hear of this key, whoever read it.
    fn covers(&self, key: &[u8]) -> bool {
        // no other one lies between a prefix of the key and the key
        let mut up_to = self
            .prefixes
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)));
        self.broadcast
            && (self.prefixes.contains(&b""[..])
                || up_to.next_back().is_some_and(|p| key.starts_with(p)))
    }
}

impl State {
    fn remember(&mut self, id: u64, key: &Bytes) {
        if let Some(read) = self.keys.get_mut(key) {
            if !read.by.contains(&id) {
                read.by.push(id);
                self.bytes += READER_BYTES;
            }
            return;
        }
        // copied: it outlives the request
        let key = Bytes::copy_from_slice(key);
        self.bytes += KEY_BYTES + key.len() + READER_BYTES;
        let (by, place) = (vec![id], self.order.len());
        self.order.push(key.clone());
        self.keys.insert(key, Read { by, place });
    }

    /// Forgets a key, and tells who read it; not the one who changes it, if that wants
    /// to hear nothing of its own.
    fn forget(&mut self, key: &[u8], actor: Option<u64>) {
        let Some((key, read)) = self.keys.remove_entry(key) else {
            return;
        };
        self.bytes -= KEY_BYTES + key.len() + READER_BYTES * read.by.len();
        self.order.swap_remove(read.place);
        let moved = self.order.get(read.place);
        if let Some(moved) = moved.and_then(|key| self.keys.get_mut(key)) {
            moved.place = read.place;
        }
        for id in read.by {
            let Some(tracker) = self.clients.get_mut(&id) else {
                continue;
            };
            let is_own = tracker.wish.no_loop && Some(id) == actor;
            if !tracker.wish.broadcast && !is_own {
                tracker.tell(Some(&key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::pubsub::Limits;

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Limits::default(), CancellationToken::new()))
    }

    fn told(mailbox: &Mailbox) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(message) = mailbox.take() {
            all.push(match message {
                Message::Invalidate { key: Some(key), .. } => {
                    String::from_utf8(key.to_vec()).unwrap()
                }
                Message::Invalidate { key: None, .. } => "all".into(),
                Message::RedirectBroken(id) => format!("broken {id}"),
                other => panic!("{other:?}"),
            });
        }
        all
    }

    fn read(tracking: &Tracking, id: u64, keys: &[&'static str]) {
        let keys = keys.iter().map(|k| Bytes::from_static(k.as_bytes()));
        tracking.remember(id, keys);
    }

    #[tokio::test]
    async fn who_read_a_key_is_told_once() {
        let tracking = Tracking::default();
        let (one, two) = (mailbox(), mailbox());
        let no_loop = Wish {
            no_loop: true,
            ..Wish::default()
        };
        tracking.enter(1, Wish::default(), one.clone(), None);
        tracking.enter(2, no_loop, two.clone(), None);
        read(&tracking, 1, &["a", "b"]);
        read(&tracking, 2, &["a", "b", "c"]);
        tracking.changed(b"a");
        tracking.changed(b"a");
        assert_eq!(
            (told(&one), told(&two)),
            (vec!["a".into()], vec!["a".into()])
        );
        acting(2, async { tracking.changed(b"b") }).await;
        assert_eq!((told(&one), told(&two)), (vec!["b".into()], vec![]));
        assert_eq!(tracking.counts(), (2, 1));
        tracking.flushed();
        tracking.changed(b"c");
        assert_eq!(
            (told(&one), told(&two)),
            (vec!["all".into()], vec!["all".into()])
        );
        tracking.leave(1);
        tracking.leave(2);
        assert!(!tracking.any() && tracking.counts() == (0, 0));
    }

    #[test]
    fn broadcasts_go_by_prefixes() {
        let tracking = Tracking::default();
        let of = |prefixes: &[&'static str]| Wish {
            broadcast: true,
            prefixes: prefixes
                .iter()
                .map(|p| Bytes::from_static(p.as_bytes()))
                .collect(),
            ..Wish::default()
        };
        let (some, all) = (mailbox(), mailbox());
        tracking.enter(1, of(&["b:", "a", "c:x"]), some.clone(), None);
        tracking.enter(2, of(&["", "z"]), all.clone(), None);
        for key in ["a", "abc", "b", "b:1", "c:1", "c:x", "c:y", "", "zz"] {
            tracking.changed(key.as_bytes());
        }
        assert_eq!(told(&some), ["a", "abc", "b:1", "c:x"]);
        assert_eq!(told(&all).len(), 9);
    }

    #[test]
    fn so_many_keys_are_remembered_and_no_more() {
        let tracking = Tracking::default();
        let one = mailbox();
        tracking.set_most_keys(100);
        tracking.enter(1, Wish::default(), one.clone(), None);
        tracking.remember(1, (0..300).map(|i: u32| Bytes::from(i.to_string())));
        assert_eq!(tracking.counts(), (1, 100));
        let forgotten: BTreeSet<String> = told(&one).into_iter().collect();
        assert_eq!(forgotten.len(), 200);
        // those that are left are told when they change
        (0..300).for_each(|i: u32| tracking.changed(i.to_string().as_bytes()));
        assert_eq!(told(&one).len(), 100);
        let state = tracking.state.lock();
        assert_eq!((state.bytes, state.order.len()), (0, 0));
    }

    #[test]
    fn another_connection_is_told_as_long_as_it_is_there() {
        let tracking = Tracking::default();
        let (own, other) = (mailbox(), mailbox());
        let redirect = Redirect {
            id: 9,
            mailbox: Arc::downgrade(&other),
        };
        tracking.enter(1, Wish::default(), own.clone(), Some(redirect));
        read(&tracking, 1, &["a", "b"]);
        tracking.changed(b"a");
        assert_eq!((told(&own), told(&other)), (vec![], vec!["a".into()]));
        assert!(!tracking.is_broken(1));
        drop(other);
        tracking.changed(b"b");
        assert_eq!(told(&own), ["broken 9"]);
        assert!(tracking.is_broken(1));
    }
}
