//! Rate limit of log events, so that no source or sink floods the log. Suppressed events are counted.

use crate::token_bucket::TokenBucket;
use std::{
    mem::take,
    time::{Duration, Instant},
};

/// Maximum number of events in a burst.
pub const BURST_EVENTS: u32 = 30;

/// Rate limit of the log events of one source or sink.
#[derive(Debug)]
pub struct LogLimit {
    bucket: TokenBucket,
    suppressed: u64,
}

impl LogLimit {
    /// Returns a limit that allows a burst of [`BURST_EVENTS`] events, and one further event each `interval`.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { bucket: TokenBucket::new(BURST_EVENTS, interval, now), suppressed: 0 }
    }

    /// Decides whether an event may be logged. Returns the number of events suppressed since the last allowed
    /// one, or `None` if this event is suppressed.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.try_take(now) {
            return Some(take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }

    /// Returns the number of events that may be logged now.
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
        assert_eq!(allowed, BURST_EVENTS as usize);
        assert_eq!(limit.allow(start + second), Some(70));
        assert_eq!(limit.allow(start + second), None);
        assert_eq!(limit.allow(start + 2 * second), Some(1));
    }
}
