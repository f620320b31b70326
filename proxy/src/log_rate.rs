//! Log lines that clients can cause: a few a second, and how many were left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How much text of a client is in one line.
const TEXT_BYTES: usize = 1024;
const WINDOW: Duration = Duration::from_secs(1);

/// Says which lines may be written.
#[derive(Debug)]
pub struct LogRate {
    per_window: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LogRate {
    /// So many lines a second.
    pub const fn new(per_s: u32) -> Self {
        Self {
            per_window: per_s,
            state: Mutex::new(State {
                since: None,
                written: 0,
                left_out: 0,
            }),
        }
    }

    /// Whether a line may be written now; then, how many were not before it.
    pub fn admits(&self) -> Option<u64> {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let is_over = |since| now.saturating_duration_since(since) >= WINDOW;
        if state.since.is_none_or(is_over) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written == self.per_window {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

/// Bytes of a client as they may stand in a log line: cut, without control
/// characters.
pub fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(TEXT_BYTES)];
    let mut text = String::with_capacity(shown.len());
    for c in String::from_utf8_lossy(shown).chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    let more = bytes.len() - shown.len();
    if more > 0 {
        text.push_str(&format!("... ({more} more bytes)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_counted_not_written() {
        let (rate, start) = (LogRate::new(2), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rate.admits_at(at(0)), Some(0));
        assert_eq!(rate.admits_at(at(1)), Some(0));
        assert_eq!(rate.admits_at(at(2)), None);
        assert_eq!(rate.admits_at(at(999)), None);
        assert_eq!(rate.admits_at(at(1000)), Some(2));
        assert_eq!(rate.admits_at(at(1001)), Some(0));
    }

    #[test]
    fn text_of_clients_stays_in_its_line() {
        assert_eq!(printable(b"a\n\x1b[2J\xff"), "a\\n\\u{1b}[2J\u{fffd}");
        let cut = printable(&vec![b'x'; 5000]);
        assert!(
            cut.ends_with("xx... (3976 more bytes)") && cut.len() < 1100,
            "{cut}"
        );
    }
}
