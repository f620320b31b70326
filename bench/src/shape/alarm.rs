//! Waking up at a moment, more exactly than the executor's timers, which are late by a
//! millisecond or two: as much as the delay that is to be imitated.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// All alarms ring at whole multiples of this, and so at the same time: links that are
/// served together cost one wake-up.
const GRID: Duration = Duration::from_micros(500);
/// How much too early, or too late, an alarm may therefore ring.
pub(super) const TOLERANCE: Duration = Duration::from_micros(250);

pub(crate) struct Alarm {
    timer: TimerFd,
    /// The same timer under another descriptor.
    watch: AsyncFd<OwnedFd>,
    grid_begin: Instant,
}

impl Alarm {
    /// `grid_begin` is the same for all alarms that may ring together.
    pub(crate) fn new(grid_begin: Instant) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let watch = watch(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self {
            timer,
            watch,
            grid_begin,
        })
    }

    /// Waits until the point of the grid that is nearest to `at`. May be cancelled and called again.
    pub(super) async fn ring(&self, at: Instant) -> io::Result<()> {
        self.ring_exactly(nearest(self.grid_begin, at)).await
    }

    /// Waits until `at`, and as long as it takes to wake up. May be cancelled and called again.
    pub(crate) async fn ring_exactly(&self, at: Instant) -> io::Result<()> {
        let wait = at.saturating_duration_since(Instant::now());
        // Zero would mean never.
        let wait = TimeSpec::from_duration(wait.max(Duration::from_nanos(1)));
        // Setting it also forgets that it may have rung before.
        self.timer
            .set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.watch.readable().await?;
            if let Ok(rung) = ready.try_io(|_| Ok(self.timer.wait()?)) {
                return rung;
            }
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio wants a promise that the compiler cannot check"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is a valid descriptor, always the same one, and open
    // until it is dropped, which the `AsyncFd` that owns it does last.
    let watch = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watch.map_err(|error| error.into_parts().1)
}

fn nearest(grid_begin: Instant, at: Instant) -> Instant {
    let since = at.saturating_duration_since(grid_begin) + TOLERANCE;
    let points = since.as_nanos() / GRID.as_nanos();
    grid_begin + GRID * u32::try_from(points).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_point_is_at_most_half_a_step_away() {
        let begin = Instant::now();
        let at = |us| begin + Duration::from_micros(us);
        assert_eq!(nearest(begin, begin), begin);
        assert_eq!(nearest(begin, at(249)), begin);
        assert_eq!(nearest(begin, at(250)), at(500));
        assert_eq!(nearest(begin, at(60_000_749)), at(60_000_500));
    }

    #[tokio::test]
    async fn what_was_given_up_does_not_ring_later() -> io::Result<()> {
        let begin = Instant::now();
        let alarm = Alarm::new(begin)?;
        let (soon, later) = (
            begin + Duration::from_millis(2),
            begin + Duration::from_millis(20),
        );
        tokio::select! {
            biased;
            rung = alarm.ring(soon) => rung?,
            () = std::future::ready(()) => {}
        }
        tokio::time::sleep_until(begin + Duration::from_millis(5)).await;
        alarm.ring(later).await?;
        assert!(Instant::now() + TOLERANCE >= later);
        Ok(())
    }
}
