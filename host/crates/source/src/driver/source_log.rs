//! Log events of a source, deduplicated and rate limited.
//!
//! | event | rule |
//! |---|---|
//! | lasting failure | logged once at WARN or INFO; repetitions with the same reason are logged at DEBUG |
//! | failure that recurs within [`FLAP_INTERVAL`] (flapping) | logged at DEBUG until it occurs twice in a row |
//! | any event | rate limited by [`LogLimit`]; events above the limit are logged at DEBUG |
//!
//! Each event has a fixed phrase ([`log_event`]); variable data is in its fields.

use reloader_engine::{
    Report, Role, UNCONFIRMED,
    types::{Failure, FailureKind, Revision, SourceName},
};
use reloader_util::log_limit::LogLimit;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{
    Level, debug,
    field::{DisplayValue, display},
    info, warn,
};

/// A failure that recurs for the same reason within this time after its end is flapping.
const FLAP_INTERVAL: Duration = Duration::from_secs(60);
/// Interval at which the rate limit allows one further event after a burst.
const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// Writer of the log events of one source, with the state that deduplication needs.
pub(super) struct Log {
    source: SourceName,
    read_failure: Option<Incident>,
    watch_failure: Option<Incident>,
    /// Reason of the last rejection, until the source confirms the published value or an explicit reload is requested.
    rejection: Option<Arc<str>>,
    staleness: Option<Incident>,
    rate_limit: LogLimit,
}

/// Reason of an incident. A different reason is a different incident.
#[derive(PartialEq, Eq)]
struct Reason {
    message: Arc<str>,
    is_quarantine: bool,
}

/// Period in which the source fails or its value is stale, ongoing or ended.
struct Incident {
    reason: Reason,
    /// Set once the incident is logged above DEBUG.
    is_logged: bool,
    /// End of the incident; `None` while it lasts.
    ended_at: Option<Instant>,
}

impl Incident {
    fn is_present(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Starts or continues an incident. Returns the level for its log event: `level`, or DEBUG if the incident is
    /// logged already or is flapping.
    fn start(incident: &mut Option<Self>, reason: Reason, now: Instant, level: Level) -> Level {
        let previous = incident.take().filter(|previous| previous.reason == reason);
        let (is_logged, is_new) = match previous {
            None => (true, true),
            Some(Self { ended_at: None, is_logged, .. }) => (true, !is_logged),
            Some(Self { ended_at: Some(at), .. }) => {
                // A quarantine lasts for minutes, so it is never flapping.
                let is_flapping =
                    !reason.is_quarantine && now.saturating_duration_since(at) < FLAP_INTERVAL;
                (!is_flapping, !is_flapping)
            }
        };
        *incident = Some(Self { reason, is_logged, ended_at: None });
        if is_new { level } else { Level::DEBUG }
    }

    /// Ends an incident. Returns the level for the log event of its end, or `None` without a present incident.
    fn end(incident: &mut Option<Self>, now: Instant) -> Option<Level> {
        let present = incident.as_mut().filter(|incident| incident.is_present())?;
        present.ended_at = Some(now);
        Some(if present.is_logged { Level::INFO } else { Level::DEBUG })
    }
}

/// Level, phrase and fields of a log event that is to be written.
#[derive(Debug)]
struct LogEvent {
    level: Level,
    phrase: &'static str,
    error: Option<Arc<str>>,
    revision: Option<Revision>,
    /// Kind of the calls that are in quarantine, e.g. `read`.
    call: Option<&'static str>,
    /// Number of consecutive crashes that led to the quarantine.
    crashes: Option<u32>,
    retry_in: Option<Duration>,
    /// Set if the event reports a failure of reading or watching.
    is_failure: bool,
}

impl LogEvent {
    fn new(level: Level, phrase: &'static str) -> Self {
        Self {
            level,
            phrase,
            error: None,
            revision: None,
            call: None,
            crashes: None,
            retry_in: None,
            is_failure: false,
        }
    }

    /// Sets the level to `level`: [`Level::DEBUG`] for a repeated event.
    fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }
}

/// Creates a log event from its level, phrase and fields. `cargo xtask log-events` finds the events by the calls of
/// this macro, and adds the field `source` and the level DEBUG (of repetitions) to each event.
macro_rules! log_event {
    ($level:ident, $phrase:literal $(, $field:ident)* $(,)?) => {
        LogEvent { $($field: $field.into(),)* ..LogEvent::new(Level::$level, $phrase) }
    };
}

