//! Secret values: contents of sources with `store = false` do not reach the disk.

use crate::harness::{app, open, open_with, record, restart, save};
use reloader_engine::types::{Cursor, Snapshot, SourceName};
use reloader_state::{Digest, Record, Retention};

#[test]
fn secret_values_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let found = |needle: &str| {
        let bytes = std::fs::read(directory.path().join("state.redb")).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    let state = open(directory.path());
    let value =
        Snapshot { cursor: Some(Cursor::new("cursor-hunter2")), ..Snapshot::new("hunter2-one") };
    let secret = |revision: u64, value: &Snapshot| Record {
        secret: true,
        ..Record::new(revision.into(), Some(value.clone()))
    };
    save(&state, &app(), secret(1, &value));
    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
    let entry = state.history(&app()).unwrap().remove(0);
    assert_eq!((entry.digest, entry.is_stored), (Some(Digest::of(b"hunter2-one")), false));
    assert!(!found("hunter2"));

    // The stored values of a source are deleted when it becomes secret, before its next record.
    let other = SourceName::new("other");
    save(&state, &other, Record::new(1.into(), Some(value)));
    state.set_configured([(app(), true), (other.clone(), true)]);
    let state = restart(state, directory.path());
    let restored = state.restore(&other).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
}

#[test]
fn store_values_off_applies_to_all_sources() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { store_values: false, ..Retention::default() };
    let state = open_with(directory.path(), retention);
    save(&state, &app(), record(1, "a"));
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
}
