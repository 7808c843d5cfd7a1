//! Damaged database files: the store never panics, never returns content that was not written, and moves
//! an unusable file aside.

use crate::harness::{DEADLINE, app, content, open, record, save};
use redb::TableDefinition;
use reloader_engine::types::{Snapshot, SourceName};
use reloader_state::{Digest, Record, RejectedValue, Retention, Saved, State};
use std::{fs, path::Path};

/// Returns a database with records of every kind. Each value names its source and revision.
fn database() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    for source in 0..12 {
        let name = SourceName::new(format!("source {source}"));
        for revision in 1..=6_u64 {
            let value = value(source, revision);
            save(&state, &name, Record::new(revision.into(), Some(Snapshot::new(value))));
        }
        state.record_delivery(&name, "file", 6.into(), Digest::of(b"x"));
        state.record_rejection(
            &name,
            RejectedValue {
                value: Snapshot::new("rejected"),
                reason: "it was invalid".into(),
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

/// Opens a database, reads all records, and writes one. Returns whether the database was moved aside.
fn opens(bytes: &[u8], what: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("state.redb"), bytes).unwrap();
    let opened = State::open(directory.path(), Retention::default());
    let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = opened.state;
    for source in 0..12 {
        let name = SourceName::new(format!("source {source}"));
        if let Ok(Some(restored)) = state.restore(&name) {
            assert_eq!(restored.revision.get(), 6, "{what}");
            let content = restored.value.map(|value| value.content);
            let expected = value(source, 6);
            assert!(content.is_none_or(|content| content == expected), "{what}");
        }
        for entry in state.history(&name).unwrap_or_default() {
            let revision = entry.revision.get();
            if let Ok(Some(read)) = state.value(&name, entry.revision) {
                assert!(read.content == value(source, revision), "{what}");
            }
        }
        let _ = state.last_rejection(&name);
    }
    let _ = state.sources();
    let saved = save(&state, &app(), record(1, "a"));
    let was_moved = opened.moved_aside.is_some();
    if was_moved {
        assert_eq!(saved, Saved::Durable, "{what}");
        assert_eq!(content(&state, 1), Some("a".into()), "{what}");
    }
    let _ = state.close(DEADLINE);
    drop(state);
    // The next start succeeds too.
    let again = State::open(directory.path(), Retention::default());
    again.unwrap_or_else(|error| panic!("{what}, again: {error}"));
    was_moved
}

/// Damages a database in several ways, at offsets that are `step` bytes apart.
fn damage(step: usize) {
    let whole = database();
    assert!(!opens(&whole, "undamaged"));
    let mut moved = 0;
    let mut tried = 0;
    for at in (0..whole.len()).step_by(step) {
        for flipped in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flipped;
            moved += u32::from(opens(&bytes, &format!("byte {at} ^ {flipped:#x}")));
            tried += 1;
        }
    }
    assert!(moved > 0, "{moved} of {tried}");
    for length in (0..whole.len()).step_by(step * 7) {
        assert!(opens(&whole[..length], &format!("cut off at {length}")));
    }
    for at in (0..whole.len()).step_by(4096) {
        for with in [0, 0xff, 0x5a] {
            let mut bytes = whole.clone();
            let end = whole.len().min(at + 4096);
            bytes[at..end].fill(with);
            opens(&bytes, &format!("page at {at} filled with {with:#x}"));
        }
        // A page overwritten with another page.
        let mut bytes = whole.clone();
        let source = (at * 7 + 4096) % (whole.len() - 4096) / 4096 * 4096;
        bytes.copy_within(source..source + 4096, at.min(whole.len() - 4096));
        opens(&bytes, &format!("page at {at} copied from {source}"));
    }
}

#[test]
fn store_opens_despite_any_damage() {
    damage(4999);
}

/// Damages each of the 320 bytes of the database header.
#[test]
fn store_opens_despite_header_damage() {
    let whole = database();
    for at in 0..320 {
        for flipped in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flipped;
            opens(&bytes, &format!("byte {at} ^ {flipped:#x}"));
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn store_opens_despite_any_damage_exhaustive() {
    damage(31);
}

fn open_damaged(directory: &Path) -> (State, String) {
    let opened = State::open(directory, Retention::default()).unwrap();
    let moved = opened.moved_aside.unwrap();
    assert!(moved.path.is_file(), "{moved}");
    (opened.state, moved.to_string())
}

#[test]
fn foreign_file_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    fs::write(&path, "not a database".repeat(100)).unwrap();
    let (state, message) = open_damaged(directory.path());
    assert!(message.starts_with("state database unusable, moved aside to "), "{message}");
    assert!(!message.contains('\n'), "the message is one line: {message}");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    drop(state);
    assert_eq!(content(&open(directory.path()), 1), Some("a".into()));
}

#[test]
fn only_newest_moved_aside_files_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..6 {
        fs::write(directory.path().join("state.redb"), format!("broken {number}")).unwrap();
        drop(open_damaged(directory.path()));
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

/// Inserts a record that this version of the host cannot read, as another version might write it.
fn insert_record(
    path: &Path,
    table: TableDefinition<'_, &'static str, &'static [u8]>,
    record: &[u8],
) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("app", record).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn newer_format_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let database = redb::Database::open(directory.path().join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (_, message) = open_damaged(directory.path());
    assert!(message.contains("format version is 2, this host supports 1"), "{message}");
}

#[test]
fn invalid_record_moves_database_aside() {
    let sources = TableDefinition::new("sources");
    for (record, why) in [
        (&b"\x02{}"[..], "record of source `app` has unknown version 2"),
        (b"\x01{\"revision\":-1}", "record of source `app`: invalid value"),
        (b"", "record of source `app` is empty"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        insert_record(&directory.path().join("state.redb"), sources, record);
        let (_, message) = open_damaged(directory.path());
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn foreign_database_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    drop(redb::Database::create(&path).unwrap());
    insert_record(&path, TableDefinition::new("foreign"), b"x");
    let (_, message) = open_damaged(directory.path());
    assert!(message.contains("'meta'"), "{message}");
}
