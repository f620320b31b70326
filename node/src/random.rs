//! Where all chance comes from: the system's generator, or, in a simulation, one
//! that a seed determines.

use std::{
    cell::{Cell, RefCell},
    hash::BuildHasher,
};

use foldhash::{
    SharedSeed,
    fast::{FoldHasher, SeedableRandomState},
};
use rand::{
    Rng, RngCore, SeedableRng,
    distr::{Distribution, StandardUniform},
    rngs::{SmallRng, ThreadRng},
};

thread_local! {
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    static SIMULATED: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(0));
}

/// From now on all chance of this thread follows from the seed; `None` for real
/// chance again.
pub fn simulate(seed: Option<u64>) {
    IS_SIMULATED.set(seed.is_some());
    SIMULATED.set(SmallRng::seed_from_u64(seed.unwrap_or(0)));
}

/// This thread's generator.
pub fn rng() -> Generator {
    match IS_SIMULATED.get() {
        true => Generator::Simulated,
        false => Generator::Real(rand::rng()),
    }
}

/// Any value.
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rng().random()
}

/// What [`rng`] gives: fit for secrets, but in a simulation.
pub enum Generator {
    /// The system's.
    Real(ThreadRng),
    /// The seed's.
    Simulated,
}

impl RngCore for Generator {
    fn next_u32(&mut self) -> u32 {
        match self {
            Self::Real(rng) => rng.next_u32(),
            Self::Simulated => SIMULATED.with_borrow_mut(RngCore::next_u32),
        }
    }

    fn next_u64(&mut self) -> u64 {
        match self {
            Self::Real(rng) => rng.next_u64(),
            Self::Simulated => SIMULATED.with_borrow_mut(RngCore::next_u64),
        }
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Real(rng) => rng.fill_bytes(bytes),
            Self::Simulated => SIMULATED.with_borrow_mut(|rng| rng.fill_bytes(bytes)),
        }
    }
}

/// Hashes by a secret of its own, so that nobody can choose keys that collide.
#[derive(Clone, Debug)]
pub struct Hashing(SeedableRandomState);

impl Default for Hashing {
    fn default() -> Self {
        let shared = match IS_SIMULATED.get() {
            true => SharedSeed::global_fixed(),
            false => SharedSeed::global_random(),
        };
        Self(SeedableRandomState::with_seed(random(), shared))
    }
}

impl BuildHasher for Hashing {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A map whose order of iteration a simulation can repeat.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Hashing>;
/// A set whose order of iteration a simulation can repeat.
pub type HashSet<K> = std::collections::HashSet<K, Hashing>;
