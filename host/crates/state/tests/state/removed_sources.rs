//! State of sources that are no longer configured: deleted beyond `max_removed`, and after `keep_removed`.

use crate::harness::{DEADLINE, flush, open, open_with, record, restart, save};
use reloader_engine::types::SourceName;
use reloader_state::{Retention, Saved, State};
use std::{sync::mpsc, time::Duration};

#[test]
fn removed_sources_are_deleted_later() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let names = |state: &State| {
        let sources = state.sources().unwrap();
        sources.iter().map(|summary| summary.source.to_string()).collect::<Vec<_>>()
    };
    for name in ["a", "b", "c", "d"] {
        save(&state, &SourceName::new(name), record(1, name));
    }
    state.set_configured([(SourceName::new("a"), false)]);
    let state = restart(state, directory.path());
    assert_eq!(names(&state), ["a", "b", "c", "d"]);
    state.close(DEADLINE).unwrap();

    let retention = Retention { max_removed: 2, ..Retention::default() };
    let state = open_with(directory.path(), retention);
    state.set_configured([(SourceName::new("a"), false)]);
    flush(&state);
    assert_eq!(names(&state), ["a", "c", "d"], "the oldest removed source is deleted");
    let gone = SourceName::new("b");
    assert_eq!(state.restore(&gone).unwrap(), None);
    assert_eq!(state.history(&gone).unwrap(), []);
    assert_eq!(state.value(&gone, 1.into()).unwrap(), None);
    state.close(DEADLINE).unwrap();

    let retention = Retention { keep_removed: Duration::from_millis(1), ..Retention::default() };
    let state = open_with(directory.path(), retention);
    std::thread::sleep(Duration::from_millis(5));
    state.set_configured([(SourceName::new("a"), false)]);
    flush(&state);
    assert_eq!(names(&state), ["a"]);
    let (sender, receiver) = mpsc::channel();
    state.forget(&SourceName::new("a"), move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
    assert_eq!(names(&state), [""; 0]);
}
