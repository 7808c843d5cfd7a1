//! What survives a restart, in a real file: what is remembered and what is forgotten, who may use it,
//! and what becomes of it when the host is killed, the disk is full, or the file is damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "state/bench.rs"]
mod bench;
#[path = "state/damage.rs"]
mod damage;
#[path = "state/files.rs"]
mod files;
#[path = "state/full.rs"]
mod full;
#[path = "state/killed.rs"]
mod killed;
#[path = "state/memory.rs"]
mod memory;

use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_state::{Record, Saved, Settings, State};
use std::{path::Path, sync::mpsc, time::Duration};

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

fn open(directory: &Path) -> State {
    open_with(directory, Settings::default())
}

fn open_with(directory: &Path, settings: Settings) -> State {
    let opened = State::open(directory, settings).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.state
}

fn app() -> SourceName {
    SourceName::new("app")
}

fn record(revision: u64, content: &str) -> Record {
    Record::new(revision.into(), Some(Snapshot::new(content.to_owned())))
}

/// Records it, and waits until that is done.
fn save(state: &State, source: &SourceName, record: Record) -> Saved {
    let (sender, receiver) = mpsc::channel();
    state.record(source, record, move |saved| sender.send(saved).unwrap());
    receiver.recv_timeout(DEADLINE).unwrap()
}

/// Waits until all that was handed over before has been written.
fn written(state: &State) {
    let marker = SourceName::new("marker");
    let (sender, receiver) = mpsc::channel();
    state.forget(&marker, move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
}

/// Closes it, and opens it again.
fn restart(state: State, directory: &Path) -> State {
    state.close(DEADLINE).unwrap();
    open(directory)
}

fn content(state: &State, revision: u64) -> Option<String> {
    let value = state.value(&app(), Revision::from(revision)).unwrap()?;
    Some(String::from_utf8(value.content.to_vec()).unwrap())
}
