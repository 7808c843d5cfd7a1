//! Rate limit of a source: of the bytes of its values, or of its watch events. Excess values and events are delayed.

use reloader_util::{sync::Mutex, token_bucket::TokenBucket};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Burst of value bytes: the number of bytes that the rate allows in this time.
const VALUE_BURST_TIME: Duration = Duration::from_secs(2);
/// Burst of watch events: the number of events that the rate allows in this time.
const EVENT_BURST_TIME: Duration = Duration::from_secs(1);

/// Minimum time between two reports of a limit that delays a source.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Rate limit by a token bucket with debt: an amount above the limit is charged, and delays the next values or
/// events.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: TokenBucket,
    reports: TokenBucket,
}

impl RateLimit {
    /// Returns a rate limit of value bytes. The limit protects other sources: the host spends CPU time and disk writes
    /// on each value, to compare, store and deliver the value.
    pub(crate) fn of_value_bytes(per_second: usize) -> Self {
        Self::new(per_second, VALUE_BURST_TIME)
    }

    /// Creates a rate limit for the watch events of a source.
    pub(crate) fn of_events(per_second: usize) -> Self {
        Self::new(per_second, EVENT_BURST_TIME)
    }

    fn new(per_second: usize, burst: Duration) -> Self {
        let now = Instant::now().into_std();
        let bucket = TokenBucket::with_burst(burst, now);
        let state = State { bucket, reports: TokenBucket::new(1, REPORT_INTERVAL, now) };
        Self { per_second: per_second.max(1), state: Mutex::new(state) }
    }

    /// Waits until the bucket is not in debt. Returns whether the caller should report a delay: true for the first
    /// delay, then at most once per [`REPORT_INTERVAL`].
    pub(crate) async fn wait(&self) -> bool {
        let (debt, is_report_due) = self.state.lock().debt(Instant::now().into_std());
        if !debt.is_zero() {
            sleep(debt).await;
        }
        is_report_due
    }

    /// Charges an amount, whether or not it is available.
    pub(crate) fn charge(&self, amount: usize) {
        let refill_time = Duration::from_secs_f64(amount as f64 / self.per_second as f64);
        let now = Instant::now().into_std();
        self.state.lock().bucket.charge_time(refill_time, Duration::MAX, now);
    }
}

impl State {
    /// Returns the time until the bucket is not in debt, and whether a report of the delay is due.
    fn debt(&mut self, now: std::time::Instant) -> (Duration, bool) {
        let debt = self.bucket.time_in_debt(now);
        let is_report_due = !debt.is_zero() && self.reports.try_take(now);
        (debt, is_report_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn excess_values_wait_after_burst() {
        let limit = RateLimit::of_value_bytes(1 << 20);
        let start = Instant::now();
        for _ in 0..3 {
            assert!(!limit.wait().await);
            limit.charge(1 << 20);
        }
        for second in 1..=10 {
            assert!(limit.wait().await);
            assert_eq!(start.elapsed().as_secs_f64().round() as u64, second);
            limit.charge(1 << 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_values_never_wait() {
        let limit = RateLimit::of_value_bytes(1 << 20);
        for _ in 0..10_000 {
            assert!(!limit.wait().await);
            limit.charge(100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn excess_events_wait_after_burst() {
        let limit = RateLimit::of_events(100);
        let start = Instant::now();
        for _ in 0..100 {
            limit.charge(1);
            assert!(!limit.wait().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut reports = 0;
        for _ in 0..900 {
            limit.charge(1);
            reports += u32::from(limit.wait().await);
        }
        assert_eq!(reports, 9, "once a second");
        assert_eq!(start.elapsed().as_secs(), 9);
    }

    /// After the burst, each event waits for a tenth of a second. The first delay is reported, then one delay a second.
    #[tokio::test(start_paused = true)]
    async fn delay_is_reported_once_a_second() {
        let limit = RateLimit::of_events(10);
        let start = Instant::now();
        let mut reports = Vec::new();
        for _ in 0..10 + 30 {
            limit.charge(1);
            let began = start.elapsed();
            if limit.wait().await {
                reports.push(began.as_secs_f64().round() as u64);
            }
        }
        assert_eq!(reports, [0, 1, 2]);
    }
}
