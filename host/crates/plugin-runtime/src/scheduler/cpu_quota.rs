//! Who may compute where: what sources have computed, each by itself and all together.

use crate::meter::Clock;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Who computes for longer in one call goes on elsewhere.
pub(crate) const QUICK: Duration = Duration::from_millis(2);
/// So much of each call is no burden,
const NOTHING: Duration = Duration::from_micros(20);
/// and so much is none of a call now and then:
const LITTLE: Duration = Duration::from_micros(250);
/// as long as all that comes to no more than this part of the time,
const OF_LITTLE: u32 = 10;
/// and that of all sources together to no more than this part of it.
const OF_EVERYBODYS: u32 = 5;
/// What a source computes on others' threads is at most this part of the time, so that it is not among
/// the slowest hundredth of what they do,
const SHARE: u32 = 1_000;
/// and so long at a stretch.
const BURST: Duration = Duration::from_millis(5);
/// However much it has computed, it may come back after this.
const BANISHED: Duration = Duration::from_secs(600);
/// So many calls have to be quick before one begins on its caller's thread: opening, reading and arming,
/// and reading again.
const TRIALS: u32 = 5;

/// Who computes for longer than this in one call shares its thread with others of that kind alone, …
pub(crate) const LONG: Duration = Duration::from_millis(3);
/// … and so do, from the beginning, its next calls, if such calls have computed so much more than a
/// [`SHARE`] of the time, …
const HOG: Duration = Duration::from_millis(50);
/// … or shorter ones, of which others notice less, more than this part of it; unless the lane is full.
const MOMENTS: u32 = 20;

/// The lane of those who take a moment is full when they compute for more than this part of the time, …
const OF_MOMENTS: u32 = 4;
/// … and so much more than that. All sources together may compute for so long at a stretch.
const ROOM: Duration = Duration::from_millis(50);

/// What is owed, and paid by letting time pass: until then.
#[derive(Debug, Default)]
struct Debt(Option<Instant>);

impl Debt {
    fn left(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// So much more is owed, but no more than that.
    fn grow(&mut self, by: Duration, most: Duration) {
        let now = Instant::now();
        self.0 = Some((self.0.map_or(now, |at| at.max(now)) + by).min(now + most));
    }
}

/// How much a source computes.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Past>);

/// What is known of a source.
#[derive(Debug, Default)]
struct Past {
    /// So many calls must still be quick.
    trials: u32,
    /// Until what did not count is no more than its part.
    uncounted: Debt,
    /// Until all that it has computed is no more than its share.
    counted: Debt,
    /// The same of what others notice who take a moment.
    noticed: Debt,
}

/// Nobody knows it yet.
impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Past { trials: TRIALS, ..Past::default() }))
    }
}

impl Pace {
    /// Whether its next call may begin on its caller's thread.
    pub(crate) fn is_quick(&self) -> bool {
        let past = self.lock();
        past.trials == 0 && past.counted.left() < BURST * SHARE
    }

    /// What its next call is timed by: whoever owes something is looked at closely.
    pub(crate) fn clock(&self) -> Clock {
        if self.lock().counted.left().is_zero() { Clock::Wall } else { Clock::Thread }
    }

    /// Whether it has computed so much that its calls are not to begin beside those who take a moment.
    pub(crate) fn is_hog(&self) -> bool {
        self.lock().is_hog()
    }

    /// A call has taken so long. It is paid off when it was only a share of the time.
    pub(crate) fn took(&self, time: Duration, crowd: &Crowd) {
        let mut past = self.lock();
        if time < QUICK {
            past.trials = past.trials.saturating_sub(1);
        }
        let mut burden = time.saturating_sub(NOTHING);
        if burden.is_zero() {
            return;
        }
        if !past.is_hog() {
            let left = BURST.saturating_sub(past.uncounted.left() / OF_LITTLE);
            let little = crowd.uncounted(burden.min(LITTLE).min(left));
            past.uncounted.grow(little * OF_LITTLE, BANISHED);
            burden -= little;
        }
        if burden.is_zero() {
            return;
        }
        past.counted.grow(burden.saturating_mul(SHARE), BANISHED);
        let noticed = if time > LONG || crowd.is_there() { SHARE } else { MOMENTS };
        past.noticed.grow(burden.saturating_mul(noticed), BANISHED);
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn is_hog(&self) -> bool {
        self.noticed.left() > HOG * SHARE
    }
}

/// How much all sources compute together. Each of many may do little, and all of them much.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    /// Until what did not count is no more than its part.
    uncounted: Debt,
    /// Until those who take a moment have computed for no more than their part of the time.
    moments: Debt,
}

