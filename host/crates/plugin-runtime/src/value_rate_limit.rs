//! Rate limit of a source's values, in bytes per second.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Burst: values of this many seconds may arrive at once.
const BURST_TIME: Duration = Duration::from_secs(2);

/// Token bucket (GCRA) of one source's value bytes. Values cost all sources CPU time and disk writes: the host
/// compares, stores and delivers them.
#[derive(Debug)]
pub(crate) struct ValueRateLimit {
    bytes_per_second: usize,
    /// Theoretical arrival time: when all values so far would have arrived at the rate.
    theoretical_arrival: Mutex<Instant>,
}

impl ValueRateLimit {
    pub(crate) fn new(bytes_per_second: usize) -> Self {
        Self { bytes_per_second, theoretical_arrival: Mutex::new(Instant::now()) }
    }

    /// Waits until another value may arrive. Returns whether it had to wait.
    pub(crate) async fn wait(&self) -> bool {
        let at = *self.lock() - BURST_TIME;
        let is_slowed = at > Instant::now();
        if is_slowed {
            sleep_until(at).await;
        }
        is_slowed
    }

    /// Charges a value of this size.
    pub(crate) fn charge(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.max(1) as f64);
        let mut arrival = self.lock();
        *arrival = (*arrival).max(Instant::now()) + time;
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.theoretical_arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn excess_values_wait_after_burst() {
        let limit = ValueRateLimit::new(1 << 20);
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
        let limit = ValueRateLimit::new(1 << 20);
        for _ in 0..10_000 {
            assert!(!limit.wait().await);
            limit.charge(100);
        }
    }
}
