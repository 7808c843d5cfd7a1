//! Rate limit of a guest's log lines.

use crate::limits::Count;
use reloader_util::token_bucket::TokenBucket;
use std::{
    mem,
    time::{Duration, Instant},
};

/// Length that counts as one line, in bytes. A longer line counts as several.
const LINE_BYTES: usize = 256;
/// Maximum time that the token bucket is in debt after a long line. All lines are suppressed during that time.
const MAX_DEBT_TIME: Duration = Duration::from_secs(1);
/// Minimum time between two reports of suppressed lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Rate limit of one source's log lines: a token bucket with the lines of one second as its burst.
#[derive(Debug)]
pub(crate) struct GuestLogLimit {
    lines: TokenBucket,
    /// Number of suppressed lines that have not been reported.
    suppressed: u64,
    reports: TokenBucket,
}

impl GuestLogLimit {
    pub(crate) fn new(per_second: Count, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.0.max(1);
        let lines = TokenBucket::new(per_second.0, interval, now);
        Self { lines, suppressed: 0, reports: TokenBucket::new(1, REPORT_INTERVAL, now) }
    }

    /// Decides whether one line may be logged. Returns `None` if the line is suppressed, and otherwise the number of
    /// suppressed lines to report.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if !self.lines.try_take(now) {
            self.suppressed += 1;
            return None;
        }
        if self.suppressed == 0 || !self.reports.try_take(now) {
            return Some(0);
        }
        Some(mem::take(&mut self.suppressed))
    }

    /// Charges the length of the line that [`take`](Self::take) allowed last. The debt is limited to [`MAX_DEBT_TIME`],
    /// so that one very long line does not suppress further lines for long.
    pub(crate) fn charge_length(&mut self, bytes: usize, now: Instant) {
        let more = bytes.div_ceil(LINE_BYTES).saturating_sub(1);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.lines.charge(more, MAX_DEBT_TIME, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_lines_are_suppressed_and_counted() {
        let start = Instant::now();
        let mut limit = GuestLogLimit::new(Count(2), start);
        assert_eq!([1, 2, 3, 4].map(|_| limit.take(start)), [Some(0), Some(0), None, None]);
        assert_eq!(limit.take(start + Duration::from_secs(1)), Some(2));
    }

    #[test]
    fn suppression_is_reported_once_a_minute() {
        let start = Instant::now();
        let mut limit = GuestLogLimit::new(Count(1), start);
        let mut reported = Vec::new();
        for second in 0..=121 {
            for _ in 0..3 {
                let suppressed = limit.take(start + Duration::from_secs(second));
                reported.extend(suppressed.filter(|&n| n > 0));
            }
        }
        assert_eq!(reported, [2, 120, 120], "two in each second");
    }

    #[test]
    fn long_line_counts_as_several() {
        let start = Instant::now();
        let mut limit = GuestLogLimit::new(Count(4), start);
        assert_eq!(limit.take(start), Some(0));
        limit.charge_length(4 * LINE_BYTES, start);
        assert_eq!(limit.take(start), None);
    }

    /// A line that counts as 64 lines suppresses further lines for at most two seconds: one second of debt, and the
    /// time to refill. Without the limit of the debt, a rate of one line per second would suppress lines for 64
    /// seconds.
    #[test]
    fn debt_of_long_line_is_limited() {
        let start = Instant::now();
        for per_second in [1, 10] {
            let mut limit = GuestLogLimit::new(Count(per_second), start);
            assert_eq!(limit.take(start), Some(0));
            limit.charge_length(64 * LINE_BYTES, start);
            assert_eq!(limit.take(start + Duration::from_secs(1)), None);
            assert_eq!(limit.take(start + Duration::from_secs(2)), Some(1));
        }
    }
}
