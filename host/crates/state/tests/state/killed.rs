//! A host that is killed at any instant has forgotten nothing that it said it would remember.

use crate::{DEADLINE, open};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_state::{Happening, Record, Saved, State};
use std::{
    collections::HashMap,
    env,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const SOURCES: u64 = 4;
const CHILD: &str = "killed::one_that_records_until_it_is_killed";

/// What a source holds with a revision. Now and then nothing, and now and then much.
fn value(source: u64, revision: u64) -> Option<Snapshot> {
    let length = if revision.is_multiple_of(11) { 300_000 } else { revision * 131 % 5000 };
    let content = format!("{source}/{revision} ").repeat(1 + length as usize / 8);
    (!revision.is_multiple_of(5)).then(|| Snapshot::new(content))
}

fn rolled_back_to(revision: u64) -> Option<Revision> {
    (revision % 7 == 1 && !revision.is_multiple_of(5)).then(|| (revision / 2).into())
}

fn name(source: u64) -> SourceName {
    SourceName::new(format!("source {source}"))
}

/// Not a test: what the tests below start and kill.
#[test]
#[ignore = "it goes on until it is killed"]
fn one_that_records_until_it_is_killed() {
    let Ok(directory) = env::var("STATE_KILLED") else { return };
    let state = open(Path::new(&directory));
    thread::scope(|scope| {
        for source in 0..SOURCES {
            let state = &state;
            scope.spawn(move || goes_on(state, source));
        }
    });
}

fn goes_on(state: &State, source: u64) {
    let resumed = state.resume(&name(source)).unwrap();
    let mut revision = resumed.map_or(0, |resumed| resumed.revision.get());
    let (sender, receiver) = mpsc::channel();
    loop {
        revision += 1;
        let record = Record {
            rolled_back_to: rolled_back_to(revision),
            ..Record::new(revision.into(), value(source, revision))
        };
        let sender = sender.clone();
        state.record(&name(source), record, move |saved| {
            if saved == Saved::Durable {
                let line = format!("ack {source} {revision}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
            sender.send(()).unwrap();
        });
        // Some come one by one, some together.
        if revision.is_multiple_of(3) {
            (0..3).for_each(|_| receiver.recv_timeout(DEADLINE).unwrap());
        }
    }
}

fn start(directory: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture", "--quiet"])
        .env("STATE_KILLED", directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// What the killed one has said that it would remember.
type Said = HashMap<u64, u64>;

/// Lets one run for this long (after it has begun to work, or from its very start), and kills it.
fn kill(directory: &Path, after: Duration, from_the_start: bool, said: &mut Said) {
    let mut child = start(directory);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    if !from_the_start {
        while !line.starts_with("ack ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
        }
    }
    // Its pipe is emptied meanwhile, so that it does not stand still.
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
    thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = receiver.recv_timeout(DEADLINE).unwrap();
    reader.join().unwrap();
    for line in lines.iter().filter(|line| line.ends_with('\n')) {
        if let Some(acknowledged) = line.trim().strip_prefix("ack ") {
            let (source, revision) = acknowledged.split_once(' ').unwrap();
            let (source, revision) = (source.parse().unwrap(), revision.parse::<u64>().unwrap());
            let before = said.insert(source, revision);
            assert!(before.is_none_or(|before| before < revision), "{before:?}, then {line}");
        }
    }
}

fn remembers(directory: &Path, said: &Said) {
    let state = open(directory);
    for source in 0..SOURCES {
        let acknowledged = said.get(&source).copied().unwrap_or(0);
        let Some(resumed) = state.resume(&name(source)).unwrap() else {
            assert_eq!(acknowledged, 0, "source {source} is forgotten");
            continue;
        };
        let revision = resumed.revision.get();
        assert!(revision >= acknowledged, "source {source}: {revision}, after {acknowledged}");
        assert!(resumed.value == value(source, revision), "source {source}, revision {revision}");
        assert_eq!(resumed.pinned, rolled_back_to(revision));
        let history = state.history(&name(source)).unwrap();
        let known = history.iter().any(|entry| entry.revision.get() == acknowledged);
        assert!(known || acknowledged == 0, "source {source}: no revision {acknowledged}");
        for entry in history {
            let (revision, stored) = (entry.revision.get(), entry.revision);
            assert!(state.value(&name(source), stored).unwrap() == value(source, revision));
            assert_eq!(entry.what == Happening::Removed, value(source, revision).is_none());
        }
    }
    state.close(DEADLINE).unwrap();
}

fn killed_so_often(times: u64) {
    let random = RandomState::new();
    let mut directory = tempfile::tempdir().unwrap();
    let mut said = Said::new();
    let mut revisions = 0;
    for time in 0..times {
        if time.is_multiple_of(10) {
            directory = tempfile::tempdir().unwrap();
            revisions += said.drain().map(|(_, revision)| revision).sum::<u64>();
        }
        let chance = random.hash_one(time);
        let from_the_start = chance.is_multiple_of(4);
        let after = Duration::from_micros(chance / 4 % 40_000);
        kill(directory.path(), after, from_the_start, &mut said);
        remembers(directory.path(), &said);
    }
    assert!(revisions > times, "{revisions} revisions were acknowledged");
}

#[test]
fn a_host_that_is_killed_at_any_instant_forgets_nothing_that_it_has_acknowledged() {
    killed_so_often(50);
}

#[test]
#[ignore = "takes a minute; the same more often"]
fn a_host_that_is_killed_many_times_forgets_nothing_that_it_has_acknowledged() {
    killed_so_often(500);
}
