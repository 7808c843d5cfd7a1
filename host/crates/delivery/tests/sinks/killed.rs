//! What writes is killed, at any moment.

use crate::site::{Given, Place, until, work};
use reloader_delivery::{Backup, File, FileSettings, WorkerSettings};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

/// Each value is one letter, so often that it takes more than one write.
const LENGTH: usize = 300_000;

fn value(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    letter.to_string().repeat(LENGTH)
}

fn settings(path: &std::ffi::OsStr) -> FileSettings {
    FileSettings { backup: Backup::Suffix(".bak".into()), ..FileSettings::new(path) }
}

/// Not a test of its own: what is killed.
#[tokio::test]
async fn writer() {
    let Some(path) = env::var_os("RELOADER_TEST_WRITE") else { return };
    let source = Given::new("app");
    let mut working = work(&[&source], File::new(settings(&path)), WorkerSettings::default());
    for number in 0.. {
        source.set(&value(number));
        working.has(number as u64 + 1).await;
        if number == 3 {
            #[allow(clippy::print_stdout, reason = "whoever kills it waits for this")]
            {
                println!("writing");
            }
        }
    }
}

/// No value is ever seen in part, whenever the writer is killed; and the next one cleans up after it.
#[tokio::test]
async fn a_file_is_whole_whenever_its_writer_is_killed() {
    let place = Place::new();
    let path = place.file("app");
    for round in 0..25 {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::writer", "--nocapture"])
            .env("RELOADER_TEST_WRITE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        // At no moment in particular.
        tokio::time::sleep(Duration::from_micros(round * 613)).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        for name in ["app", "app.bak"] {
            let bytes = fs::read(place.file(name)).unwrap();
            assert_eq!(bytes.len(), LENGTH, "{name} in round {round}");
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{name} in round {round}");
        }
    }
    // Another one, which writes its first value and ends.
    let source = Given::with("app", "last");
    let mut working =
        work(&[&source], File::new(settings(path.as_os_str())), WorkerSettings::default());
    working.has(1).await;
    let names = || {
        let entries = fs::read_dir(place.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    until(|| (names().len() == 2).then_some(())).await;
}
