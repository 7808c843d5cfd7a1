//! Log deduplication for a sink: decides which deliveries, failures and repairs are logged above DEBUG.

use reloader_util::token_bucket::TokenBucket;
use std::{
    mem::take,
    time::{Duration, Instant},
};

/// Time without a delivery after which the next one is logged at INFO.
const QUIET_PERIOD: Duration = Duration::from_secs(600);
/// Maximum number of failures, and of repairs, that a sink logs in a burst.
const BURST_EVENTS: u32 = 5;
/// Minimum time between two logged failures, and between two logged repairs, after the burst.
const EVENT_INTERVAL: Duration = Duration::from_secs(600);

/// Decides which events of one sink are logged. The caller passes the current time.
///
/// There are three kinds of events: deliveries, failures and repairs. Each method returns the number of events of
/// its kind that were suppressed since the last logged one, or `None` if the new event is suppressed.
#[derive(Debug)]
pub(crate) struct DeliveryLog {
    last_delivery: Option<Instant>,
    suppressed_deliveries: u64,
    failures: TokenBucket,
    suppressed_failures: u64,
    /// Failures since the last success; `None` if there are none.
    failing: Option<FailingPeriod>,
    repairs: TokenBucket,
    suppressed_repairs: u64,
}

/// Period of failures without a success between them.
#[derive(Debug, Default)]
struct FailingPeriod {
    /// Kind of the last logged failure, and whether any logged failure of the period was final.
    logged: Option<(String, bool)>,
}

impl DeliveryLog {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last_delivery: None,
            suppressed_deliveries: 0,
            failures: TokenBucket::new(BURST_EVENTS, EVENT_INTERVAL, now),
            suppressed_failures: 0,
            failing: None,
            repairs: TokenBucket::new(BURST_EVENTS, EVENT_INTERVAL, now),
            suppressed_repairs: 0,
        }
    }

    /// Decides whether a successful delivery is logged. The first delivery is logged, the first one after a logged
    /// failure, and the first one after [`QUIET_PERIOD`].
    pub(crate) fn delivery(&mut self, now: Instant) -> Option<u64> {
        let is_recovery = self.failing.take().is_some_and(|period| period.logged.is_some());
        let last = self.last_delivery.replace(now);
        let is_first = last.is_none_or(|last| now.duration_since(last) >= QUIET_PERIOD);
        if is_first || is_recovery {
            return Some(take(&mut self.suppressed_deliveries));
        }
        self.suppressed_deliveries += 1;
        None
    }

    /// Decides whether a failed attempt is logged. `is_final` states that the retries with backoff are exhausted,
    /// or that no retry follows. A failure is suppressed if it exceeds the rate limit, or if it repeats the last logged
    /// failure since the last success: it has the same [kind](kind), and is not the first final one.
    pub(crate) fn failure(&mut self, reason: &str, is_final: bool, now: Instant) -> Option<u64> {
        let period = self.failing.get_or_insert_default();
        let kind = kind(reason);
        let is_repeated = period
            .logged
            .as_ref()
            .is_some_and(|(logged, was_final)| *logged == kind && (*was_final || !is_final));
        if is_repeated || !self.failures.try_take(now) {
            self.suppressed_failures += 1;
            return None;
        }
        let was_final = period.logged.as_ref().is_some_and(|(_, was_final)| *was_final);
        period.logged = Some((kind, is_final || was_final));
        Some(take(&mut self.suppressed_failures))
    }

    /// Decides whether the repair of a file that another program has changed is logged.
    pub(crate) fn repair(&mut self, now: Instant) -> Option<u64> {
        if self.repairs.try_take(now) {
            return Some(take(&mut self.suppressed_repairs));
        }
        self.suppressed_repairs += 1;
        None
    }
}

/// Returns the kind of a failure: its reason without the words that contain a digit, such as process IDs, line
/// numbers, times and random names.
fn kind(reason: &str) -> String {
    let words = reason.split_whitespace();
    words
        .filter(|word| !word.contains(|it: char| it.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: u32 = 3600;

    #[test]
    fn busy_sink_logs_only_its_first_delivery() {
        let start = Instant::now();
        let mut log = DeliveryLog::new(start);
        assert_eq!(log.delivery(start), Some(0));
        let logged = (1..HOUR).filter(|second| log.delivery(start + SECOND * *second).is_some());
        assert_eq!(logged.count(), 0);
    }

    #[test]
    fn rare_deliveries_are_logged() {
        let start = Instant::now();
        let mut log = DeliveryLog::new(start);
        assert_eq!(log.delivery(start), Some(0));
        assert_eq!(log.delivery(start + SECOND), None);
        assert_eq!(log.delivery(start + SECOND + QUIET_PERIOD), Some(1));
    }

    #[test]
    fn recovery_is_logged() {
        let start = Instant::now();
        let mut log = DeliveryLog::new(start);
        log.delivery(start);
        assert_eq!(log.failure("the disk is full", false, start), Some(0));
        assert_eq!(log.delivery(start + SECOND), Some(0));
        assert_eq!(log.delivery(start + SECOND), None);
    }

    /// A failure that lasts is logged twice: before the retries are exhausted, and as final. Reasons that differ only
    /// in process IDs are the same kind of failure.
    #[test]
    fn lasting_failure_is_logged_once_per_severity() {
        let start = Instant::now();
        let mut log = DeliveryLog::new(start);
        let reason = |number: u32| format!("process {number} from `/run/app.pid` is not running");
        assert_eq!(log.failure(&reason(1), false, start), Some(0));
        assert_eq!(log.failure(&reason(2), false, start), None);
        assert_eq!(log.failure(&reason(3), true, start), Some(1));
        for second in 0..75 * HOUR {
            assert_eq!(
                log.failure(&reason(second), second % 2 == 0, start + SECOND * second),
                None
            );
        }
    }

    /// A failure of another kind is logged, also directly after a logged failure.
    #[test]
    fn other_failure_is_logged() {
        let start = Instant::now();
        let mut log = DeliveryLog::new(start);
        assert_eq!(log.failure("the disk is full", true, start), Some(0));
        assert_eq!(log.failure("permission denied", true, start), Some(0));
    }

    #[test]
    fn changing_or_flapping_failures_are_rate_limited() {
        let start = Instant::now();
        let letters = |number: u32| "x".repeat(number as usize % 100);
        let mut log = DeliveryLog::new(start);
        let mut flapping = DeliveryLog::new(start);
        let (mut changing, mut lines) = (0, 0);
        for second in 0..HOUR {
            let now = start + SECOND * second;
            changing += u32::from(log.failure(&letters(second), true, now).is_some());
            lines += u32::from(flapping.failure("down", true, now).is_some());
            lines += u32::from(flapping.delivery(now).is_some());
        }
        assert!(changing <= BURST_EVENTS + 6, "{changing}");
        assert!(lines <= 2 * (BURST_EVENTS + 6) + 1, "{lines}");
        let mut repairs = DeliveryLog::new(start);
        let logged = (0..HOUR).filter(|second| repairs.repair(start + SECOND * *second).is_some());
        assert!(logged.count() <= (BURST_EVENTS + 6) as usize);
    }
}