impl Log {
    pub(super) fn new(source: SourceName, now: Instant) -> Self {
        Self {
            source,
            read_failure: None,
            watch_failure: None,
            rejection: None,
            staleness: None,
            rate_limit: LogLimit::new(RATE_LIMIT_INTERVAL, now),
        }
    }

    /// Logs the publication of a value.
    pub(super) fn value_changed(&self, revision: Revision) {
        debug!(source = %self.source, %revision, "value changed");
    }

    /// Logs the publication of a removal.
    pub(super) fn value_removed(&mut self, now: Instant, revision: Revision) {
        self.write(now, log_event!(INFO, "value removed", revision));
    }

    /// Records that the source has confirmed the published value: the next rejection is logged at WARN, also for the
    /// same reason.
    pub(super) fn value_confirmed(&mut self) {
        self.rejection = None;
    }

    /// Logs that the value has become stale, or is stale for another reason.
    pub(super) fn value_stale(&mut self, now: Instant, failure: &Failure) {
        if &*failure.message == UNCONFIRMED {
            return debug!(source = %self.source, "restored value not yet confirmed by the source");
        }
        // A new reason of a stale value is logged at DEBUG, because the failure itself has a log event.
        let is_logged =
            self.staleness.as_ref().is_some_and(|stale| stale.is_present() && stale.is_logged);
        let level = if is_logged { Level::DEBUG } else { Level::WARN };
        let reason = Reason { message: Arc::clone(&failure.message), is_quarantine: false };
        let level = Incident::start(&mut self.staleness, reason, now, level);
        self.write_stale(now, level, Arc::clone(&failure.message));
    }

    /// Logs a staleness at WARN that was logged at DEBUG as flapping, because its failure now lasts.
    fn value_still_stale(&mut self, now: Instant) {
        let unlogged =
            self.staleness.as_mut().filter(|stale| stale.is_present() && !stale.is_logged);
        if let Some(stale) = unlogged {
            stale.is_logged = true;
            let reason = Arc::clone(&stale.reason.message);
            self.write_stale(now, Level::WARN, reason);
        }
    }

    fn write_stale(&mut self, now: Instant, level: Level, error: Arc<str>) {
        self.write(now, log_event!(WARN, "value is stale", error).at(level));
    }

    /// Logs that the value is fresh again.
    pub(super) fn value_fresh(&mut self, now: Instant) {
        if let Some(level) = Incident::end(&mut self.staleness, now) {
            self.write(now, log_event!(INFO, "value is fresh").at(level));
        }
    }

    /// Forgets the logged failures before an explicit reload: a failure of the reload is then logged at its full
    /// level even if it repeats an earlier one, since the operator waits for the result.
    pub(super) fn reload_requested(&mut self) {
        (self.read_failure, self.watch_failure, self.rejection) = (None, None, None);
    }

    /// Logs a report of the engine.
    pub(super) fn report(&mut self, now: Instant, report: Report) {
        let Some(event) = self.event(now, report) else { return };
        let is_lasting_failure = event.is_failure && event.level != Level::DEBUG;
        self.write(now, event);
        if is_lasting_failure {
            self.value_still_stale(now);
        }
    }

    /// Returns the log event of a report, if it has one.
    fn event(&mut self, now: Instant, report: Report) -> Option<LogEvent> {
        let event = match report {
            Report::Watching => match Incident::end(&mut self.watch_failure, now) {
                Some(level) => log_event!(INFO, "watch recovered").at(level),
                None => log_event!(DEBUG, "watch opened"),
            },
            Report::NoValueYet => log_event!(INFO, "source has no value yet"),
            Report::Recovered => {
                let level = Incident::end(&mut self.read_failure, now)?;
                log_event!(INFO, "read recovered").at(level)
            }
            Report::RemovalUnconfirmed { confirm_in: retry_in } => {
                log_event!(
                    DEBUG,
                    "source reports an absent or empty value, reading again before accepting it",
                    retry_in
                )
            }
            Report::DiffersFromPin => {
                log_event!(
                    INFO,
                    "source value differs from the pinned value, keeping the pinned value"
                )
            }
            Report::Rejected { failure, retry_in } => {
                let is_repeated = self.rejection.as_ref() == Some(&failure.message);
                let level = if is_repeated { Level::DEBUG } else { Level::WARN };
                self.rejection = Some(Arc::clone(&failure.message));
                let error = failure.message;
                log_event!(WARN, "new value rejected, keeping the last good value", error, retry_in)
                    .at(level)
            }
            Report::FetchFailed { failure, retry_in } => {
                self.failure_event(now, Role::Reading, failure, None, retry_in)
            }
            Report::WatchLost { failure, retry_in } => {
                self.failure_event(now, Role::Watching, failure, None, retry_in)
            }
            Report::Quarantined { role, failure, crashes, retry_in } => {
                self.failure_event(now, role, failure, Some(crashes), retry_in)
            }
        };
        Some(event)
    }

