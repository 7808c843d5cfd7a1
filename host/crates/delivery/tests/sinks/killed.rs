//! Atomicity of file writes when the writing process is killed.

use crate::harness::{TestDir, TestSource, spawn_worker, wait_until};
use reloader_delivery::{Backup, File, FileSettings, WorkerSettings};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

/// Size of a value, in bytes. Each value repeats one letter and takes more than one write call.
const VALUE_BYTES: usize = 300_000;
/// Environment variable with the path that the helper process writes to.
const PATH_VARIABLE: &str = "RELOADER_TEST_WRITE";
/// Name of the helper process in the test binary.
const WRITER: &str = "killed::writer_process";

fn value(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    letter.to_string().repeat(VALUE_BYTES)
}

fn settings(path: &std::ffi::OsStr) -> FileSettings {
    FileSettings { backup: Backup::Suffix(".bak".into()), ..FileSettings::new(path) }
}

/// Helper process of `killed_writer_leaves_complete_file`: writes values until it is killed.
#[tokio::test]
#[ignore = "helper process of another test"]
async fn writer_process() {
    let Some(path) = env::var_os(PATH_VARIABLE) else { return };
    let source = TestSource::new("app");
    let mut worker =
        spawn_worker(&[&source], File::new(settings(&path)), WorkerSettings::default());
    for number in 0.. {
        source.set(&value(number));
        worker.delivered(number as u64 + 1).await;
        if number == 3 {
            #[allow(clippy::print_stdout, reason = "the test waits for this line")]
            {
                println!("writing");
            }
        }
    }
}

/// Neither the file nor its backup is ever partial, and the next writer removes temporary files.
#[tokio::test]
async fn killed_writer_leaves_complete_file() {
    let dir = TestDir::new();
    let path = dir.file("app");
    for round in 0..25 {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", WRITER, "--ignored", "--nocapture"])
            .env(PATH_VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
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
    // A new writer removes the temporary files with its first write.
    let source = TestSource::with("app", "last");
    let mut worker =
        spawn_worker(&[&source], File::new(settings(path.as_os_str())), WorkerSettings::default());
    worker.delivered(1).await;
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    wait_until(|| (names().len() == 2).then_some(())).await;
}
