//! What is remembered, and for how long.

use crate::{DEADLINE, app, content, open, open_with, record, restart, save, written};
use reloader_engine::types::{Cursor, Snapshot, SourceName};
use reloader_state::{Digest, Happening, ReadError, Record, Rejection, Saved, Settings, State};
use reloader_util::units::{Size, Time};
use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

#[test]
fn a_source_goes_on_from_its_last_value_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    assert_eq!(state.resume(&app()).unwrap(), None);
    let value = Snapshot {
        media_type: Some("text/plain".into()),
        cursor: Some(Cursor::new("?token=secret&index=7").shown_as("?token=***&index=7")),
        ..Snapshot::new("a")
    };
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let first = Record { at, ..Record::new(3.into(), Some(value.clone())) };
    assert_eq!(save(&state, &app(), first), Saved::Durable);

    let state = restart(state, directory.path());
    let resumed = state.resume(&app()).unwrap().unwrap();
    assert_eq!((resumed.revision, resumed.at, resumed.pinned), (3.into(), at, None));
    let cursor = resumed.value.as_ref().unwrap().cursor.as_ref().unwrap();
    assert_eq!(cursor.to_string(), "?token=***&index=7", "what is secret in it is not shown");
    assert_eq!(resumed.value, Some(value));

    // That there is none any more is remembered as well.
    save(&state, &app(), Record::new(4.into(), None));
    let state = restart(state, directory.path());
    let resumed = state.resume(&app()).unwrap().unwrap();
    assert_eq!((resumed.revision, resumed.value), (4.into(), None));
}

#[test]
fn a_revision_never_goes_down() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let revision = |state: &State| state.resume(&app()).unwrap().unwrap().revision.get();
    save(&state, &app(), record(7, "a"));
    save(&state, &app(), record(7, "a"));
    assert_eq!(revision(&state), 7, "the same again is nothing new");
    // It was not resumed.
    save(&state, &app(), record(1, "b"));
    assert_eq!(revision(&state), 8);
    let state = restart(state, directory.path());
    assert_eq!((revision(&state), content(&state, 8)), (8, Some("b".into())));
    assert_eq!(content(&state, 7), Some("a".into()));
}

#[test]
fn history_has_each_revision_and_its_value() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    save(&state, &app(), record(2, "bc"));
    save(&state, &app(), Record::new(3.into(), None));
    let back = Record { rolled_back_to: Some(1.into()), ..record(4, "a") };
    save(&state, &app(), back);

    let history = state.history(&app()).unwrap();
    let told: Vec<_> =
        history.iter().map(|entry| (entry.revision.get(), entry.what, entry.size)).collect();
    assert_eq!(
        told,
        [
            (4, Happening::RolledBack { to: 1.into() }, 1),
            (3, Happening::Removed, 0),
            (2, Happening::Changed, 2),
            (1, Happening::Changed, 1),
        ]
    );
    assert_eq!(history[2].digest, Some(Digest::of(b"bc")));
    assert_eq!(history[1].digest, None);
    let had: Vec<_> = (1..=5).map(|revision| content(&state, revision)).collect();
    assert_eq!(had, [Some("a".into()), Some("bc".into()), None, Some("a".into()), None]);
}

#[test]
fn history_is_bounded_in_number_and_in_bytes_and_the_present_value_always_stays() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { history: 3, history_size: Size(100), ..Settings::default() };
    let state = open_with(directory.path(), settings);
    let known = |state: &State| {
        let history = state.history(&app()).unwrap();
        history.iter().map(|entry| entry.revision.get()).collect::<Vec<_>>()
    };
    for revision in 1..=5 {
        save(&state, &app(), record(revision, "little"));
    }
    assert_eq!(known(&state), [5, 4, 3]);
    save(&state, &app(), record(6, &"x".repeat(90)));
    assert_eq!(known(&state), [6, 5], "which is a hundred bytes at most");
    save(&state, &app(), record(7, &"y".repeat(1000)));
    assert_eq!(known(&state), [7]);
    assert_eq!(content(&state, 7), Some("y".repeat(1000)));
    assert_eq!(content(&state, 6), None);
}

#[test]
fn a_pin_is_remembered_until_it_is_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let pinned = |state: &State| state.resume(&app()).unwrap().unwrap().pinned;
    save(&state, &app(), record(1, "a"));
    save(&state, &app(), record(2, "b"));
    let back = Record { rolled_back_to: Some(1.into()), ..record(3, "a") };
    save(&state, &app(), back);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(1.into()));
    state.pin(&app(), None);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), None);
    // What is published already can be pinned without a new revision.
    state.pin(&app(), Some(3.into()));
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(3.into()));
    save(&state, &app(), record(4, "c"));
    assert_eq!(pinned(&state), None, "what the source says is let through again");
}

