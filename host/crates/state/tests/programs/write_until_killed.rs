//! Writes records of several sources until the process is killed, and prints `ack SOURCE REVISION` for each record
//! that is durable. The argument is the directory of the store. The test `killed` starts and kills the program.
#![allow(clippy::unwrap_used, reason = "a failed setup step fails the test")]

#[path = "../state/harness.rs"]
mod harness;
#[path = "../state/test_record_generator.rs"]
mod test_record_generator;

use harness::{DEADLINE, open};
use reloader_state::{Record, Saved, State};
use std::{env, io::Write, path::Path, sync::mpsc, thread};
use test_record_generator::{SOURCES, name, rolled_back_to, value};

fn main() {
    let directory = env::args().nth(1).unwrap();
    let state = open(Path::new(&directory));
    thread::scope(|scope| {
        for source in 0..SOURCES {
            let state = &state;
            scope.spawn(move || write_records(state, source));
        }
    });
}

fn write_records(state: &State, source: u64) {
    let restored = state.restore(&name(source)).unwrap();
    let mut revision = restored.map_or(0, |restored| restored.revision.get());
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
        // Three records are queued before their outcomes are awaited.
        if revision.is_multiple_of(3) {
            (0..3).for_each(|_| receiver.recv_timeout(DEADLINE).unwrap());
        }
    }
}
