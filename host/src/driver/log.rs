//! What an operator is told of a source. What stays broken is said once, at its own level, and again
//! only in the details until the reason changes; and no source fills the log, whatever it does.

use crate::{
    engine::{Report, Role, UNCONFIRMED},
    lines::Lines,
    model::{Failure, FailureKind, Revision, SourceName},
};
use std::{
    mem::{replace, take},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{Level, debug, info, warn};

/// After some lines at once, there is one each time that this has passed.
const ONE_MORE: Duration = Duration::from_secs(10);

pub(super) struct Log {
    source: SourceName,
    reading: Option<Broken>,
    watching: Option<Broken>,
    judging: Option<Arc<str>>,
    is_stale: bool,
    lines: Lines,
}

/// What has been said of something that is broken.
#[derive(PartialEq, Eq)]
struct Broken {
    reason: Arc<str>,
    is_in_quarantine: bool,
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
            is_stale: false,
            lines: Lines::new(ONE_MORE, now),
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
        let level = if replace(&mut self.is_stale, true) { Level::DEBUG } else { Level::WARN };
        self.write(now, Line::new(level, format!("the value is stale: {failure}")));
    }

    pub(super) fn fresh(&mut self, now: Instant) {
        if take(&mut self.is_stale) {
            self.write(now, Line::new(Level::INFO, "the value is fresh again"));
        }
    }

    /// Somebody has asked for the source to be read now, and wants to know what comes of it.
    pub(super) fn insisted(&mut self) {
        (self.reading, self.watching, self.judging) = (None, None, None);
    }

    pub(super) fn report(&mut self, now: Instant, report: Report) {
        if let Some(line) = self.line(report) {
            self.write(now, line);
        }
    }

    fn line(&mut self, report: Report) -> Option<Line> {
        let line = match report {
            Report::Watching => match self.watching.take() {
                Some(_) => Line::new(Level::INFO, "watching again"),
                None => Line::new(Level::DEBUG, "watching"),
            },
            Report::NothingYet => Line::new(Level::INFO, "there is no value yet"),
            Report::Recovered => {
                self.reading.take()?;
                Line::new(Level::INFO, "the source answers again")
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
                self.broken(Role::Reading, failure, None, retry_in)
            }
            Report::WatchLost { failure, retry_in } => {
                self.broken(Role::Watching, failure, None, retry_in)
            }
            Report::Quarantined { role, failure, crashes, retry_in } => {
                self.broken(role, failure, Some(crashes), retry_in)
            }
        };
        Some(line)
    }

    /// `crashes`: after so many in a row it is in quarantine.
    fn broken(
        &mut self,
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
        let broken = Broken { reason: failure.message, is_in_quarantine: crashes.is_some() };
        let level = if said.as_ref() == Some(&broken) {
            Level::DEBUG
        } else if is_property {
            Level::INFO
        } else {
            Level::WARN
        };
        *said = Some(broken);
        Line { level, retry_in: Some(retry_in), text }
    }

    fn write(&mut self, now: Instant, line: Line) {
        let source = &self.source;
        let Line { mut level, retry_in, text } = line;
        if level != Level::DEBUG {
            match self.lines.take(now) {
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
    use crate::lines::LINES;

    fn log() -> (Log, Instant) {
        let now = Instant::now();
        (Log::new(SourceName::new("app"), now), now)
    }

    fn crash(message: &str) -> Failure {
        Failure::new(FailureKind::Crashed, message)
    }

    /// The level of the line, and the line.
    fn said(log: &mut Log, report: Report) -> (Level, String) {
        let line = log.line(report).expect("it says something");
        (line.level, line.text)
    }

    fn failed(log: &mut Log, message: &str) -> Level {
        let retry_in = Duration::from_secs(1);
        said(log, Report::FetchFailed { failure: crash(message), retry_in }).0
    }

    fn quarantined(log: &mut Log, crashes: u32) -> (Level, String) {
        let (role, failure) = (Role::Reading, crash("it trapped"));
        let retry_in = Duration::from_secs(300);
        said(log, Report::Quarantined { role, failure, crashes, retry_in })
    }

    #[test]
    fn what_stays_broken_is_said_once() {
        let (mut log, _) = log();
        assert_eq!(failed(&mut log, "it trapped"), Level::WARN);
        assert_eq!(failed(&mut log, "it trapped"), Level::DEBUG);
        assert_eq!(failed(&mut log, "it computed for too long"), Level::WARN);
        assert_eq!(said(&mut log, Report::Recovered).0, Level::INFO);
        assert_eq!(failed(&mut log, "it computed for too long"), Level::WARN);
    }

    #[test]
    fn a_quarantine_has_a_line_of_its_own_and_one_that_goes_on_has_none() {
        let (mut log, _) = log();
        failed(&mut log, "it trapped");
        let line = "reading is in quarantine, after 5 crashes in a row: it trapped";
        assert_eq!(quarantined(&mut log, 5), (Level::WARN, line.into()));
        assert_eq!(quarantined(&mut log, 6).0, Level::DEBUG);
        log.insisted();
        assert_eq!(quarantined(&mut log, 7).0, Level::WARN, "to who insists it is said again");
    }

    #[test]
    fn that_a_value_is_stale_for_another_reason_is_not_said_twice() {
        let (mut log, now) = log();
        log.stale(now, &crash("it trapped"));
        let left = log.lines.left;
        log.stale(now, &crash("in quarantine"));
        assert_eq!(log.lines.left, left);
        log.fresh(now);
        log.stale(now, &crash("it trapped"));
        assert_eq!(log.lines.left, left - 2);
    }

    #[test]
    fn that_a_value_is_not_confirmed_yet_is_a_part_of_every_start() {
        let (mut log, now) = log();
        log.stale(now, &Failure::transient(UNCONFIRMED));
        log.fresh(now);
        assert_eq!(log.lines.left, LINES);
        log.stale(now, &Failure::transient(UNCONFIRMED));
        log.stale(now, &crash("it trapped"));
        log.fresh(now);
        assert_eq!(log.lines.left, LINES - 2);
    }

    #[test]
    fn a_source_that_comes_and_goes_does_not_fill_the_log() {
        let (mut log, start) = log();
        for _ in 0..1000 {
            log.stale(start, &crash("it trapped"));
            log.fresh(start);
        }
        assert_eq!(log.lines.take(start + ONE_MORE), Some(2000 - u64::from(LINES)));
        assert_eq!(log.lines.take(start + ONE_MORE), None);
    }
}
