//! Tests of `check`: a command accepts the new content before it replaces a file.

use crate::harness::{TestDir, TestSource, spawn_worker, wait_until};
use reloader_delivery::{
    Backup, File, FileSettings, Template, TemplateSettings, WorkerSettings, process::CommandLine,
};
use std::{fs, os::unix::fs::PermissionsExt};

/// Returns the settings of the file `app` with a check that accepts contents with the word `good`.
fn checked(dir: &TestDir) -> FileSettings {
    let script = format!("echo \"$0\" >> {}; grep good \"$0\"", dir.file("checks").display());
    let check = CommandLine::program(["sh", "-c", &script, "{file}"]);
    FileSettings { check: Some(check), ..FileSettings::new(dir.file("app")) }
}

fn names(dir: &TestDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "checks");
    names.sort();
    names
}

#[tokio::test]
async fn rejected_content_does_not_replace_the_file() {
    let dir = TestDir::new();
    let app = TestSource::with("app", "good 1");
    let mut worker = spawn_worker(&[&app], File::new(checked(&dir)), WorkerSettings::default());
    worker.delivered(1).await;
    app.set("bad 2");
    let failure = worker.failure().await;
    let expected =
        format!("the check rejected the new content of `{}`: ", dir.file("app").display());
    assert!(failure.starts_with(&expected), "{failure}");
    assert!(failure.contains("`sh` failed with status 1"), "{failure}");
    assert_eq!(dir.read("app"), "good 1");
    app.set("good 3");
    wait_until(|| (dir.read("app") == "good 3").then_some(())).await;
    wait_until(|| (names(&dir) == ["app"]).then_some(())).await;
}

/// The reason of a rejection may be outside of the content, so the check is repeated.
#[tokio::test]
async fn rejected_content_is_checked_again() {
    let dir = TestDir::new();
    let other = dir.file("other");
    let command = format!("test -e {}", other.display());
    let settings = FileSettings {
        check: Some(CommandLine::Shell(command)),
        ..FileSettings::new(dir.file("app"))
    };
    let app = TestSource::with("app", "1");
    let mut worker = spawn_worker(&[&app], File::new(settings), WorkerSettings::default());
    worker.failure().await;
    assert!(!dir.file("app").exists());
    fs::write(other, "").unwrap();
    worker.delivered(1).await;
    assert_eq!(dir.read("app"), "1");
}

/// The checked file is beside the target and has the final permissions.
#[tokio::test]
async fn checked_file_is_beside_the_target() {
    let dir = TestDir::new();
    let mut settings = checked(&dir);
    settings.mode = Some(reloader_delivery::Mode(0o640));
    settings.backup = Backup::Suffix(".bak".into());
    fs::write(dir.file("app"), "good old").unwrap();
    let app = TestSource::with("app", "good new");
    let mut worker = spawn_worker(&[&app], File::new(settings), WorkerSettings::default());
    worker.delivered(1).await;
    let checks = dir.read("checks");
    assert!(checks.starts_with(&format!("{}/.reloader-", dir.path().display())), "{checks}");
    assert_eq!((dir.read("app"), dir.read("app.bak")), ("good new".into(), "good old".into()));
    let mode = fs::metadata(dir.file("app")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[tokio::test]
async fn unchanged_content_is_not_checked() {
    let dir = TestDir::new();
    fs::write(dir.file("app"), "good").unwrap();
    let app = TestSource::with("app", "good");
    let mut worker = spawn_worker(&[&app], File::new(checked(&dir)), WorkerSettings::default());
    worker.delivered(1).await;
    assert!(!dir.file("checks").exists());
}

#[tokio::test]
async fn file_is_checked_before_it_is_overwritten_in_place() {
    let dir = TestDir::new();
    fs::write(dir.file("app"), "good 1").unwrap();
    let app = TestSource::with("app", "bad");
    let settings = FileSettings { in_place: true, ..checked(&dir) };
    let mut worker = spawn_worker(&[&app], File::new(settings), WorkerSettings::default());
    worker.failure().await;
    assert_eq!(dir.read("app"), "good 1");
    app.set("good 2");
    wait_until(|| (dir.read("app") == "good 2").then_some(())).await;
    wait_until(|| (names(&dir) == ["app"]).then_some(())).await;
}

#[tokio::test]
async fn rendered_template_is_checked() {
    let dir = TestDir::new();
    let check = Some(CommandLine::Shell("grep -q good \"$RELOADER_FILE\"".into()));
    let settings =
        TemplateSettings { check, ..TemplateSettings::new("is {{ value }}", dir.file("out")) };
    let app = TestSource::with("app", "bad");
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.failure().await;
    assert!(!dir.file("out").exists());
    app.set("good");
    wait_until(|| dir.file("out").exists().then_some(())).await;
    assert_eq!(dir.read("out"), "is good");
}

/// A program that does not exist is not a rejection.
#[tokio::test]
async fn missing_check_program_is_reported() {
    let dir = TestDir::new();
    let check = Some(CommandLine::program(["no-such-check", "{file}"]));
    let settings = FileSettings { check, ..FileSettings::new(dir.file("app")) };
    let app = TestSource::with("app", "1");
    let mut worker = spawn_worker(&[&app], File::new(settings), WorkerSettings::default());
    let failure = worker.failure().await;
    assert!(failure.contains("cannot be checked: `no-such-check` cannot be started"), "{failure}");
}
