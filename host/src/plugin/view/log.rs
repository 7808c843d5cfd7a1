//! The import `log`: a guest's events, in the host's log, in bounded number and length.

use super::{View, wit};
use crate::{
    plugin::limits::Count,
    text::{start, tidy},
};
use std::{
    fmt::Write,
    sync::PoisonError,
    time::{Duration, Instant},
};
use tracing::{Level, level_filters::LevelFilter};
use wit::log::{Field, Level as GuestLevel};

/// More fields are left out.
const FIELDS_MAX: usize = 32;

/// How many lines a source may write in this second.
#[derive(Debug)]
pub(in crate::plugin) struct LineBudget {
    per_second: Count,
    second: Instant,
    written: u32,
    suppressed: u64,
}

impl LineBudget {
    pub(in crate::plugin) fn new(per_second: Count) -> Self {
        Self { per_second, second: Instant::now(), written: 0, suppressed: 0 }
    }

    /// Whether one more may be written, and how many were not before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.written) = (now, 0);
        }
        if self.written >= self.per_second.0 {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl View {
    /// A guest's text as it may be shown: without what is secret, before it is cut, and tidy.
    fn shown(&self, text: &str) -> String {
        tidy(&self.configured.secrets.redact(start(text)))
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
        let lines = self.surroundings.lines.lock();
        match lines.unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
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
        let text = tidy(&text);
        let module = self.shown(&target);
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
}
