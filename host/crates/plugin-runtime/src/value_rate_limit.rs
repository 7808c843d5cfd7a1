//! How many bytes of values a source may give in a second.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Values of so many seconds may come at once.
const BURST: Duration = Duration::from_secs(2);

/// What its values cost is borne by all: they are compared, kept on disk and passed on.
#[derive(Debug)]
pub(crate) struct Intake {
    per_second: usize,
    /// When all that has come would have come at that rate.
    paid_off: Mutex<Instant>,
}

impl Intake {
    pub(crate) fn new(per_second: usize) -> Self {
        Self { per_second, paid_off: Mutex::new(Instant::now()) }
    }

    /// Waits until another value may come. Whether it had to.
    pub(crate) async fn turn(&self) -> bool {
        let at = *self.lock() - BURST;
        let is_slowed = at > Instant::now();
        if is_slowed {
            sleep_until(at).await;
        }
        is_slowed
    }

    /// A value of so many bytes has come.
    pub(crate) fn took(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.per_second.max(1) as f64);
        let mut paid_off = self.lock();
        *paid_off = (*paid_off).max(Instant::now()) + time;
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.paid_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gives_more_than_that_is_slowed_down_to_it_and_a_burst_is_not() {
        let intake = Intake::new(1 << 20);
        let start = Instant::now();
        for _ in 0..3 {
            assert!(!intake.turn().await);
            intake.took(1 << 20);
        }
        for second in 1..=10 {
            assert!(intake.turn().await);
            assert_eq!(start.elapsed().as_secs_f64().round() as u64, second);
            intake.took(1 << 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_little_never_waits() {
        let intake = Intake::new(1 << 20);
        for _ in 0..10_000 {
            assert!(!intake.turn().await);
            intake.took(100);
        }
    }
}
