//! Rate limit of a source's log lines.

use crate::limits::Count;
use std::{
    mem,
    time::{Duration, Instant},
};

/// Length that counts as one line, in bytes. A longer line counts as several.
const LINE_BYTES: usize = 256;
/// Minimum time between two reports of suppressed lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Rate limit of one source's log lines: a fixed number in each window of one second.
#[derive(Debug)]
pub(crate) struct LogBudget {
    per_second: Count,
    window_start: Instant,
    /// Number of lines in the current window.
    written: u32,
    /// Number of suppressed lines that have not been reported.
    suppressed: u64,
    last_report: Option<Instant>,
}

impl LogBudget {
    pub(crate) fn new(per_second: Count) -> Self {
        Self {
            per_second,
            window_start: Instant::now(),
            written: 0,
            suppressed: 0,
            last_report: None,
        }
    }

    /// Takes one line. Returns `None` if it is suppressed, and otherwise the number of suppressed lines to
    /// report.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.window_start) >= Duration::from_secs(1) {
            (self.window_start, self.written) = (now, 0);
        }
        if self.written >= self.per_second.0 {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        let reported_recently =
            self.last_report.is_some_and(|at| now.duration_since(at) < REPORT_INTERVAL);
        if self.suppressed == 0 || reported_recently {
            return Some(0);
        }
        self.last_report = Some(now);
        Some(mem::take(&mut self.suppressed))
    }

    /// Charges the length of the line that was taken last.
    pub(crate) fn charge_length(&mut self, bytes: usize) {
        let more = bytes.div_ceil(LINE_BYTES).saturating_sub(1);
        self.written = self.written.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_lines_are_suppressed_and_counted() {
        let mut budget = LogBudget::new(Count(2));
        let start = budget.window_start;
        assert_eq!([1, 2, 3, 4].map(|_| budget.take(start)), [Some(0), Some(0), None, None]);
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(2));
    }

    #[test]
    fn suppression_is_reported_once_a_minute() {
        let mut budget = LogBudget::new(Count(1));
        let start = budget.window_start;
        let mut reported = Vec::new();
        for second in 0..=121 {
            for _ in 0..3 {
                let suppressed = budget.take(start + Duration::from_secs(second));
                reported.extend(suppressed.filter(|&n| n > 0));
            }
        }
        assert_eq!(reported, [2, 120, 120], "two in each second");
    }

    #[test]
    fn long_line_counts_as_several() {
        let mut budget = LogBudget::new(Count(4));
        let start = budget.window_start;
        assert_eq!(budget.take(start), Some(0));
        budget.charge_length(4 * LINE_BYTES);
        assert_eq!(budget.take(start), None);
    }
}
