//! How often a value has changed of late, minute by minute.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many minutes are remembered.
const MINUTES: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// Of one source.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<Recent>);

#[derive(Debug)]
struct Recent {
    /// The present minute is the last one, …
    minutes: VecDeque<u32>,
    /// … which began then.
    began: Instant,
}

impl Activity {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Recent { minutes: VecDeque::from([0; MINUTES]), began: now }))
    }

    /// It has changed so often.
    pub(crate) fn add(&self, changes: u64, now: Instant) {
        self.with(now, |recent| {
            if let Some(present) = recent.minutes.back_mut() {
                *present = present.saturating_add(u32::try_from(changes).unwrap_or(u32::MAX));
            }
        });
    }

    /// It has changed at a moment so long before this one.
    pub(crate) fn add_past(&self, ago: Duration, now: Instant) {
        self.with(now, |recent| {
            let into = now.saturating_duration_since(recent.began);
            let minutes = ago.saturating_sub(into).as_secs().div_ceil(MINUTE.as_secs());
            let back = usize::try_from(minutes).unwrap_or(usize::MAX);
            let at = (MINUTES - 1).checked_sub(back);
            if let Some(minute) = at.and_then(|at| recent.minutes.get_mut(at)) {
                *minute = minute.saturating_add(1);
            }
        });
    }

    /// How often it has changed in each minute, the present one last.
    pub(crate) fn read(&self, now: Instant) -> Vec<u32> {
        self.with(now, |recent| recent.minutes.iter().copied().collect())
    }

    fn with<T>(&self, now: Instant, f: impl FnOnce(&mut Recent) -> T) -> T {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(recent.began).as_secs() / MINUTE.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..passed.min(MINUTES as u32) {
            recent.minutes.pop_front();
            recent.minutes.push_back(0);
        }
        recent.began += MINUTE * passed;
        f(&mut recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_pass_and_what_is_older_than_all_of_them_is_forgotten() {
        let start = Instant::now();
        let activity = Activity::new(start);
        activity.add(2, start + Duration::from_secs(30));
        activity.add(1, start + Duration::from_secs(59));
        activity.add(5, start + Duration::from_secs(150));
        let minutes = activity.read(start + Duration::from_secs(190));
        assert_eq!(minutes.len(), MINUTES);
        assert_eq!(minutes[MINUTES - 4..], [3, 0, 5, 0]);
        activity.add_past(Duration::from_secs(70), start + Duration::from_secs(190));
        let minutes = activity.read(start + Duration::from_secs(190));
        assert_eq!(minutes[MINUTES - 4..], [3, 0, 6, 0], "from 120 to 180 is where 120 is");
        let all_past = activity.read(start + MINUTE * 1_000_000);
        assert_eq!(all_past, [0; MINUTES]);
    }
}