impl Crowd {
    /// Somebody who takes a moment has computed for so long.
    pub(crate) fn took(&self, time: Duration) {
        self.lock().moments.grow(time * OF_MOMENTS, ROOM * OF_MOMENTS * 2);
    }

    /// Whether those who take a moment have no room any more.
    fn is_there(&self) -> bool {
        self.lock().moments.left() > ROOM * OF_MOMENTS
    }

    /// So much of this need not count.
    fn uncounted(&self, wanted: Duration) -> Duration {
        let mut all = self.lock();
        let granted = wanted.min(ROOM.saturating_sub(all.uncounted.left() / OF_EVERYBODYS));
        all.uncounted.grow(granted * OF_EVERYBODYS, BANISHED);
        granted
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_begins_on_others_threads_who_has_not_been_seen_to_be_quick() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        for _ in 0..TRIALS {
            assert!(!pace.is_quick());
            pace.took(NOTHING / 2, &crowd);
        }
        assert!(pace.is_quick());
    }

    #[test]
    fn who_owes_something_is_looked_at_closely() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        pace.took(LITTLE / 2, &crowd);
        assert_eq!(pace.clock(), Clock::Wall, "which is quicker");
        pace.took(LITTLE * 2, &crowd);
        assert_eq!(pace.clock(), Clock::Thread);
    }

    #[test]
    fn who_computes_for_long_or_often_goes_elsewhere_and_who_does_little_does_not() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        for _ in 0..1_000_000 {
            pace.took(NOTHING / 2, &crowd);
        }
        assert!(pace.is_quick(), "next to nothing, however often");
        for _ in 0..20 {
            pace.took(LITTLE, &crowd);
        }
        assert!(pace.is_quick(), "a little, now and then");
        assert_eq!(pace.clock(), Clock::Wall);
        for _ in 0..4 {
            pace.took(Duration::from_millis(1), &crowd);
        }
        assert!(pace.is_quick(), "a burst");
        pace.took(Duration::from_millis(10), &crowd);
        assert!(!pace.is_quick());
        assert!(!pace.is_hog(), "it has opened an instance, perhaps");
        pace.took(Duration::from_millis(100), &crowd);
        assert!(pace.is_hog());
        pace.took(Duration::from_secs(3600), &crowd);
        assert!(pace.lock().noticed.left() <= BANISHED, "not for ever");
        assert!(pace.lock().counted.left() <= BANISHED, "not for ever");
    }

    #[test]
    fn a_little_all_the_time_is_much() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        for _ in 0..100 {
            pace.took(LITTLE, &crowd);
        }
        assert!(!pace.is_quick());
        assert!(!pace.is_hog());
    }

    #[test]
    fn many_short_calls_are_forgiven_sooner_than_few_long_ones() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        for _ in 0..1_000 {
            pace.took(Duration::from_millis(1), &crowd);
        }
        assert!(!pace.is_quick());
        assert!(!pace.is_hog(), "a second of short calls");
        for _ in 0..5_000 {
            pace.took(Duration::from_millis(2), &crowd);
        }
        assert!(pace.is_hog(), "and nothing else than short calls");
    }

    #[test]
    fn what_each_of_many_may_do_all_of_them_together_may_not() {
        let paces: Vec<_> = (0..100).map(|_| Pace::default()).collect();
        let crowd = Crowd::default();
        for _ in 0..20 {
            paces.iter().for_each(|pace| pace.took(LITTLE, &crowd));
        }
        assert!(paces.iter().any(|pace| pace.clock() == Clock::Thread), "half a second at once");
        let alone = Pace::default();
        (0..20).for_each(|_| alone.took(LITTLE, &Crowd::default()));
        assert_eq!(alone.clock(), Clock::Wall);
    }

    #[test]
    fn where_many_take_a_moment_who_takes_many_is_a_hog_sooner() {
        let (pace, crowd) = (Pace::default(), Crowd::default());
        let moment = Duration::from_millis(1);
        crowd.took(ROOM / 2);
        (0..100).for_each(|_| pace.took(moment, &crowd));
        assert!(!pace.is_hog(), "there is room");
        crowd.took(ROOM);
        (0..100).for_each(|_| pace.took(moment, &crowd));
        assert!(pace.is_hog());
        let other = Pace::default();
        other.took(moment, &crowd);
        assert!(!other.is_hog(), "who takes one moment is none");
    }
}
