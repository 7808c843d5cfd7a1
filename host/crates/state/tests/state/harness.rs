//! Shared code of the tests, of the programs that they start, and of the benchmark.
#![allow(dead_code, reason = "each program uses what it needs")]

use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_state::{Record, Retention, Saved, State};
use std::{path::Path, sync::mpsc, time::Duration};

/// Upper bound of every wait in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn open(directory: &Path) -> State {
    open_with(directory, Retention::default())
}

pub(crate) fn open_with(directory: &Path, retention: Retention) -> State {
    let opened = State::open(directory, retention).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.state
}

pub(crate) fn app() -> SourceName {
    SourceName::new("app")
}

pub(crate) fn record(revision: u64, content: &str) -> Record {
    Record::new(revision.into(), Some(Snapshot::new(content.to_owned())))
}

/// Writes a record, and waits for the outcome.
pub(crate) fn save(state: &State, source: &SourceName, record: Record) -> Saved {
    let (sender, receiver) = mpsc::channel();
    state.record(source, record, move |saved| sender.send(saved).unwrap());
    receiver.recv_timeout(DEADLINE).unwrap()
}

/// Waits until all queued writes are on disk.
pub(crate) fn flush(state: &State) {
    let marker = SourceName::new("marker");
    let (sender, receiver) = mpsc::channel();
    state.forget(&marker, move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
}

/// Closes the store, and opens it again.
pub(crate) fn restart(state: State, directory: &Path) -> State {
    state.close(DEADLINE).unwrap();
    open(directory)
}

pub(crate) fn content(state: &State, revision: u64) -> Option<String> {
    let value = state.value(&app(), Revision::from(revision)).unwrap()?;
    Some(String::from_utf8(value.content.to_vec()).unwrap())
}