    /// Returns the log event of a failure. `crashes` is the number of consecutive crashes that led to a quarantine.
    fn failure_event(
        &mut self,
        now: Instant,
        role: Role,
        failure: Failure,
        crashes: Option<u32>,
        retry_in: Duration,
    ) -> LogEvent {
        let (incident, call) = match role {
            Role::Reading => (&mut self.read_failure, "read"),
            Role::Watching => (&mut self.watch_failure, "watch"),
        };
        // A source that cannot be watched at all is logged at INFO: this is a property of the source, not a fault.
        let is_unsupported = role == Role::Watching && failure.kind == FailureKind::Permanent;
        let error = Arc::clone(&failure.message);
        let event = match (crashes, role) {
            (Some(crashes), _) => {
                log_event!(WARN, "source quarantined", error, call, crashes, retry_in)
            }
            (None, Role::Watching) if is_unsupported => {
                log_event!(INFO, "watch not available", error, retry_in)
            }
            (None, Role::Reading) => log_event!(WARN, "read failed", error, retry_in),
            (None, Role::Watching) => log_event!(WARN, "watch failed", error, retry_in),
        };
        let reason = Reason { message: failure.message, is_quarantine: crashes.is_some() };
        let level = Incident::start(incident, reason, now, event.level);
        LogEvent { is_failure: true, ..event.at(level) }
    }

    /// Writes an event. Above the rate limit, it is written at DEBUG.
    fn write(&mut self, now: Instant, event: LogEvent) {
        let source = &self.source;
        let LogEvent { mut level, phrase, error, revision, call, crashes, retry_in, .. } = event;
        if level != Level::DEBUG {
            match self.rate_limit.allow(now) {
                None => level = Level::DEBUG,
                Some(0) => {}
                Some(suppressed) => {
                    warn!(%source, suppressed, "log rate limit exceeded, events suppressed");
                }
            }
        }
        let error = error.as_ref().map(display);
        let (revision, call) = (revision.map(display), call.map(display));
        let retry_in = retry_in.map(whole_milliseconds);
        match level {
            Level::WARN => warn!(%source, error, revision, call, crashes, retry_in, "{phrase}"),
            Level::INFO => info!(%source, error, revision, call, crashes, retry_in, "{phrase}"),
            _ => debug!(%source, error, revision, call, crashes, retry_in, "{phrase}"),
        }
    }
}

