//! State store in a real file: what it keeps and deletes, access control, killed hosts, full disks and damaged
//! files.
#![allow(clippy::unwrap_used, reason = "a failed setup step fails the test")]

#[path = "state/access.rs"]
mod access;
#[path = "state/bench.rs"]
mod bench;
#[path = "state/damage.rs"]
mod damage;
#[path = "state/disk_full.rs"]
mod disk_full;
#[path = "state/killed.rs"]
mod killed;
#[path = "state/records.rs"]
mod records;

use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_state::{Record, Saved, Settings, State};
use std::{path::Path, sync::mpsc, time::Duration};

/// Upper bound of every wait in these tests.
const DEADLINE: Duration = Duration::from_secs(20);

fn open(directory: &Path) -> State {
    open_with(directory, Settings::default())
}

fn open_with(directory: &Path, settings: Settings) -> State {
    let opened = State::open(directory, settings).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.state
}

fn app() -> SourceName {
    SourceName::new("app")
}

fn record(revision: u64, content: &str) -> Record {
    Record::new(revision.into(), Some(Snapshot::new(content.to_owned())))
}

/// Writes a record, and waits for the outcome.
fn save(state: &State, source: &SourceName, record: Record) -> Saved {
    let (sender, receiver) = mpsc::channel();
    state.record(source, record, move |saved| sender.send(saved).unwrap());
    receiver.recv_timeout(DEADLINE).unwrap()
}

/// Waits until all queued writes are on disk.
fn flush(state: &State) {
    let marker = SourceName::new("marker");
    let (sender, receiver) = mpsc::channel();
    state.forget(&marker, move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
}

/// Closes the store, and opens it again.
fn restart(state: State, directory: &Path) -> State {
    state.close(DEADLINE).unwrap();
    open(directory)
}

fn content(state: &State, revision: u64) -> Option<String> {
    let value = state.value(&app(), Revision::from(revision)).unwrap()?;
    Some(String::from_utf8(value.content.to_vec()).unwrap())
}
