//! What an operator is told of a source. What stays broken is said once, at its own level, and again
//! only in the details until the reason changes; what breaks again and again for the same reason, and works
//! in between, is in the details, too, until it stays so; and no source fills the log, whatever it does.

use reloader_engine::{
    Report, Role, UNCONFIRMED,
    types::{Failure, FailureKind, Revision, SourceName},
};
use reloader_util::log_limit::LogLimit;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{Level, debug, info, warn};

/// What breaks again for the same reason before it has worked for so long comes and goes.
const CALM: Duration = Duration::from_secs(60);
/// After some lines at once, there is one each time that this has passed.
const ONE_MORE: Duration = Duration::from_secs(10);

pub(super) struct Log {
    source: SourceName,
    reading: Option<Broken>,
    watching: Option<Broken>,
    judging: Option<Arc<str>>,
    stale: Option<Broken>,
    lines: LogLimit,
}

/// Why something is broken.
#[derive(PartialEq, Eq)]
struct Reason {
    message: Arc<str>,
    is_in_quarantine: bool,
}

/// Something that is broken, or was.
struct Broken {
    reason: Reason,
    /// Whether the log says so.
    is_told: bool,
    /// When it worked again.
    over: Option<Instant>,
}

impl Broken {
    fn is_now(&self) -> bool {
        self.over.is_none()
    }

    /// This is broken, which is worth a line of this level, or one for the details: it has been said, or comes
    /// and goes.
    fn begins(said: &mut Option<Self>, reason: Reason, now: Instant, level: Level) -> Level {
        let before = said.take().filter(|before| before.reason == reason);
        let (is_told, is_news) = match before {
            None => (true, true),
            Some(Self { over: None, is_told, .. }) => (true, !is_told),
            // A quarantine lasts.
            Some(Self { over: Some(at), .. }) => {
                let lasts = reason.is_in_quarantine || now.saturating_duration_since(at) >= CALM;
                (lasts, lasts)
            }
        };
        *said = Some(Self { reason, is_told, over: None });
        if is_news { level } else { Level::DEBUG }
    }

    /// This works again, which is worth a line of this level, if it is any news.
    fn ends(said: &mut Option<Self>, now: Instant) -> Option<Level> {
        let broken = said.as_mut().filter(|broken| broken.is_now())?;
        broken.over = Some(now);
        Some(if broken.is_told { Level::INFO } else { Level::DEBUG })
    }
}

/// One line.
#[derive(Debug)]
struct Line {
    level: Level,
    retry_in: Option<Duration>,
    text: String,
}

impl Line {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, retry_in: None, text: text.into() }
    }
}

impl Log {
    pub(super) fn new(source: SourceName, now: Instant) -> Self {
        Self {
            source,
            reading: None,
            watching: None,
            judging: None,
            stale: None,
            lines: LogLimit::new(ONE_MORE, now),
        }
    }

    pub(super) fn changed(&self, revision: Revision) {
        debug!(source = %self.source, %revision, "changed");
    }

    pub(super) fn removed(&mut self, now: Instant, revision: Revision) {
        self.write(now, Line::new(Level::INFO, format!("removed (revision {revision})")));
    }

    /// The source stands for its value.
    pub(super) fn confirmed(&mut self) {
        self.judging = None;
    }

    pub(super) fn stale(&mut self, now: Instant, failure: &Failure) {
        if &*failure.message == UNCONFIRMED {
            return debug!(source = %self.source, "the value is from before the start");
        }
        // Another reason has its own line.
        let is_told = self.stale.as_ref().is_some_and(|stale| stale.is_now() && stale.is_told);
        let level = if is_told { Level::DEBUG } else { Level::WARN };
        let reason = Reason { message: Arc::clone(&failure.message), is_in_quarantine: false };
        let level = Broken::begins(&mut self.stale, reason, now, level);
        self.write(now, Line::new(level, format!("the value is stale: {failure}")));
    }

    /// What came and went, and was not told, stays.
    fn still_stale(&mut self, now: Instant) {
        if let Some(stale) = self.stale.as_mut().filter(|stale| stale.is_now() && !stale.is_told) {
            stale.is_told = true;
            let text = format!("the value is stale: {}", stale.reason.message);
            self.write(now, Line::new(Level::WARN, text));
        }
    }

    pub(super) fn fresh(&mut self, now: Instant) {
        if let Some(level) = Broken::ends(&mut self.stale, now) {
            self.write(now, Line::new(level, "the value is fresh again"));
        }
    }

