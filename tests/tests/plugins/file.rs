//! `host run --plugin file`: the ways in which a file can change.

use e2e::{Running, TestHost};
use std::{fs, os::unix::fs::symlink};

fn watching(t: &TestHost) -> Running {
    t.run(&["run", "--plugin", "file", "--set", "path=app.toml", "--interval", "1h"])
}

#[test]
fn each_change_is_printed() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let mut run = watching(&t);
    let first = run.event();
    assert_eq!(first["source"], "file");
    assert_eq!(first["event"], "changed");
    assert_eq!(first["revision"], 1);
    assert_eq!(first["content"], "a = 1");
    assert_eq!(first["media_type"], "application/toml");
    for number in 2..6 {
        t.replace("app.toml", format!("a = {number}"));
        let line = run.wait_for_value(&format!("a = {number}"));
        assert_eq!(line["revision"], number);
    }
}

#[test]
fn write_append_and_rename_are_noticed() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let mut run = watching(&t);
    run.wait_for_value("a = 1");
    t.write("app.toml", "a = 2");
    run.wait_for_value("a = 2");
    let mut file = fs::File::options().append(true).open(t.path("app.toml")).unwrap();
    std::io::Write::write_all(&mut file, b"\nb = 3").unwrap();
    drop(file);
    run.wait_for_value("a = 2\nb = 3");
    fs::rename(t.path("app.toml"), t.path("app.toml~")).unwrap();
    t.write("app.toml", "a = 4");
    run.wait_for_value("a = 4");
}

/// While a writer keeps the file open, the host reads the file when the writer pauses.
#[test]
fn open_writer_is_debounced() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let mut run = watching(&t);
    run.wait_for_value("a = 1");
    let mut file = fs::File::options().append(true).open(t.path("app.toml")).unwrap();
    std::io::Write::write_all(&mut file, b"\nb = 2").unwrap();
    run.wait_for_value("a = 1\nb = 2");
}

#[test]
fn removed_file_is_reported_and_returns() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let mut run = watching(&t);
    run.wait_for_value("a = 1");
    fs::remove_file(t.path("app.toml")).unwrap();
    assert_eq!(run.wait_for_event("removed")["revision"], 2);
    t.write("app.toml", "a = 1");
    assert_eq!(run.wait_for_value("a = 1")["revision"], 3);
}

#[test]
fn missing_directory_is_waited_for() {
    let t = TestHost::new();
    let mut run =
        t.run(&["run", "--plugin", "file", "--set", "path=a/b/app.toml", "--interval", "1h"]);
    fs::create_dir_all(t.path("a/b")).unwrap();
    t.write("a/b/app.toml", "a = 1");
    run.wait_for_value("a = 1");
    fs::rename(t.path("a"), t.path("old")).unwrap();
    fs::create_dir_all(t.path("a/b")).unwrap();
    t.write("a/b/app.toml", "a = 2");
    run.wait_for_value("a = 2");
}

#[test]
fn kubernetes_volume_swap_is_noticed() {
    let t = TestHost::new();
    let version = |name: &str, content: &str| {
        fs::create_dir(t.path(name)).unwrap();
        t.write(&format!("{name}/app.toml"), content);
        symlink(name, t.path("..data.new")).unwrap();
        fs::rename(t.path("..data.new"), t.path("..data")).unwrap();
    };
    version("..1", "a = 1");
    symlink("..data/app.toml", t.path("app.toml")).unwrap();
    let mut run = watching(&t);
    run.wait_for_value("a = 1");
    for number in 2..5 {
        version(&format!("..{number}"), &format!("a = {number}"));
        fs::remove_dir_all(t.path(&format!("..{}", number - 1))).unwrap();
        run.wait_for_value(&format!("a = {number}"));
    }
}

#[test]
fn renamed_directory_is_rewatched() {
    let t = TestHost::new();
    fs::create_dir(t.path("d")).unwrap();
    t.write("d/app.toml", "a = 0");
    let mut run =
        t.run(&["run", "--plugin", "file", "--set", "path=d/app.toml", "--interval", "1h"]);
    run.wait_for_value("a = 0");
    for number in 1..6 {
        fs::create_dir(t.path("new")).unwrap();
        t.write("new/app.toml", format!("a = {number}"));
        fs::rename(t.path("d"), t.path("old")).unwrap();
        fs::rename(t.path("new"), t.path("d")).unwrap();
        run.wait_for_value(&format!("a = {number}"));
        // A change in the new directory is only reported if the new directory is watched.
        t.replace("d/app.toml", format!("b = {number}"));
        run.wait_for_value(&format!("b = {number}"));
        fs::remove_dir_all(t.path("old")).unwrap();
    }
}

#[test]
fn burst_ends_with_last_value() {
    let t = TestHost::new();
    t.write("app.toml", "0");
    let mut run = watching(&t);
    run.wait_for_value("0");
    for number in 1..=1000 {
        t.replace("app.toml", number.to_string());
    }
    run.wait_for_value("1000");
}

#[test]
fn polling_notices_changes() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let polling = ["--strategy", "polling", "--interval", "20ms"];
    let mut run =
        t.run(&[&["run", "--plugin", "file", "--set", "path=app.toml"], &polling[..]].concat());
    run.wait_for_value("a = 1");
    t.replace("app.toml", "a = 2");
    run.wait_for_value("a = 2");
}

#[test]
fn binary_value_is_base64_or_raw() {
    let t = TestHost::new();
    t.write("blob", [0xff, 0x00, 0x0a]);
    let once = ["run", "--plugin", "file", "--set", "path=blob", "--once"];
    let json = t.finish(&once);
    let line: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(line["content_base64"], "/wAK");
    let raw = t.finish(&[&once[..], &["--format", "raw"]].concat());
    assert_eq!(raw.stdout, [0xff, 0x00, 0x0a]);
}