#[test]
fn what_a_sink_has_got_is_remembered_for_each_one() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    // A source whose name begins alike is another one.
    save(&state, &SourceName::new("app2"), record(1, "a"));
    state.delivered(&SourceName::new("app2"), "file", 1.into(), Digest::of(b"other"));
    state.delivered(&app(), "file", 1.into(), Digest::of(b"a"));
    state.delivered(&app(), "webhook", 1.into(), Digest::of(b"{a}"));
    state.delivered(&app(), "file", 2.into(), Digest::of(b"b"));
    let state = restart(state, directory.path());
    let delivered = state.resume(&app()).unwrap().unwrap().delivered;
    let told: Vec<_> = delivered.iter().map(|(sink, it)| (&sink[..], it.digest)).collect();
    assert_eq!(told, [("file", Digest::of(b"b")), ("webhook", Digest::of(b"{a}"))]);
    // There is a bound, whatever the sinks are called.
    for number in 0..200 {
        state.delivered(&app(), &format!("sink {number}"), 2.into(), Digest::of(b"b"));
        written(&state);
    }
    assert_eq!(state.resume(&app()).unwrap().unwrap().delivered.len(), 64);
}

#[test]
fn what_was_refused_last_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    let refusal = |content: &str| Rejection {
        value: Snapshot::new(content.to_owned()),
        reason: "line 1: expected a table\n".into(),
        at: jiff::Timestamp::now(),
        secret: false,
    };
    state.refused(&app(), refusal("b"));
    let state = restart(state, directory.path());
    let refused = state.last_refused(&app()).unwrap().unwrap();
    assert_eq!(refused.reason, "line 1: expected a table\\n");
    assert_eq!(refused.content.as_deref(), Some(&b"b"[..]));
    state.refused(&app(), refusal(&"x".repeat(2 << 20)));
    written(&state);
    let refused = state.last_refused(&app()).unwrap().unwrap();
    assert_eq!((refused.size, refused.content), (2 << 20, None), "one that large is not kept");
    state.refused(&app(), Rejection { secret: true, ..refusal("password") });
    written(&state);
    let refused = state.last_refused(&app()).unwrap().unwrap();
    assert_eq!((&refused.reason[..], refused.content), ("(not stored)", None));
}

#[test]
fn of_a_secret_nothing_is_stored_but_its_revision_and_digest() {
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
    let resumed = state.resume(&app()).unwrap().unwrap();
    assert_eq!((resumed.revision, resumed.value), (1.into(), None));
    let entry = state.history(&app()).unwrap().remove(0);
    assert_eq!((entry.digest, entry.is_stored), (Some(Digest::of(b"hunter2-one")), false));
    assert!(!found("hunter2"));

    // A source that becomes secret has its older values deleted, also before it changes.
    let other = SourceName::new("other");
    save(&state, &other, Record::new(1.into(), Some(value)));
    state.configured([(app(), true), (other.clone(), true)]);
    let state = restart(state, directory.path());
    let resumed = state.resume(&other).unwrap().unwrap();
    assert_eq!((resumed.revision, resumed.value), (1.into(), None));
}

#[test]
fn that_no_values_are_stored_can_be_said_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { store_values: false, ..Settings::default() };
    let state = open_with(directory.path(), settings);
    save(&state, &app(), record(1, "a"));
    let resumed = state.resume(&app()).unwrap().unwrap();
    assert_eq!((resumed.revision, resumed.value), (1.into(), None));
}

#[test]
fn what_is_not_configured_any_more_is_kept_for_a_time_and_then_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let names = |state: &State| {
        let sources = state.sources().unwrap();
        sources.iter().map(|it| it.source.to_string()).collect::<Vec<_>>()
    };
    for name in ["a", "b", "c", "d"] {
        save(&state, &SourceName::new(name), record(1, name));
    }
    state.configured([(SourceName::new("a"), false)]);
    let state = restart(state, directory.path());
    assert_eq!(names(&state), ["a", "b", "c", "d"]);
    state.close(DEADLINE).unwrap();

    let settings = Settings { max_removed: 2, ..Settings::default() };
    let state = open_with(directory.path(), settings);
    state.configured([(SourceName::new("a"), false)]);
    written(&state);
    assert_eq!(names(&state), ["a", "c", "d"], "the oldest of too many is forgotten");
    let gone = SourceName::new("b");
    assert_eq!(state.resume(&gone).unwrap(), None);
    assert_eq!(state.history(&gone).unwrap(), []);
    assert_eq!(state.value(&gone, 1.into()).unwrap(), None);
    state.close(DEADLINE).unwrap();

    let settings = Settings { keep_removed: Time(Duration::from_millis(1)), ..Settings::default() };
    let state = open_with(directory.path(), settings);
    std::thread::sleep(Duration::from_millis(5));
    state.configured([(SourceName::new("a"), false)]);
    written(&state);
    assert_eq!(names(&state), ["a"]);
    let (sender, receiver) = mpsc::channel();
    state.forget(&SourceName::new("a"), move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
    assert_eq!(names(&state), [""; 0]);
}

