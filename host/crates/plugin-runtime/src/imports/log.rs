//! The import `log`: a guest's events, in the host's log, in bounded number and length.

use super::{View, wit};
use crate::limits::Count;
use reloader_util::sanitize::{prefix, sanitize};
use std::{
    fmt::Write,
    mem,
    sync::PoisonError,
    time::{Duration, Instant},
};
use tracing::{Level, level_filters::LevelFilter};
use wit::log::{Field, Level as GuestLevel};

/// A line that is longer than this counts as several, in bytes.
const LINE: usize = 256;
/// Where in the plugin it was written need not be longer, in bytes.
const MODULE_MAX: usize = 128;
/// That lines were left out is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// More fields are left out.
const FIELDS_MAX: usize = 32;

/// How many lines a source may write in this second, and how many it could not.
#[derive(Debug)]
pub(crate) struct LineBudget {
    per_second: Count,
    second: Instant,
    written: u32,
    suppressed: u64,
    told: Option<Instant>,
}

impl LineBudget {
    pub(crate) fn new(per_second: Count) -> Self {
        Self { per_second, second: Instant::now(), written: 0, suppressed: 0, told: None }
    }

    /// Whether one more may be written, and of how many is to be told that they were not.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.written) = (now, 0);
        }
        if self.written >= self.per_second.0 {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        let was_told = self.told.is_some_and(|at| now.duration_since(at) < TELL_AGAIN);
        if self.suppressed == 0 || was_told {
            return Some(0);
        }
        self.told = Some(now);
        Some(mem::take(&mut self.suppressed))
    }

    /// It is so long.
    fn is_of(&mut self, bytes: usize) {
        let more = bytes.div_ceil(LINE).saturating_sub(1);
        self.written = self.written.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }
}

impl View {
    /// A guest's text as it may be shown: without what is secret, before it is cut, and tidy.
    fn shown(&self, text: &str) -> String {
        sanitize(&self.configured.secrets.redact(prefix(text)))
    }
}

impl wit::log::Host for View {
    fn event(
        &mut self,
        level: GuestLevel,
        target: String,
        message: String,
        fields: Vec<Field>,
    ) -> wasmtime::Result<()> {
        let source = &self.surroundings.source;
        let lines = || self.surroundings.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines().take(Instant::now()) {
            None => return Ok(()),
            Some(0) => {}
            Some(suppressed) => {
                let limit = self.surroundings.limits.cite("log-lines");
                tracing::warn!(
                    %source,
                    suppressed,
                    "the plugin logs too much, and lines were left out: {limit} a second"
                );
            }
        }
        let mut text = self.shown(&message);
        for Field { name, value } in fields.iter().take(FIELDS_MAX) {
            let _ = write!(text, " {}={}", self.shown(name), self.shown(value));
        }
        // It is as long as a line may be: with all its fields too.
        let text = sanitize(&text);
        let mut module = self.shown(&target);
        module.truncate(module.floor_char_boundary(MODULE_MAX));
        lines().is_of(text.len());
        match level {
            GuestLevel::Trace => tracing::trace!(%source, %module, "{text}"),
            GuestLevel::Debug => tracing::debug!(%source, %module, "{text}"),
            GuestLevel::Info => tracing::info!(%source, %module, "{text}"),
            GuestLevel::Warn => tracing::warn!(%source, %module, "{text}"),
            GuestLevel::Error => tracing::error!(%source, %module, "{text}"),
        }
        Ok(())
    }

    fn max_level(&mut self) -> wasmtime::Result<GuestLevel> {
        Ok(match LevelFilter::current().into_level() {
            Some(Level::TRACE) => GuestLevel::Trace,
            Some(Level::DEBUG) => GuestLevel::Debug,
            Some(Level::INFO) => GuestLevel::Info,
            Some(Level::WARN) => GuestLevel::Warn,
            Some(Level::ERROR) | None => GuestLevel::Error,
        })
    }

    fn panicked(&mut self, message: String, location: Option<String>) -> wasmtime::Result<()> {
        let place = location.map(|place| format!(" at {}", self.shown(&place))).unwrap_or_default();
        self.last_words = Some(format!("{}{place}", self.shown(&message)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_written() {
        let mut budget = LineBudget::new(Count(2));
        let start = budget.second;
        assert_eq!([1, 2, 3, 4].map(|_| budget.take(start)), [Some(0), Some(0), None, None]);
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(2));
    }

    #[test]
    fn that_lines_were_left_out_is_told_once_a_minute() {
        let mut budget = LineBudget::new(Count(1));
        let start = budget.second;
        let mut told = Vec::new();
        for second in 0..=121 {
            for _ in 0..3 {
                told.extend(budget.take(start + Duration::from_secs(second)).filter(|&n| n > 0));
            }
        }
        assert_eq!(told, [2, 120, 120], "two in each second");
    }

    #[test]
    fn a_long_line_counts_as_several() {
        let mut budget = LineBudget::new(Count(4));
        let start = budget.second;
        assert_eq!(budget.take(start), Some(0));
        budget.is_of(4 * LINE);
        assert_eq!(budget.take(start), None);
    }
}