    /// Somebody has asked for the source to be read now, and wants to know what comes of it.
    pub(super) fn insisted(&mut self) {
        (self.reading, self.watching, self.judging) = (None, None, None);
    }

    pub(super) fn report(&mut self, now: Instant, report: Report) {
        let Some(line) = self.line(now, report) else { return };
        let stays_broken = line.retry_in.is_some() && line.level != Level::DEBUG;
        self.write(now, line);
        if stays_broken {
            self.still_stale(now);
        }
    }

    fn line(&mut self, now: Instant, report: Report) -> Option<Line> {
        let line = match report {
            Report::Watching => match Broken::ends(&mut self.watching, now) {
                Some(level) => Line::new(level, "watching again"),
                None => Line::new(Level::DEBUG, "watching"),
            },
            Report::NothingYet => Line::new(Level::INFO, "there is no value yet"),
            Report::Recovered => {
                let level = Broken::ends(&mut self.reading, now)?;
                Line::new(level, "the source answers again")
            }
            Report::Doubt { ask_again_in } => {
                let again = humantime::format_duration(ask_again_in);
                let text = format!("there seems to be nothing; asking again in {again}");
                Line::new(Level::DEBUG, text)
            }
            Report::HeldBack => Line::new(
                Level::INFO,
                "the source has another value than the pinned one, which stays",
            ),
            Report::Refused { failure, .. } => {
                let again = self.judging.as_ref() == Some(&failure.message);
                let line = if again {
                    Line::new(Level::DEBUG, format!("the new value is refused again: {failure}"))
                } else {
                    let text = format!("the new value is refused, and not let through: {failure}");
                    Line::new(Level::WARN, text)
                };
                self.judging = Some(failure.message);
                line
            }
            Report::FetchFailed { failure, retry_in } => {
                self.broken(now, Role::Reading, failure, None, retry_in)
            }
            Report::WatchLost { failure, retry_in } => {
                self.broken(now, Role::Watching, failure, None, retry_in)
            }
            Report::Quarantined { role, failure, crashes, retry_in } => {
                self.broken(now, role, failure, Some(crashes), retry_in)
            }
        };
        Some(line)
    }

    /// `crashes`: after so many in a row it is in quarantine.
    fn broken(
        &mut self,
        now: Instant,
        role: Role,
        failure: Failure,
        crashes: Option<u32>,
        retry_in: Duration,
    ) -> Line {
        let said = match role {
            Role::Reading => &mut self.reading,
            Role::Watching => &mut self.watching,
        };
        let text = match crashes {
            Some(crashes) => {
                format!("{role} is in quarantine, after {crashes} crashes in a row: {failure}")
            }
            None => format!("{role} failed: {failure}"),
        };
        // Not to be told of changes is a property of the source, not an incident.
        let is_property = role == Role::Watching && failure.kind == FailureKind::Permanent;
        let level = if is_property { Level::INFO } else { Level::WARN };
        let reason = Reason { message: failure.message, is_in_quarantine: crashes.is_some() };
        let level = Broken::begins(said, reason, now, level);
        Line { level, retry_in: Some(retry_in), text }
    }