/// Returns a duration as text, without the part below a millisecond.
fn whole_milliseconds(time: Duration) -> DisplayValue<humantime::FormattedDuration> {
    let milliseconds = time.as_millis().try_into().unwrap_or(u64::MAX);
    display(humantime::format_duration(Duration::from_millis(milliseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_util::log_limit::BURST_EVENTS;

    fn log() -> (Log, Instant) {
        let now = Instant::now();
        (Log::new(SourceName::new("app"), now), now)
    }

    fn crash(message: &str) -> Failure {
        Failure::new(FailureKind::Crashed, message)
    }

    /// Returns the log event of a report that has one.
    fn event(log: &mut Log, now: Instant, report: Report) -> LogEvent {
        log.event(now, report).expect("the report is logged")
    }

    fn recovered(log: &mut Log, now: Instant) -> Level {
        event(log, now, Report::Recovered).level
    }

    fn failed(log: &mut Log, now: Instant, message: &str) -> Level {
        event(log, now, failure(message)).level
    }

    fn failure(message: &str) -> Report {
        Report::FetchFailed { failure: crash(message), retry_in: Duration::from_secs(1) }
    }

    fn quarantined(log: &mut Log, now: Instant, crashes: u32) -> LogEvent {
        let (role, failure) = (Role::Reading, crash("it trapped"));
        let retry_in = Duration::from_secs(300);
        event(log, now, Report::Quarantined { role, failure, crashes, retry_in })
    }

    #[test]
    fn lasting_failure_is_logged_once() {
        let (mut log, now) = log();
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN);
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(failed(&mut log, now, "CPU time exceeded"), Level::WARN);
        assert_eq!(recovered(&mut log, now), Level::INFO);
        assert_eq!(failed(&mut log, now + FLAP_INTERVAL, "CPU time exceeded"), Level::WARN);
    }

    #[test]
    fn flapping_failure_is_logged_when_it_lasts() {
        let (mut log, now) = log();
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN);
        assert_eq!(recovered(&mut log, now), Level::INFO);
        for _ in 0..3 {
            assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
            assert_eq!(recovered(&mut log, now), Level::DEBUG);
        }
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN, "the failure lasts");
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(recovered(&mut log, now), Level::INFO);
        assert_eq!(failed(&mut log, now, "no answer"), Level::WARN, "a different reason");
    }

    #[test]
    fn flapping_staleness_is_logged_when_it_lasts() {
        let (mut log, now) = log();
        log.report(now, failure("it trapped"));
        log.value_stale(now, &crash("it trapped"));
        for _ in 0..3 {
            log.report(now, Report::Recovered);
            log.value_fresh(now);
            log.report(now, failure("it trapped"));
            log.value_stale(now, &crash("it trapped"));
        }
        let (first_incident, lasting_failure) = (4, 2);
        assert_eq!(log.rate_limit.available(now), BURST_EVENTS - first_incident);
        log.report(now, failure("it trapped"));
        let logged = first_incident + lasting_failure;
        assert_eq!(log.rate_limit.available(now), BURST_EVENTS - logged);
        log.report(now, failure("it trapped"));
        assert_eq!(log.rate_limit.available(now), BURST_EVENTS - logged);
    }

    #[test]
    fn lasting_quarantine_is_logged_once() {
        let (mut log, now) = log();
        failed(&mut log, now, "it trapped");
        let first = quarantined(&mut log, now, 5);
        assert_eq!((first.level, first.phrase), (Level::WARN, "source quarantined"));
        assert_eq!((first.call, first.crashes), (Some("read"), Some(5)));
        assert_eq!(first.error.as_deref(), Some("it trapped"));
        assert_eq!(quarantined(&mut log, now, 6).level, Level::DEBUG);
        assert_eq!(recovered(&mut log, now), Level::INFO);
        assert_eq!(quarantined(&mut log, now, 7).level, Level::WARN, "never flapping");
        log.reload_requested();
        assert_eq!(quarantined(&mut log, now, 8).level, Level::WARN, "after an explicit reload");
    }

    #[test]
    fn new_stale_reason_is_not_logged() {
        let (mut log, now) = log();
        log.value_stale(now, &crash("it trapped"));
        let available = log.rate_limit.available(now);
        log.value_stale(now, &crash("in quarantine"));
        assert_eq!(log.rate_limit.available(now), available);
        log.value_fresh(now);
        log.value_stale(now, &crash("it trapped"));
        assert_eq!(log.rate_limit.available(now), available - 2);
    }

    /// A restored value is unconfirmed at each start, which is not worth an event above DEBUG.
    #[test]
    fn unconfirmed_value_is_logged_at_debug() {
        let (mut log, now) = log();
        log.value_stale(now, &Failure::transient(UNCONFIRMED));
        log.value_fresh(now);
        assert_eq!(log.rate_limit.available(now), BURST_EVENTS);
        log.value_stale(now, &Failure::transient(UNCONFIRMED));
        log.value_stale(now, &crash("it trapped"));
        log.value_fresh(now);
        assert_eq!(log.rate_limit.available(now), BURST_EVENTS - 2);
    }

    #[test]
    fn events_are_rate_limited() {
        let (mut log, start) = log();
        for _ in 0..1000 {
            log.value_removed(start, Revision::default());
        }
        let later = start + RATE_LIMIT_INTERVAL;
        assert_eq!(log.rate_limit.allow(later), Some(1000 - u64::from(BURST_EVENTS)));
        assert_eq!(log.rate_limit.allow(later), None);
    }
}
