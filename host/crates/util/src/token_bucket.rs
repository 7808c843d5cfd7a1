//! Token bucket, as the generic cell rate algorithm (GCRA): stores the theoretical arrival time instead of a
//! number of tokens.

use std::time::{Duration, Instant};

/// Maximum time until a bucket is full: 100 years, so that [`Instant`] can represent the time at which it is full.
const MAX_TIME_TO_FULL: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Token bucket. The caller passes the current time, so the bucket reads no clock.
///
/// An amount is a number of whole tokens, or the time that it takes to refill the tokens ("refill time").
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

    /// Returns a full bucket whose refill takes `burst` when it is empty. One token is one nanosecond of refill time.
    #[must_use]
    pub fn with_burst(burst: Duration, now: Instant) -> Self {
        Self { interval: Duration::from_nanos(1), burst, full_at: now }
    }

    /// Takes a token if one is available, and returns whether it did.
    #[inline]
    pub fn try_take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let is_available = full_at <= now + self.burst;
        if is_available {
            self.full_at = full_at;
        }
        is_available
    }

    /// Takes tokens whether or not they are available: the bucket goes into debt. Debt beyond `max_time_in_debt` is
    /// forgiven.
    #[inline]
    pub fn charge(&mut self, tokens: u32, max_time_in_debt: Duration, now: Instant) {
        let max_time_to_full = self.burst.saturating_add(max_time_in_debt);
        self.charge_time(self.interval.saturating_mul(tokens), max_time_to_full, now);
    }

    /// Takes tokens of this refill time whether or not they are available. Afterwards, the time until the bucket is
    /// full is at most `max_time_to_full` and at most 100 years; debt beyond that is forgiven.
    #[inline]
    pub fn charge_time(&mut self, refill_time: Duration, max_time_to_full: Duration, now: Instant) {
        let time_to_full = self.time_to_full(now).saturating_add(refill_time);
        self.full_at = now + time_to_full.min(max_time_to_full).min(MAX_TIME_TO_FULL);
    }

    /// Returns the number of available tokens.
    #[inline]
    #[must_use]
    pub fn available(&self, now: Instant) -> u32 {
        let left = self.available_time(now).as_nanos();
        left.checked_div(self.interval.as_nanos())
            .map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// Returns the available tokens, including a fraction of a token, expressed as the time that their refill takes.
    /// Zero for an empty bucket and for one in debt. This is not a waiting time.
    #[inline]
    #[must_use]
    pub fn available_time(&self, now: Instant) -> Duration {
        self.burst.saturating_sub(self.time_to_full(now))
    }

    /// Returns the time until the bucket is no longer in debt; zero for a bucket without debt.
    #[inline]
    #[must_use]
    pub fn time_in_debt(&self, now: Instant) -> Duration {
        self.time_to_full(now).saturating_sub(self.burst)
    }

    /// Returns the time until the bucket is full.
    #[inline]
    #[must_use]
    pub fn time_to_full(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
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

    #[test]
    fn debt_is_paid_by_refilling() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2, SECOND, start);
        bucket.charge(5, Duration::MAX, start);
        assert_eq!(bucket.time_in_debt(start), 3 * SECOND);
        assert!(!bucket.try_take(start + 3 * SECOND));
        assert_eq!(take_all(&mut bucket, start + 5 * SECOND), 2);
        assert_eq!(bucket.time_in_debt(start + 5 * SECOND), Duration::ZERO);
    }

    #[test]
    fn debt_beyond_its_maximum_is_forgiven() {
        let start = Instant::now();
        let mut bucket = TokenBucket::with_burst(SECOND, start);
        bucket.charge_time(100 * SECOND, 10 * SECOND, start);
        assert_eq!(bucket.time_to_full(start), 10 * SECOND);
        assert_eq!(bucket.time_in_debt(start + SECOND), 8 * SECOND);
    }

    #[test]
    fn charge_beyond_the_clock_is_limited() {
        let start = Instant::now();
        let mut bucket = TokenBucket::with_burst(SECOND, start);
        for _ in 0..2 {
            bucket.charge_time(Duration::MAX, Duration::MAX, start);
            assert_eq!(bucket.time_to_full(start), MAX_TIME_TO_FULL);
        }
        assert!(!bucket.try_take(start + 1_000_000 * SECOND));
        let mut bucket = TokenBucket::new(1, SECOND * 1_000_000_000, start);
        bucket.charge(u32::MAX, Duration::MAX, start);
        assert!(bucket.time_in_debt(start) > Duration::ZERO);
    }
}
