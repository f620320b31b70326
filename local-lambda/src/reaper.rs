//! Acts on the reclaim policy and the polled memory limits.

use crate::platform::Platform;
use crate::reclaim::{Reclaim, ReclaimPolicy};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Follows the policy, beginning anew whenever it is replaced, until stopped.
pub(crate) async fn follow_policy(platform: Arc<Platform>) {
    let mut policies = platform.reclaim_policy.subscribe();
    loop {
        let policy = policies.borrow_and_update().clone();
        tokio::select! {
            () = platform.stop.cancelled() => return,
            changed = policies.changed() => if changed.is_err() { return },
            () = follow(&platform, policy) => {}
        }
    }
}

async fn follow(platform: &Platform, policy: ReclaimPolicy) {
    let rng = match policy.seed {
        Some(seed) => StdRng::seed_from_u64(seed),
        None => platform.world.lock().split_rng(),
    };
    tokio::join!(
        schedule(platform, &policy, rng.clone()),
        process(platform, &policy, rng)
    );
    // Done, but for a new policy.
    std::future::pending::<()>().await;
}

async fn schedule(platform: &Platform, policy: &ReclaimPolicy, mut rng: StdRng) {
    let start = Instant::now();
    let mut entries = policy.schedule.clone();
    entries.sort_by_key(|e| e.after);
    for entry in entries {
        sleep_until(start + entry.after).await;
        let order = Reclaim {
            function: entry.function,
            count: entry.count,
            busy: policy.busy,
            ..Reclaim::default()
        };
        let taken = platform.world.lock().reclaim(&order, &mut rng);
        tracing::info!(instances = taken.len(), "scheduled reclaim");
    }
}

async fn process(platform: &Platform, policy: &ReclaimPolicy, mut rng: StdRng) {
    let Some(process) = &policy.process else {
        return;
    };
    let mut minutes = interval(process.minute.max(Duration::from_millis(1)));
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    minutes.tick().await;
    loop {
        minutes.tick().await;
        let count = Some(process.draw(&mut rng));
        let order = Reclaim {
            count,
            busy: policy.busy,
            ..Reclaim::default()
        };
        let taken = platform.world.lock().reclaim(&order, &mut rng);
        if !taken.is_empty() {
            tracing::info!(instances = taken.len(), "random reclaim");
        }
    }
}

const MEMORY_POLL: Duration = Duration::from_millis(200);

/// Kills processes that exceed their memory, until stopped. Frozen ones cannot
/// grow and are not looked at.
pub(crate) async fn watch_memory(platform: Arc<Platform>) {
    let mut ticks = interval(MEMORY_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = platform.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let running = platform.world.lock().running();
        for (process, limit) in running {
            if process.rss_bytes().is_some_and(|rss| rss > limit) {
                process.kill_over_memory();
            }
        }
    }
}
