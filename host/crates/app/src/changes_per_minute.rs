//! Number of changes of a source in each minute of the last hour.

use reloader_util::sync::Mutex;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Number of counted minutes, each in a bucket of its own.
const BUCKETS: usize = 60;
/// Duration of one bucket.
const BUCKET_WIDTH: Duration = Duration::from_secs(60);

/// Number of changes of one source in each of the last 60 minutes.
#[derive(Debug)]
pub(crate) struct ChangesPerMinute(Mutex<Window>);

#[derive(Debug)]
struct Window {
    /// Changes per minute. The last bucket is the current minute.
    buckets: VecDeque<u32>,
    /// Start of the current minute.
    current_since: Instant,
}

impl ChangesPerMinute {
    /// Creates empty counts. The current minute starts at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        let buckets = VecDeque::from([0; BUCKETS]);
        Self(Mutex::new(Window { buckets, current_since: now }))
    }

    /// Adds this number of changes to the current minute.
    pub(crate) fn add(&self, changes: u64, now: Instant) {
        self.advance(now, |window| {
            if let Some(current) = window.buckets.back_mut() {
                *current = current.saturating_add(u32::try_from(changes).unwrap_or(u32::MAX));
            }
        });
    }

    /// Adds one change that happened `age` before `now`. A change that is older than the window is
    /// dropped.
    pub(crate) fn add_past(&self, age: Duration, now: Instant) {
        self.advance(now, |window| {
            let into_current = now.saturating_duration_since(window.current_since);
            let minutes =
                age.saturating_sub(into_current).as_secs().div_ceil(BUCKET_WIDTH.as_secs());
            let back = usize::try_from(minutes).unwrap_or(usize::MAX);
            let index = (BUCKETS - 1).checked_sub(back);
            if let Some(bucket) = index.and_then(|index| window.buckets.get_mut(index)) {
                *bucket = bucket.saturating_add(1);
            }
        });
    }

    /// Returns the number of changes in each minute, oldest first. The last entry is the current minute.
    pub(crate) fn read(&self, now: Instant) -> Vec<u32> {
        self.advance(now, |window| window.buckets.iter().copied().collect())
    }

    /// Advances the window to `now` and calls `f` with it.
    fn advance<T>(&self, now: Instant, f: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.0.lock();
        let elapsed = now.saturating_duration_since(window.current_since).as_secs();
        let minutes = u32::try_from(elapsed / BUCKET_WIDTH.as_secs()).unwrap_or(u32::MAX);
        for _ in 0..minutes.min(BUCKETS as u32) {
            window.buckets.pop_front();
            window.buckets.push_back(0);
        }
        window.current_since += BUCKET_WIDTH * minutes;
        f(&mut window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes older than the window are dropped.
    #[test]
    fn window_advances_per_minute() {
        let start = Instant::now();
        let changes = ChangesPerMinute::new(start);
        changes.add(2, start + Duration::from_secs(30));
        changes.add(1, start + Duration::from_secs(59));
        changes.add(5, start + Duration::from_secs(150));
        let minutes = changes.read(start + Duration::from_secs(190));
        assert_eq!(minutes.len(), BUCKETS);
        assert_eq!(minutes[BUCKETS - 4..], [3, 0, 5, 0]);
        changes.add_past(Duration::from_secs(70), start + Duration::from_secs(190));
        let minutes = changes.read(start + Duration::from_secs(190));
        assert_eq!(minutes[BUCKETS - 4..], [3, 0, 6, 0], "second 120 is in the bucket 120 to 180");
        let after_window = changes.read(start + BUCKET_WIDTH * 1_000_000);
        assert_eq!(after_window, [0; BUCKETS]);
    }
}
