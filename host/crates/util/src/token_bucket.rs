//! Token bucket, as the generic cell rate algorithm (GCRA): stores the theoretical arrival time instead of a
//! number of tokens.

use std::time::{Duration, Instant};

/// Token bucket. The caller passes the current time, so the bucket reads no clock.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Time to refill one token.
    interval: Duration,
    /// Time to refill an empty bucket completely.
    burst: Duration,
    /// Theoretical arrival time: the time at which the bucket is full again.
    full_at: Instant,
}

impl TokenBucket {
    /// Returns a full bucket of `capacity` tokens, of which one is refilled each `interval`.
    #[must_use]
    pub fn new(capacity: u32, interval: Duration, now: Instant) -> Self {
        Self { interval, burst: interval.saturating_mul(capacity), full_at: now }
    }

    /// Takes a token if one is available, and returns whether it did.
    pub fn try_take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let is_available = full_at <= now + self.burst;
        if is_available {
            self.full_at = full_at;
        }
        is_available
    }

    /// Returns the number of available tokens.
    #[must_use]
    pub fn available(&self, now: Instant) -> u32 {
        let missing = self.full_at.saturating_duration_since(now);
        let left = self.burst.saturating_sub(missing).as_nanos();
        left.checked_div(self.interval.as_nanos()).map_or(u32::MAX, |tokens| tokens as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn take_all(bucket: &mut TokenBucket, now: Instant) -> usize {
        (0..1_000).filter(|_| bucket.try_take(now)).count()
    }

    #[test]
    fn full_bucket_allows_a_burst_of_its_capacity() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(30, SECOND, start);
        assert_eq!(bucket.available(start), 30);
        assert_eq!(take_all(&mut bucket, start), 30);
        assert_eq!(bucket.available(start), 0);
    }

    #[test]
    fn empty_bucket_refills_one_token_per_interval() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(30, SECOND, start);
        take_all(&mut bucket, start);
        assert_eq!(take_all(&mut bucket, start + SECOND / 2), 0);
        assert_eq!(take_all(&mut bucket, start + SECOND), 1);
        assert_eq!(take_all(&mut bucket, start + 4 * SECOND), 3);
    }

    #[test]
    fn idle_bucket_holds_no_more_than_its_capacity() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(30, SECOND, start);
        take_all(&mut bucket, start);
        assert_eq!(take_all(&mut bucket, start + 1_000 * SECOND), 30);
    }

    #[test]
    fn interval_of_zero_never_limits() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1, Duration::ZERO, start);
        assert_eq!(take_all(&mut bucket, start), 1_000);
        assert_eq!(bucket.available(start), u32::MAX);
    }
}
