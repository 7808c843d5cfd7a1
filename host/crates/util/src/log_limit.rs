//! Rate limit of log events: no source or sink fills the log, and suppressed events are counted.

use crate::token_bucket::TokenBucket;
use std::{
    mem::take,
    time::{Duration, Instant},
};

/// Events that may be logged in a burst.
pub const BURST: u32 = 30;

/// Rate limit of the log events of one subject.
#[derive(Debug)]
pub struct LogLimit {
    bucket: TokenBucket,
    suppressed: u64,
}

impl LogLimit {
    /// Allows [`BURST`] events at once, and one more each `interval`.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { bucket: TokenBucket::new(BURST, interval, now), suppressed: 0 }
    }

    /// Returns the number of events that were suppressed since the last one that was allowed; `None` if this
    /// one is suppressed.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.try_take(now) {
            return Some(take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }

    /// Returns how many events may be logged in a burst now.
    #[must_use]
    pub fn available(&self, now: Instant) -> u32 {
        self.bucket.available(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppressed_events_are_counted_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut limit = LogLimit::new(second, start);
        let allowed = (0..100).filter(|_| limit.allow(start).is_some()).count();
        assert_eq!(allowed, BURST as usize);
        assert_eq!(limit.allow(start + second), Some(70));
        assert_eq!(limit.allow(start + second), None);
        assert_eq!(limit.allow(start + 2 * second), Some(1));
    }
}