#[test]
fn what_follows_is_called_in_order_and_what_waits_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let told = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel::<()>();
    for revision in 1..=2000_u64 {
        let (told, sender) = (Arc::clone(&told), sender.clone());
        state.record(&app(), record(revision, &revision.to_string()), move |saved| {
            if saved != Saved::Replaced {
                assert_eq!(saved, Saved::Durable);
                told.lock().unwrap().push(revision);
            }
            drop(sender);
        });
    }
    drop(sender);
    // All of them have been called, or have been dropped, by now.
    assert!(receiver.recv_timeout(DEADLINE).is_err());
    let told = told.lock().unwrap();
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!(told.last(), Some(&2000), "the newest is not the one that makes way");
    assert!(told.len() < 2000, "more were handed over than can be written at once");
    let resumed = state.resume(&app()).unwrap().unwrap();
    assert_eq!(resumed.revision.get(), 2000);
    assert!(state.health().commits < 2000, "and many go into one transaction");
}

#[test]
fn what_is_remembered_is_there_when_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let (sender, receiver) = mpsc::channel();
    let seen = state.clone();
    state.record(&app(), record(1, "a"), move |_| sender.send(content(&seen, 1)).unwrap());
    // Should that be the last handle, it does not wait for itself.
    drop(state);
    let before = Instant::now();
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Some("a".into()));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[test]
fn one_whose_follow_up_panics_harms_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    state.record(&app(), record(1, "a"), |_| panic!("on purpose"));
    assert_eq!(save(&state, &app(), record(2, "b")), Saved::Durable);
}

#[test]
fn who_looks_something_up_does_not_hold_up_who_writes() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, &"x".repeat(1 << 20)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let state = state.clone();
            std::thread::spawn(move || {
                let mut looked = 0_u32;
                while state.resume(&app()).unwrap().unwrap().revision.get() < 100 {
                    state.history(&app()).unwrap();
                    looked += 1;
                }
                looked
            })
        })
        .collect();
    for revision in 2..=100 {
        assert_eq!(save(&state, &app(), record(revision, &"x".repeat(1 << 20))), Saved::Durable);
    }
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn closing_writes_what_waits_and_then_nothing_more_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    for revision in 1..=100 {
        state.record(&app(), record(revision, "a"), |_| {});
    }
    state.close(DEADLINE).unwrap();
    let closed = Saved::NotDurable("the state is closed".into());
    assert_eq!(save(&state, &app(), record(101, "b")), closed);
    assert_eq!(state.history(&app()), Err(ReadError::Unavailable("it is closed".into())));
    // Another one can use the directory, while this one is still there.
    let again = open(directory.path());
    assert_eq!(again.resume(&app()).unwrap().unwrap().revision.get(), 100);
    drop(state);
    // The last one that is dropped writes what waits as well.
    again.record(&app(), record(101, "b"), |_| {});
    drop(again);
    assert_eq!(content(&open(directory.path()), 101), Some("b".into()));
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { history: 5, ..Settings::default() };
    let length = || std::fs::metadata(directory.path().join("state.redb")).unwrap().len();
    let state = open_with(directory.path(), settings.clone());
    for revision in 1..=1000 {
        save(&state, &app(), record(revision, &"x".repeat(100_000)));
    }
    // A hundred megabytes have been written, and six hundred thousand bytes are kept.
    assert!(length() < 8 << 20, "{}", length());
    // What was large once is given back, also where nobody could close it.
    save(&state, &app(), record(1001, &"x".repeat(20 << 20)));
    save(&state, &app(), record(1002, "little"));
    assert!(length() > 20 << 20);
    let crashed = tempfile::tempdir().unwrap();
    let copy = crashed.path().join("state.redb");
    std::fs::copy(directory.path().join("state.redb"), &copy).unwrap();
    let again = open_with(crashed.path(), settings);
    assert_eq!(content(&again, 1002), Some("little".into()));
    let length = std::fs::metadata(&copy).unwrap().len();
    assert!(length < 4 << 20, "{length}");
}
