//! How many lines may be written on one subject, so that no source fills the log, whatever it does.

use std::{
    mem::take,
    time::{Duration, Instant},
};

/// So many lines are written at once; then one each time that a pause has passed. The others are for the
/// details, and counted.
pub(crate) const LINES: u32 = 30;

#[derive(Debug)]
pub(crate) struct Lines {
    one_more: Duration,
    pub(crate) left: u32,
    /// Up to here what comes back in time has come back.
    since: Instant,
    left_out: u64,
}

impl Lines {
    /// One more each time that this has passed.
    pub(crate) fn new(one_more: Duration, now: Instant) -> Self {
        Self { one_more, left: LINES, since: now, left_out: 0 }
    }

    /// Whether one more may be written, and how many were not before it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        while self.left < LINES && now.saturating_duration_since(self.since) >= self.one_more {
            self.since += self.one_more;
            self.left += 1;
        }
        if self.left == LINES {
            self.since = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_lines_come_back_in_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lines = Lines::new(second, start);
        let written = (0..100).filter(|_| lines.take(start).is_some()).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(lines.take(start + second), Some(70));
        assert_eq!(lines.take(start + second), None);
        let later = start + 1_000 * second;
        let written = (0..100).filter(|_| lines.take(later).is_some()).count();
        assert_eq!(written, LINES as usize, "no more than at the beginning");
    }
}
