//! A file that is damaged, wherever it is: nobody panics, nothing is read that was not written, and what
//! cannot be used is set aside.

use crate::{DEADLINE, app, content, open, record, save};
use redb::TableDefinition;
use reloader_engine::types::{Snapshot, SourceName};
use reloader_state::{Digest, Record, Rejection, Saved, Settings, State};
use std::{fs, path::Path};

/// Of every kind something, in values that are recognised.
fn database() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    for source in 0..12 {
        let name = SourceName::new(format!("source {source}"));
        for revision in 1..=6_u64 {
            let value = value(source, revision);
            save(&state, &name, Record::new(revision.into(), Some(Snapshot::new(value))));
        }
        state.delivered(&name, "file", 6.into(), Digest::of(b"x"));
        state.refused(
            &name,
            Rejection {
                value: Snapshot::new("refused"),
                reason: "it was not fit".into(),
                at: jiff::Timestamp::now(),
                secret: false,
            },
        );
    }
    state.close(DEADLINE).unwrap();
    fs::read(directory.path().join("state.redb")).unwrap()
}

fn value(source: usize, revision: u64) -> String {
    format!("{source}/{revision} ").repeat(10 << (revision as usize))
}

/// Opens it, looks at all that is there, and writes. Whether it was set aside.
fn survives(bytes: &[u8], what: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("state.redb"), bytes).unwrap();
    let opened = State::open(directory.path(), Settings::default());
    let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = opened.state;
    for source in 0..12 {
        let name = SourceName::new(format!("source {source}"));
        if let Ok(Some(resumed)) = state.resume(&name) {
            assert_eq!(resumed.revision.get(), 6, "{what}");
            let content = resumed.value.map(|value| value.content);
            let expected = value(source, 6);
            assert!(content.is_none_or(|content| content == expected), "{what}");
        }
        for entry in state.history(&name).unwrap_or_default() {
            let revision = entry.revision.get();
            if let Ok(Some(read)) = state.value(&name, entry.revision) {
                assert!(read.content == value(source, revision), "{what}");
            }
        }
        let _ = state.last_refused(&name);
    }
    let _ = state.sources();
    let saved = save(&state, &app(), record(1, "a"));
    let is_aside = opened.set_aside.is_some();
    if is_aside {
        assert_eq!(saved, Saved::Durable, "{what}");
        assert_eq!(content(&state, 1), Some("a".into()), "{what}");
    }
    let _ = state.close(DEADLINE);
    drop(state);
    // Whatever it was, the next start is one like any other.
    let again = State::open(directory.path(), Settings::default());
    again.unwrap_or_else(|error| panic!("{what}, again: {error}"));
    is_aside
}

/// Damages it at places that are this far apart, in several ways.
fn damage(step: usize) {
    let whole = database();
    assert!(!survives(&whole, "undamaged"));
    let mut aside = 0;
    let mut tried = 0;
    for at in (0..whole.len()).step_by(step) {
        for flipped in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flipped;
            aside += u32::from(survives(&bytes, &format!("byte {at} ^ {flipped:#x}")));
            tried += 1;
        }
    }
    assert!(aside > 0, "{aside} of {tried}");
    for length in (0..whole.len()).step_by(step * 7) {
        assert!(survives(&whole[..length], &format!("cut off at {length}")));
    }
    for at in (0..whole.len()).step_by(4096) {
        for with in [0, 0xff, 0x5a] {
            let mut bytes = whole.clone();
            let end = whole.len().min(at + 4096);
            bytes[at..end].fill(with);
            survives(&bytes, &format!("page at {at} filled with {with:#x}"));
        }
        // A page in the place of another one.
        let mut bytes = whole.clone();
        let other = (at * 7 + 4096) % (whole.len() - 4096) / 4096 * 4096;
        bytes.copy_within(other..other + 4096, at.min(whole.len() - 4096));
        survives(&bytes, &format!("page at {at} taken from {other}"));
    }
}

#[test]
fn whatever_is_wrong_with_the_file_the_host_starts() {
    damage(4999);
}

/// The header and the first pages, byte by byte.
#[test]
fn whatever_is_wrong_with_the_header_the_host_starts() {
    let whole = database();
    for at in 0..320 {
        for flipped in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flipped;
            survives(&bytes, &format!("byte {at} ^ {flipped:#x}"));
        }
    }
}

#[test]
#[ignore = "takes minutes; the same at many more places"]
fn whatever_is_wrong_with_the_file_at_many_places_the_host_starts() {
    damage(31);
}

fn set_aside(directory: &Path) -> (State, String) {
    let opened = State::open(directory, Settings::default()).unwrap();
    let aside = opened.set_aside.unwrap();
    assert!(aside.path.is_file(), "{aside}");
    (opened.state, aside.to_string())
}

#[test]
fn what_is_no_database_is_set_aside_and_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    fs::write(&path, "what is this?".repeat(100)).unwrap();
    let (state, said) = set_aside(directory.path());
    assert!(said.starts_with("the state could not be used, and is begun anew: "), "{said}");
    assert!(said.contains("; the file is kept as ") && !said.contains('\n'), "{said}");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    drop(state);
    assert_eq!(content(&open(directory.path()), 1), Some("a".into()));
}

#[test]
fn of_what_was_set_aside_only_the_newest_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..6 {
        fs::write(directory.path().join("state.redb"), format!("broken {number}")).unwrap();
        drop(set_aside(directory.path()));
    }
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut kept: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("broken-"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["broken 3", "broken 4", "broken 5"]);
}

/// Changes a file as another version of this program might.
fn change(path: &Path, table: TableDefinition<'_, &'static str, &'static [u8]>, record: &[u8]) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("app", record).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_newer_format_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let database = redb::Database::open(directory.path().join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (_, said) = set_aside(directory.path());
    assert!(said.contains("its format is 2, and this host knows 1"), "{said}");
}

#[test]
fn a_record_that_makes_no_sense_is_not_believed() {
    let sources = TableDefinition::new("sources");
    for (record, why) in [
        (&b"\x02{}"[..], "the record of source `app` is of the unknown version 2"),
        (b"\x01{\"revision\":-1}", "the record of source `app`: invalid value"),
        (b"", "the record of source `app` is empty"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        change(&directory.path().join("state.redb"), sources, record);
        let (_, said) = set_aside(directory.path());
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    drop(redb::Database::create(&path).unwrap());
    change(&path, TableDefinition::new("theirs"), b"x");
    let (_, said) = set_aside(directory.path());
    assert!(said.contains("'meta'"), "{said}");
}
