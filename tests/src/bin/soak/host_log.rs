//! Log of the host over all its processes: counts of the events by level and phrase, and the complete log in a file.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Maximum number of different phrases that are counted. Lines that are not log events, such as panic messages,
/// count as phrases of their own.
const MAX_PHRASES: usize = 1_000;

/// Level and phrase of an event.
pub(crate) type Event = (String, String);

/// Log of the host across its restarts.
pub(crate) struct HostLog(Mutex<State>);

struct State {
    counts: BTreeMap<Event, u64>,
    /// Address of the API of the running process.
    api: Option<SocketAddr>,
    /// `true` while the running process cannot write its state.
    state_outage: bool,
    file: File,
}

impl HostLog {
    /// Creates an empty log that is also written to a file.
    pub(crate) fn new(file: &Path) -> Self {
        let file = File::create(file).expect("the directory of the soak test is writable");
        Self(Mutex::new(State { counts: BTreeMap::new(), api: None, state_outage: false, file }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the standard error of one process to its end.
    pub(crate) fn read(&self, stderr: impl Read) {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }

    fn add(&self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        // A line without a level is not a log event, but a panic message or the output of another program.
        let level = text("level").unwrap_or_else(|| "TEXT".into());
        let phrase = text("message").unwrap_or_else(|| line.trim_end().into());
        let mut state = self.state();
        let _ = state.file.write_all(line.as_bytes());
        if phrase == "API listening" {
            let url = text("url").unwrap_or_default();
            state.api = url.trim_start_matches("http://").trim_end_matches('/').parse().ok();
        }
        if phrase.starts_with("state write failed") {
            state.state_outage = true;
        } else if phrase == "state store writable again" {
            state.state_outage = false;
        }
        let event = (level, phrase);
        if state.counts.len() < MAX_PHRASES || state.counts.contains_key(&event) {
            *state.counts.entry(event).or_default() += 1;
        }
    }

    /// Returns the number of occurrences of each event so far.
    pub(crate) fn counts(&self) -> BTreeMap<Event, u64> {
        self.state().counts.clone()
    }

    /// Returns the number of events so far whose phrase starts with `phrase`.
    pub(crate) fn count(&self, phrase: &str) -> u64 {
        let state = self.state();
        state.counts.iter().filter(|((_, is), _)| is.starts_with(phrase)).map(|(_, n)| n).sum()
    }

    /// Returns the number of log lines so far, except lines with a new phrase beyond [`MAX_PHRASES`].
    pub(crate) fn lines(&self) -> u64 {
        self.state().counts.values().sum()
    }

    /// Returns the address of the API of the running process, once it listens.
    pub(crate) fn api(&self) -> Option<SocketAddr> {
        self.state().api
    }

    /// Returns whether the running process cannot write its state.
    pub(crate) fn has_state_outage(&self) -> bool {
        self.state().state_outage
    }

    /// Resets the address of the API and the state outage, which belong to the previous process.
    pub(crate) fn forget_process(&self) {
        let mut state = self.state();
        (state.api, state.state_outage) = (None, false);
    }
}
