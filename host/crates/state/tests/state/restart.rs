//! State after a restart: values, revisions, pins, delivery records and rejected values.

use crate::harness::{app, content, flush, open, record, restart, save};
use reloader_engine::types::{Cursor, Snapshot, SourceName};
use reloader_state::{Digest, Record, RejectedValue, Saved, State};

#[test]
fn source_restores_last_value() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap(), None);
    let value = Snapshot {
        media_type: Some("text/plain".into()),
        cursor: Some(Cursor::new("?token=secret&index=7").shown_as("?token=***&index=7")),
        ..Snapshot::new("a")
    };
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let first = Record { at, ..Record::new(3.into(), Some(value.clone())) };
    assert_eq!(save(&state, &app(), first), Saved::Durable);

    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.at, restored.pinned), (3.into(), at, None));
    let cursor = restored.value.as_ref().unwrap().cursor.as_ref().unwrap();
    assert_eq!(cursor.to_string(), "?token=***&index=7", "secret part is redacted");
    assert_eq!(restored.value, Some(value));

    // A removal is stored too.
    save(&state, &app(), Record::new(4.into(), None));
    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (4.into(), None));
}

#[test]
fn revision_never_decreases() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let revision = |state: &State| state.restore(&app()).unwrap().unwrap().revision.get();
    save(&state, &app(), record(7, "a"));
    save(&state, &app(), record(7, "a"));
    assert_eq!(revision(&state), 7, "the same value keeps its revision");
    // A source that has not restored its state requests revision 1 again. The store continues its revisions.
    save(&state, &app(), record(1, "b"));
    assert_eq!(revision(&state), 8);
    let state = restart(state, directory.path());
    assert_eq!((revision(&state), content(&state, 8)), (8, Some("b".into())));
    assert_eq!(content(&state, 7), Some("a".into()));
}

#[test]
fn pin_is_kept_until_removed() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let pinned = |state: &State| state.restore(&app()).unwrap().unwrap().pinned;
    save(&state, &app(), record(1, "a"));
    save(&state, &app(), record(2, "b"));
    let back = Record { rolled_back_to: Some(1.into()), ..record(3, "a") };
    save(&state, &app(), back);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(1.into()));
    state.pin(&app(), None);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), None);
    // A published value can be pinned without a new revision.
    state.pin(&app(), Some(3.into()));
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(3.into()));
    save(&state, &app(), record(4, "c"));
    assert_eq!(pinned(&state), None, "a normal record removes the pin");
}

#[test]
fn delivery_records_are_kept_per_sink() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    // A source name with the same prefix is a different source.
    save(&state, &SourceName::new("app2"), record(1, "a"));
    state.record_delivery(&SourceName::new("app2"), "file", 1.into(), Digest::of(b"other"));
    state.record_delivery(&app(), "file", 1.into(), Digest::of(b"a"));
    state.record_delivery(&app(), "webhook", 1.into(), Digest::of(b"{a}"));
    state.record_delivery(&app(), "file", 2.into(), Digest::of(b"b"));
    let state = restart(state, directory.path());
    let delivered = state.restore(&app()).unwrap().unwrap().delivered;
    let digests: Vec<_> =
        delivered.iter().map(|(sink, record)| (&sink[..], record.digest)).collect();
    assert_eq!(digests, [("file", Digest::of(b"b")), ("webhook", Digest::of(b"{a}"))]);
    // The number of delivery records is bounded.
    for number in 0..200 {
        state.record_delivery(&app(), &format!("sink {number}"), 2.into(), Digest::of(b"b"));
        flush(&state);
    }
    assert_eq!(state.restore(&app()).unwrap().unwrap().delivered.len(), 64);
}

#[test]
fn last_rejected_value_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    let rejection = |content: &str| RejectedValue {
        value: Snapshot::new(content.to_owned()),
        reason: "line 1: expected a table\n".into(),
        at: jiff::Timestamp::now(),
        secret: false,
    };
    state.record_rejection(&app(), rejection("b"));
    let state = restart(state, directory.path());
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!(rejected.reason, "line 1: expected a table\\n");
    assert_eq!(rejected.content.as_deref(), Some(&b"b"[..]));
    state.record_rejection(&app(), rejection(&"x".repeat(2 << 20)));
    flush(&state);
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!((rejected.size, rejected.content), (2 << 20, None), "large content is not stored");
    state.record_rejection(&app(), RejectedValue { secret: true, ..rejection("password") });
    flush(&state);
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!((&rejected.reason[..], rejected.content), ("(not stored)", None));
}
