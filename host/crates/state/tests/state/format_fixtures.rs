//! Fixtures: state directories of all format versions. This version of the host must read all their records.

use crate::harness::{DEADLINE, flush, open, save};
use reloader_engine::types::{Cursor, Snapshot, SourceName};
use reloader_state::{Digest, HistoryEvent, Record, RejectedValue, Saved, State};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Format version that this version of the host writes.
const FORMAT_VERSION: u32 = 1;
/// Files of a fixture. The lock file is not part of it.
const FILES: [&str; 2] = ["state.redb", "unstored-revisions"];

fn fixture(version: u32) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join(format!("tests/fixtures/format-{version}"))
}

fn copy_files(from: &Path, to: &Path) {
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn name(name: &str) -> SourceName {
    SourceName::new(name)
}

fn value(content: &str, media_type: Option<&str>) -> Snapshot {
    Snapshot { media_type: media_type.map(Into::into), ..Snapshot::new(content.to_owned()) }
}

fn at(second: u64) -> jiff::Timestamp {
    format!("2026-11-30T12:00:{second:02}Z").parse().unwrap()
}

/// Writes records of every kind.
fn write(state: &State) {
    let put = |source: &str, record: Record| {
        assert_eq!(save(state, &name(source), record), Saved::Durable);
    };
    let record = |revision: u64, value: Option<Snapshot>| Record {
        at: at(revision),
        ..Record::new(revision.into(), value)
    };
    // History with media type, cursor and rollback.
    let cursor = Cursor::new("?token=secret&index=7").shown_as("?token=***&index=7");
    put("config", record(1, Some(value("one = 1\n", Some("application/toml")))));
    put("config", record(2, Some(value("two = 2\n", Some("application/toml")))));
    let back = Some(Snapshot { cursor: Some(cursor), ..value("one = 1\n", None) });
    put("config", Record { rolled_back_to: Some(1.into()), ..record(3, back) });
    // Removal, and a gap in the revisions.
    put("flag", record(1, Some(value("on", None))));
    put("flag", record(5, None));
    // Secret values: revisions without content.
    put("password", Record { secret: true, ..record(1, Some(value("hunter2", None))) });
    // Binary content of several pages.
    let large: Vec<u8> = (0..20_000_u32).map(|number| (number % 253) as u8).collect();
    put("certificate", record(9, Some(Snapshot::new(large))));
    // Rejected values: of two sources with values, and of the source `rejected`, which has no other record.
    for (source, secret) in [("config", false), ("rejected", false), ("password", true)] {
        let rejected = RejectedValue {
            value: value("bad", Some("text/plain")),
            reason: "line 1: invalid".into(),
            at: at(30),
            secret,
        };
        state.record_rejection(&name(source), rejected);
    }
    for (owner, sink) in [("config", "file-0"), ("config", "exec"), ("group/all", "reload")] {
        state.record_delivery(&name(owner), sink, 2.into(), Digest::of(sink.as_bytes()));
    }
    flush(state);
}

/// Asserts that all records that [`write`] writes can be read.
fn assert_readable(state: &State) {
    let sources = state.sources().unwrap();
    let sources: Vec<_> = sources
        .iter()
        .map(|source| (source.source.as_str(), source.revision.get(), source.pinned, source.secret))
        .collect();
    let expected = [
        ("certificate", 9, None, false),
        ("config", 3, Some(1.into()), false),
        ("flag", 5, None, false),
        ("password", 1, None, true),
    ];
    assert_eq!(sources, expected);

    let config = state.restore(&name("config")).unwrap().unwrap();
    assert_eq!((config.at, config.pinned, config.removed), (at(3), Some(1.into()), false));
    let restored = config.value.unwrap();
    let cursor = restored.cursor.clone().unwrap();
    assert_eq!(cursor.as_str(), "?token=secret&index=7");
    assert_eq!(cursor.to_string(), "?token=***&index=7");
    assert_eq!((&restored.content[..], restored.media_type), (&b"one = 1\n"[..], None));
    let delivered = config.delivered.iter().map(|(sink, record)| (&sink[..], record.digest));
    let delivered: Vec<_> = delivered.collect();
    let expected = [("exec", Digest::of(b"exec")), ("file-0", Digest::of(b"file-0"))];
    assert_eq!(delivered, expected);
    assert!(config.delivered.values().all(|record| record.revision == 2.into()));
    let group = state.last_delivery(&name("group/all"), "reload").unwrap();
    assert_eq!(group, Some(Digest::of(b"reload")));

    let history = state.history(&name("config")).unwrap();
    let found: Vec<_> = history.iter().map(|entry| (entry.revision.get(), entry.event)).collect();
    let rolled_back = HistoryEvent::RolledBack { to: 1.into() };
    assert_eq!(found, [(3, rolled_back), (2, HistoryEvent::Changed), (1, HistoryEvent::Changed)]);
    let second = &history[1];
    assert_eq!((second.at, second.size, second.is_stored), (at(2), 8, true));
    assert_eq!(second.digest, Some(Digest::of(b"two = 2\n")));
    assert_eq!(second.media_type.as_deref(), Some("application/toml"));
    let second = state.value(&name("config"), 2.into()).unwrap();
    assert_eq!(second, Some(value("two = 2\n", Some("application/toml"))));

    let flag = state.restore(&name("flag")).unwrap().unwrap();
    assert_eq!((flag.revision, flag.value, flag.removed), (5.into(), None, true));
    assert_eq!(state.value(&name("flag"), 1.into()).unwrap(), Some(value("on", None)));

    let password = state.restore(&name("password")).unwrap().unwrap();
    assert_eq!((password.revision, password.value, password.removed), (1.into(), None, false));
    let entry = &state.history(&name("password")).unwrap()[0];
    assert_eq!((entry.is_stored, entry.size), (false, 7));

    let certificate = state.restore(&name("certificate")).unwrap().unwrap().value.unwrap();
    assert_eq!(certificate.content.len(), 20_000);

    for source in ["config", "rejected"] {
        let rejected = state.last_rejection(&name(source)).unwrap().unwrap();
        assert_eq!((&*rejected.reason, rejected.at, rejected.size), ("line 1: invalid", at(30), 3));
        assert_eq!(rejected.content.as_deref(), Some(&b"bad"[..]));
        assert_eq!(rejected.digest, Digest::of(b"bad"));
        assert_eq!(rejected.media_type.as_deref(), Some("text/plain"));
    }
    let rejected = state.last_rejection(&name("password")).unwrap().unwrap();
    assert_eq!((&*rejected.reason, rejected.content), ("(not stored)", None));
}

/// This version of the host opens the fixture of each format version and reads all records, also after a write and a
/// restart.
#[test]
fn every_format_version_is_readable() {
    for version in 1..=FORMAT_VERSION {
        let directory = tempfile::tempdir().unwrap();
        copy_files(&fixture(version), directory.path());
        let state = open(directory.path());
        assert_readable(&state);
        // A write and a restart lose nothing.
        save(&state, &name("added"), Record::new(1.into(), Some(Snapshot::new("x"))));
        let (sender, receiver) = std::sync::mpsc::channel();
        state.forget(&name("added"), move |saved| sender.send(saved).unwrap());
        assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
        state.close(DEADLINE).unwrap();
        assert_readable(&open(directory.path()));
    }
}

/// Records that the present code writes pass the check for fixtures, so a new fixture will pass.
#[test]
fn written_fixture_is_readable() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    write(&state);
    assert_readable(&state);
}

#[test]
#[ignore = "writes the fixture of a new format version into the repository"]
fn write_format_fixture() {
    let target = fixture(FORMAT_VERSION);
    fs::create_dir(&target).expect("fixtures are never changed");
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    write(&state);
    state.close(DEADLINE).unwrap();
    copy_files(directory.path(), &target);
}
