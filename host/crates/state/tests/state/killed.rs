//! Crash safety: a host killed at any instant keeps every record that it acknowledged.

use crate::harness::{DEADLINE, open};
use crate::test_record_generator::{SOURCES, name, rolled_back_to, value};
use reloader_state::HistoryEvent;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

fn start(directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_test-write-until-killed"))
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Last acknowledged revision of each source.
type Acknowledged = HashMap<u64, u64>;

/// Starts a child process and kills it after `delay`. The delay begins at the start of the process (`from_start`), or
/// at its first acknowledgement.
fn run_and_kill(
    directory: &Path,
    delay: Duration,
    from_start: bool,
    acknowledged: &mut Acknowledged,
) {
    let mut child = start(directory);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    if !from_start {
        while !line.starts_with("ack ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended early");
        }
    }
    // A thread drains the pipe, so that the child does not block on a full pipe.
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut all = vec![line];
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                break;
            }
            all.push(line);
        }
        sender.send(all).unwrap();
    });
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = receiver.recv_timeout(DEADLINE).unwrap();
    reader.join().unwrap();
    for line in lines.iter().filter(|line| line.ends_with('\n')) {
        if let Some(pair) = line.trim().strip_prefix("ack ") {
            let (source, revision) = pair.split_once(' ').unwrap();
            let (source, revision) = (source.parse().unwrap(), revision.parse::<u64>().unwrap());
            let before = acknowledged.insert(source, revision);
            assert!(before.is_none_or(|before| before < revision), "{before:?}, then {line}");
        }
    }
}

fn assert_acknowledged_kept(directory: &Path, acknowledged: &Acknowledged) {
    let state = open(directory);
    for source in 0..SOURCES {
        let acknowledged = acknowledged.get(&source).copied().unwrap_or(0);
        let Some(restored) = state.restore(&name(source)).unwrap() else {
            assert_eq!(acknowledged, 0, "source {source} is lost");
            continue;
        };
        let revision = restored.revision.get();
        assert!(revision >= acknowledged, "source {source}: {revision}, after {acknowledged}");
        assert!(restored.value == value(source, revision), "source {source}, revision {revision}");
        assert_eq!(restored.pinned, rolled_back_to(revision));
        let history = state.history(&name(source)).unwrap();
        let known = history.iter().any(|entry| entry.revision.get() == acknowledged);
        assert!(known || acknowledged == 0, "source {source}: no revision {acknowledged}");
        for entry in history {
            let (revision, stored) = (entry.revision.get(), entry.revision);
            assert!(state.value(&name(source), stored).unwrap() == value(source, revision));
            assert_eq!(entry.event == HistoryEvent::Removed, value(source, revision).is_none());
        }
    }
    state.close(DEADLINE).unwrap();
}

fn kill_repeatedly(times: u64) {
    let random = RandomState::new();
    let mut directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    let mut revisions = 0;
    for time in 0..times {
        if time.is_multiple_of(10) {
            directory = tempfile::tempdir().unwrap();
            revisions += acknowledged.drain().map(|(_, revision)| revision).sum::<u64>();
        }
        let random_bits = random.hash_one(time);
        let from_start = random_bits.is_multiple_of(4);
        let delay = Duration::from_micros(random_bits / 4 % 40_000);
        run_and_kill(directory.path(), delay, from_start, &mut acknowledged);
        assert_acknowledged_kept(directory.path(), &acknowledged);
    }
    assert!(revisions > times, "{revisions} revisions were acknowledged");
}

#[test]
fn acknowledged_records_survive_kill() {
    kill_repeatedly(50);
}

#[test]
#[ignore = "takes a minute"]
fn acknowledged_records_survive_many_kills() {
    kill_repeatedly(500);
}
