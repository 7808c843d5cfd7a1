//! Import `log`: writes a guest's events to the host's log, with limits on their rate and length.

use super::host_state::HostState;
use crate::bindings::reloader::plugin as wit;
use reloader_util::sanitize::sanitize;
use std::{fmt::Write, time::Instant};
use tracing::{Level, level_filters::LevelFilter};
use wit::log::{Field, Level as GuestLevel};

/// Maximum length of the module (the log target) of a guest's event, in bytes. A longer name is truncated.
const MAX_MODULE_BYTES: usize = 128;
/// Maximum number of fields of an event. Further ones are omitted.
const MAX_FIELDS: usize = 32;

impl wit::log::Host for HostState {
    fn event(
        &mut self,
        level: GuestLevel,
        target: String,
        message: String,
        fields: Vec<Field>,
    ) -> wasmtime::Result<()> {
        let source = &self.context.source;
        let (log_limit, now) = (&self.context.log_limit, Instant::now());
        match log_limit.lock().take(now) {
            None => return Ok(()),
            Some(0) => {}
            Some(suppressed) => {
                let limit = self.context.limits.cite("log-lines");
                tracing::warn!(%source, suppressed, limit, "plugin log lines suppressed");
            }
        }
        let mut text = self.displayable(&message);
        for Field { name, value } in fields.iter().take(MAX_FIELDS) {
            let _ = write!(text, " {}={}", self.displayable(name), self.displayable(value));
        }
        // `sanitize` also truncates: the length limit applies to the message together with its fields.
        let text = sanitize(&text);
        let mut module = self.displayable(&target);
        module.truncate(module.floor_char_boundary(MAX_MODULE_BYTES));
        log_limit.lock().charge_length(text.len(), now);
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
        let location = location.map(|location| format!(" at {}", self.displayable(&location)));
        let location = location.unwrap_or_default();
        self.panic_message = Some(format!("{}{location}", self.displayable(&message)));
        Ok(())
    }
}