    fn write(&mut self, now: Instant, line: Line) {
        let source = &self.source;
        let Line { mut level, retry_in, text } = line;
        if level != Level::DEBUG {
            match self.lines.allow(now) {
                None => level = Level::DEBUG,
                Some(0) => {}
                Some(left_out) => {
                    warn!(%source, left_out, "the source has too much to say; lines were left out");
                }
            }
        }
        let retry_in = retry_in.map(|time| {
            let milliseconds = time.as_millis().try_into().unwrap_or(u64::MAX);
            let time = Duration::from_millis(milliseconds);
            tracing::field::display(humantime::format_duration(time))
        });
        match level {
            Level::WARN => warn!(%source, retry_in, "{text}"),
            Level::INFO => info!(%source, retry_in, "{text}"),
            _ => debug!(%source, retry_in, "{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_util::log_limit::BURST;

    fn log() -> (Log, Instant) {
        let now = Instant::now();
        (Log::new(SourceName::new("app"), now), now)
    }

    fn crash(message: &str) -> Failure {
        Failure::new(FailureKind::Crashed, message)
    }

    /// The level of the line, and the line.
    fn said(log: &mut Log, now: Instant, report: Report) -> (Level, String) {
        let line = log.line(now, report).expect("it says something");
        (line.level, line.text)
    }

    fn failed(log: &mut Log, now: Instant, message: &str) -> Level {
        said(log, now, failure(message)).0
    }

    fn failure(message: &str) -> Report {
        Report::FetchFailed { failure: crash(message), retry_in: Duration::from_secs(1) }
    }

    fn quarantined(log: &mut Log, now: Instant, crashes: u32) -> (Level, String) {
        let (role, failure) = (Role::Reading, crash("it trapped"));
        let retry_in = Duration::from_secs(300);
        said(log, now, Report::Quarantined { role, failure, crashes, retry_in })
    }

    #[test]
    fn what_stays_broken_is_said_once() {
        let (mut log, now) = log();
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN);
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(failed(&mut log, now, "it computed for too long"), Level::WARN);
        assert_eq!(said(&mut log, now, Report::Recovered).0, Level::INFO);
        assert_eq!(failed(&mut log, now + CALM, "it computed for too long"), Level::WARN);
    }

    #[test]
    fn what_comes_and_goes_is_said_once_until_it_stays() {
        let (mut log, now) = log();
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN);
        assert_eq!(said(&mut log, now, Report::Recovered).0, Level::INFO);
        for _ in 0..3 {
            assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
            assert_eq!(said(&mut log, now, Report::Recovered).0, Level::DEBUG);
        }
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(failed(&mut log, now, "it trapped"), Level::WARN, "it does not go");
        assert_eq!(failed(&mut log, now, "it trapped"), Level::DEBUG);
        assert_eq!(said(&mut log, now, Report::Recovered).0, Level::INFO);
        assert_eq!(failed(&mut log, now, "no answer"), Level::WARN, "something else");
    }

    #[test]
    fn a_value_that_is_stale_by_turns_is_said_to_be_so_once_until_it_stays() {
        let (mut log, now) = log();
        log.report(now, failure("it trapped"));
        log.stale(now, &crash("it trapped"));
        for _ in 0..3 {
            log.report(now, Report::Recovered);
            log.fresh(now);
            log.report(now, failure("it trapped"));
            log.stale(now, &crash("it trapped"));
        }
        assert_eq!(log.lines.available(now), BURST - 4, "broken and well, stale and fresh");
        log.report(now, failure("it trapped"));
        assert_eq!(log.lines.available(now), BURST - 6, "it is broken, and the value is stale");
        log.report(now, failure("it trapped"));
        assert_eq!(log.lines.available(now), BURST - 6);
    }

    #[test]
    fn a_quarantine_has_a_line_of_its_own_and_one_that_goes_on_has_none() {
        let (mut log, now) = log();
        failed(&mut log, now, "it trapped");
        let line = "reading is in quarantine, after 5 crashes in a row: it trapped";
        assert_eq!(quarantined(&mut log, now, 5), (Level::WARN, line.into()));
        assert_eq!(quarantined(&mut log, now, 6).0, Level::DEBUG);
        assert_eq!(said(&mut log, now, Report::Recovered).0, Level::INFO);
        assert_eq!(quarantined(&mut log, now, 7).0, Level::WARN, "it lasts");
        log.insisted();
        assert_eq!(quarantined(&mut log, now, 8).0, Level::WARN, "to who insists it is said again");
    }

    #[test]
    fn that_a_value_is_stale_for_another_reason_is_not_said_twice() {
        let (mut log, now) = log();
        log.stale(now, &crash("it trapped"));
        let left = log.lines.available(now);
        log.stale(now, &crash("in quarantine"));
        assert_eq!(log.lines.available(now), left);
        log.fresh(now);
        log.stale(now, &crash("it trapped"));
        assert_eq!(log.lines.available(now), left - 2);
    }

    #[test]
    fn that_a_value_is_not_confirmed_yet_is_a_part_of_every_start() {
        let (mut log, now) = log();
        log.stale(now, &Failure::transient(UNCONFIRMED));
        log.fresh(now);
        assert_eq!(log.lines.available(now), BURST);
        log.stale(now, &Failure::transient(UNCONFIRMED));
        log.stale(now, &crash("it trapped"));
        log.fresh(now);
        assert_eq!(log.lines.available(now), BURST - 2);
    }

    #[test]
    fn no_source_fills_the_log() {
        let (mut log, start) = log();
        for _ in 0..1000 {
            log.removed(start, Revision::default());
        }
        assert_eq!(log.lines.allow(start + ONE_MORE), Some(1000 - u64::from(BURST)));
        assert_eq!(log.lines.allow(start + ONE_MORE), None);
    }
}
