//! Atomicity of file writes when the writing process is killed.

use crate::harness::{TestDir, TestSource, spawn_worker, wait_until};
use reloader_delivery::{Backup, File, FileSettings, WorkerSettings};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

/// Size of the values that the helper process writes, in bytes.
const VALUE_BYTES: usize = 300_000;

/// A writing process is killed at random moments. The file and its backup are always complete, and the next writer
/// removes the temporary files.
#[tokio::test]
async fn killed_writer_leaves_complete_file() {
    let dir = TestDir::new();
    let path = dir.file("app");
    for round in 0..25 {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_delivery-test-process"))
            .arg("write")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "writing");
        // Kills the process at a different moment in each round.
        tokio::time::sleep(Duration::from_micros(round * 613)).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        for name in ["app", "app.bak"] {
            let bytes = fs::read(dir.file(name)).unwrap();
            assert_eq!(bytes.len(), VALUE_BYTES, "{name} in round {round}");
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{name} in round {round}");
        }
    }
    // The first write of a new sink removes the temporary files.
    let source = TestSource::with("app", "last");
    let settings =
        FileSettings { backup: Backup::Suffix(".bak".into()), ..FileSettings::new(path) };
    let mut worker = spawn_worker(&[&source], File::new(settings), WorkerSettings::default());
    worker.delivered(1).await;
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    wait_until(|| (names().len() == 2).then_some(())).await;
}
