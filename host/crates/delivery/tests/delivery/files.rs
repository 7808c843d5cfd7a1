//! Tests of the sink `file`, with real files.

use crate::harness::{TestDir, TestSource, spawn_worker};
use reloader_delivery::{
    Backup, Encoding, File, FileSettings, Mode, OnRemoved, Sink, SinkKind, SinkSettings,
    WorkerSettings,
};
use reloader_engine::types::Snapshot;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn to(path: impl AsRef<Path>) -> FileSettings {
    FileSettings::new(path.as_ref())
}

/// Delivers one value. Returns the reason of a failure.
async fn deliver(settings: FileSettings, value: &str) -> Result<(), String> {
    let source = TestSource::with("app", value);
    let worker_settings = WorkerSettings { retries: 0, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&source], File::new(settings), worker_settings);
    let status = worker.when(|status| status.at.is_some() || status.failing.is_some()).await;
    status.failing.map_or(Ok(()), |reason| Err(reason.to_string()))
}

fn names(dir: &TestDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn file_has_value_without_temporary_files() {
    let dir = TestDir::new();
    let source = TestSource::with("app", "one");
    let mut worker =
        spawn_worker(&[&source], File::new(to(dir.file("app"))), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!(dir.read("app"), "one");
    source.set("two");
    worker.delivered(2).await;
    assert_eq!(dir.read("app"), "two");
    assert_eq!(names(&dir), ["app"]);
}

#[tokio::test]
async fn non_durable_write_replaces_file() {
    let dir = TestDir::new();
    deliver(FileSettings { durable: false, ..to(dir.file("app")) }, "one").await.unwrap();
    deliver(FileSettings { durable: false, ..to(dir.file("app")) }, "two").await.unwrap();
    assert_eq!(dir.read("app"), "two");
    assert_eq!(names(&dir), ["app"]);
}

#[tokio::test]
async fn new_file_is_private_and_mode_is_inherited() {
    let dir = TestDir::new();
    deliver(to(dir.file("new")), "a").await.unwrap();
    assert_eq!(mode(&dir.file("new")), 0o600);
    fs::write(dir.file("old"), "before").unwrap();
    fs::set_permissions(dir.file("old"), Permissions::from_mode(0o640)).unwrap();
    deliver(to(dir.file("old")), "a").await.unwrap();
    assert_eq!((mode(&dir.file("old")), dir.read("old").as_str()), (0o640, "a"));
    let settings = FileSettings { mode: Some(Mode(0o644)), ..to(dir.file("old")) };
    deliver(settings, "b").await.unwrap();
    assert_eq!(mode(&dir.file("old")), 0o644);
}

#[tokio::test]
async fn unchanged_file_is_not_written() {
    let dir = TestDir::new();
    deliver(to(dir.file("app")), "a").await.unwrap();
    let before = fs::metadata(dir.file("app")).unwrap();
    // A new worker without a delivery record, as after a restart.
    let source = TestSource::with("app", "a");
    let mut worker =
        spawn_worker(&[&source], File::new(to(dir.file("app"))), WorkerSettings::default());
    assert_eq!(worker.delivered(1).await.changes, 0);
    let after = fs::metadata(dir.file("app")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // If only the permissions differ, the file is changed in place and keeps its inode.
    let settings = FileSettings { mode: Some(Mode(0o644)), ..to(dir.file("app")) };
    deliver(settings, "a").await.unwrap();
    assert_eq!(mode(&dir.file("app")), 0o644);
    assert_eq!(fs::metadata(dir.file("app")).unwrap().ino(), before.ino());
}

#[tokio::test]
async fn external_change_is_corrected_at_start() {
    let dir = TestDir::new();
    deliver(to(dir.file("app")), "right").await.unwrap();
    fs::write(dir.file("app"), "wrong").unwrap();
    deliver(to(dir.file("app")), "right").await.unwrap();
    assert_eq!(dir.read("app"), "right");
}

#[tokio::test]
async fn symbolic_link_stays_and_target_is_replaced() {
    let dir = TestDir::new();
    fs::create_dir(dir.file("dotfiles")).unwrap();
    fs::write(dir.file("dotfiles/app"), "before").unwrap();
    symlink("dotfiles/app", dir.file("app")).unwrap();
    symlink(dir.file("app"), dir.file("twice")).unwrap();
    deliver(to(dir.file("twice")), "a").await.unwrap();
    assert!(fs::symlink_metadata(dir.file("app")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(dir.file("dotfiles/app")).unwrap(), "a");
    // If the target does not exist, the delivery creates it.
    symlink("dotfiles/new", dir.file("dangling")).unwrap();
    deliver(to(dir.file("dangling")), "b").await.unwrap();
    assert_eq!(fs::read_to_string(dir.file("dotfiles/new")).unwrap(), "b");
    symlink("circle", dir.file("circle")).unwrap();
    let error = deliver(to(dir.file("circle")), "c").await.unwrap_err();
    assert!(error.contains("too many levels of symbolic links"), "{error}");
}

#[tokio::test]
async fn foreign_link_in_world_writable_directory_is_rejected() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    fs::write(dir.file("passwd"), "root").unwrap();
    symlink("passwd", dir.file("app")).unwrap();
    lchown(dir.file("app"), Some(65534), Some(65534)).unwrap();
    for mode in [0o1777, 0o777] {
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let error = deliver(to(dir.file("app")), "a").await.unwrap_err();
        assert!(error.contains("app` belongs to another user"), "{error}");
        assert_eq!(dir.read("passwd"), "root");
    }
}

/// A user who can write to the directory can point the link at any file, which the host would overwrite as root.
#[tokio::test]
async fn foreign_link_in_shared_directory_is_rejected() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    fs::create_dir(dir.file("etc")).unwrap();
    fs::write(dir.file("etc/passwd"), "root").unwrap();
    fs::create_dir(dir.file("shared")).unwrap();
    symlink("../etc/passwd", dir.file("shared/app")).unwrap();
    let (root, other) = (0, 65533);
    for (directory_owner, mode) in [(root, 0o775), (root, 0o757), (other, 0o755)] {
        lchown(dir.file("shared"), Some(directory_owner), Some(other)).unwrap();
        fs::set_permissions(dir.file("shared"), Permissions::from_mode(mode)).unwrap();
        for in_place in [false, true] {
            lchown(dir.file("shared/app"), Some(other), Some(other)).unwrap();
            let settings = FileSettings { in_place, ..to(dir.file("shared/app")) };
            let error = deliver(settings, "a").await.unwrap_err();
            assert!(error.contains("shared/app` belongs to another user"), "{error}");
            assert_eq!(dir.read("etc/passwd"), "root");
        }
        // A symbolic link that belongs to root is followed.
        lchown(dir.file("shared/app"), Some(root), Some(root)).unwrap();
        deliver(to(dir.file("shared/app")), "operator").await.unwrap();
        assert_eq!(dir.read("etc/passwd"), "operator");
        fs::write(dir.file("etc/passwd"), "root").unwrap();
    }
    // In a directory that only root can write, the owner of a link does not matter.
    lchown(dir.file("shared"), Some(root), Some(root)).unwrap();
    fs::set_permissions(dir.file("shared"), Permissions::from_mode(0o755)).unwrap();
    lchown(dir.file("shared/app"), Some(other), Some(other)).unwrap();
    deliver(to(dir.file("shared/app")), "operator").await.unwrap();
    assert_eq!(dir.read("etc/passwd"), "operator");
}

#[tokio::test]
async fn preflight_warns_of_foreign_link() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    symlink("/etc/passwd", dir.file("app")).unwrap();
    lchown(dir.file("app"), Some(65533), Some(65533)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o775)).unwrap();
    let sink: SinkSettings = SinkKind::File(to(dir.file("app"))).into();
    let warnings = sink.preflight(&["app"]);
    let [(key, reason)] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(*key, "path");
    assert!(reason.contains("belongs to another user and can be redirected"), "{reason}");
}

/// The error has the text of the operating system, without the random name of the temporary file, so that repeated
/// failures have equal messages.
#[tokio::test]
async fn full_disk_error_is_the_same_each_time() {
    let dir = TestDir::new();
    let Some(_mount) = SmallMount::over(dir.path()) else { return };
    let value = "x".repeat(1 << 20);
    let errors = [
        deliver(to(dir.file("app")), &value).await.unwrap_err(),
        deliver(to(dir.file("app")), &value).await.unwrap_err(),
    ];
    assert!(errors[0].ends_with("app`: No space left on device (os error 28)"), "{errors:?}");
    assert_eq!(errors[0], errors[1]);
}

/// In-memory file system with a capacity of 64 KiB.
struct SmallMount(PathBuf);

impl SmallMount {
    /// Returns `None` if this process may not mount.
    fn over(directory: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "test"]).arg(directory);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(directory.into()))
    }
}

impl Drop for SmallMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn foreign_file_in_world_writable_directory_is_rejected() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    fs::write(dir.file("app"), "theirs").unwrap();
    fs::set_permissions(dir.file("app"), Permissions::from_mode(0o666)).unwrap();
    lchown(dir.file("app"), Some(65534), Some(65534)).unwrap();
    let error = deliver(to(dir.file("app")), "secret").await.unwrap_err();
    assert!(error.contains("the file belongs to another user"), "{error}");
    assert_eq!(dir.read("app"), "theirs");
    // A file of the configured owner is accepted.
    let settings = FileSettings { owner: Some("nobody".into()), ..to(dir.file("app")) };
    deliver(settings, "for them").await.unwrap();
    assert_eq!(dir.read("app"), "for them");
}

#[tokio::test]
async fn owner_and_group_are_set_or_inherited() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    let (owner, group) = (Some("nobody".into()), Some("65533".into()));
    deliver(FileSettings { owner, group, ..to(dir.file("app")) }, "a").await.unwrap();
    let of = |name| fs::metadata(dir.file(name)).map(|it| (it.uid(), it.gid())).unwrap();
    assert_eq!(of("app"), (65534, 65533));
    deliver(to(dir.file("app")), "b").await.unwrap();
    assert_eq!(of("app"), (65534, 65533), "inherited");
}

#[tokio::test]
async fn unknown_owner_is_an_error() {
    let dir = TestDir::new();
    let owner = Some("no-such-user".into());
    let error = deliver(FileSettings { owner, ..to(dir.file("app")) }, "a").await.unwrap_err();
    assert!(error.ends_with("user `no-such-user` does not exist (`owner`)"), "{error}");
    assert!(names(&dir).is_empty(), "no file with a wrong owner");
}

#[tokio::test]
async fn backup_keeps_previous_file() {
    let dir = TestDir::new();
    for in_place in [false, true] {
        let name = format!("app-{in_place}");
        let backup = Backup::Suffix(".before".into());
        let source = TestSource::with("app", "one");
        let settings = FileSettings { backup, in_place, ..to(dir.file(&name)) };
        let mut worker = spawn_worker(&[&source], File::new(settings), WorkerSettings::default());
        worker.delivered(1).await;
        assert!(!dir.file(&format!("{name}.before")).exists(), "no previous file");
        for (revision, value) in [(2, "two"), (3, "three")] {
            source.set(value);
            worker.delivered(revision).await;
        }
        assert_eq!(dir.read(&name), "three");
        assert_eq!(dir.read(&format!("{name}.before")), "two");
        assert_eq!(mode(&dir.file(&format!("{name}.before"))), 0o600);
    }
    assert_eq!(names(&dir).len(), 4);
}

#[tokio::test]
async fn in_place_write_keeps_the_inode() {
    let dir = TestDir::new();
    fs::write(dir.file("app"), "a longer text before").unwrap();
    let before = fs::metadata(dir.file("app")).unwrap().ino();
    deliver(FileSettings { in_place: true, ..to(dir.file("app")) }, "short").await.unwrap();
    assert_eq!(dir.read("app"), "short");
    assert_eq!(fs::metadata(dir.file("app")).unwrap().ino(), before);
    assert_eq!(names(&dir), ["app"]);
}

#[tokio::test]
async fn missing_directories_are_created_on_request() {
    let dir = TestDir::new();
    let path = dir.file("a/b/app");
    let error = deliver(to(&path), "x").await.unwrap_err();
    let expected = "a/b/app`: No such file or directory (os error 2); hint: ";
    assert!(error.starts_with("cannot write `") && error.contains(expected), "{error}");
    assert!(error.ends_with("or set `create-directories = true`"), "{error}");
    assert!(!error.contains(".reloader-"), "no random name: {error}");
    deliver(FileSettings { create_directories: true, ..to(&path) }, "x").await.unwrap();
    assert_eq!(dir.read("a/b/app"), "x");
}

#[tokio::test]
async fn directory_is_not_replaced() {
    let dir = TestDir::new();
    fs::create_dir(dir.file("app")).unwrap();
    let error = deliver(to(dir.file("app")), "x").await.unwrap_err();
    assert!(error.ends_with("not a regular file"), "{error}");
    assert_eq!(names(&dir), ["app"]);
}

#[tokio::test]
async fn removed_value_removes_file_on_request() {
    let dir = TestDir::new();
    for in_place in [false, true] {
        let name = format!("app-{in_place}");
        let source = TestSource::with("app", "a");
        let sink = File::new(FileSettings { in_place, ..to(dir.file(&name)) });
        let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
        let mut worker = spawn_worker(&[&source], sink, settings);
        worker.delivered(1).await;
        source.remove();
        worker.delivered(2).await;
        assert_eq!((dir.file(&name).exists(), dir.read(&name).as_str()), (in_place, ""));
    }
}

#[tokio::test]
async fn several_sources_are_rejected() {
    let dir = TestDir::new();
    let (a, b) = (TestSource::with("a", "1"), TestSource::with("b", "2"));
    let sink = File::new(to(dir.file("app")));
    assert!(sink.detects_unchanged());
    let mut worker = spawn_worker(&[&a, &b], sink, WorkerSettings::default());
    assert!(worker.failure().await.contains("use `type = \"template\"`"));
}

/// Delivers a JSON value.
async fn deliver_json(settings: FileSettings, json: &'static str) -> Result<(), String> {
    let source = TestSource::new("app");
    source.publish(Some(Snapshot {
        media_type: Some("application/json".into()),
        ..Snapshot::new(json)
    }));
    let worker_settings = WorkerSettings { retries: 0, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&source], File::new(settings), worker_settings);
    let status = worker.when(|status| status.at.is_some() || status.failing.is_some()).await;
    status.failing.map_or(Ok(()), |reason| Err(reason.to_string()))
}

#[tokio::test]
async fn part_of_a_value_is_written() {
    let dir = TestDir::new();
    let json = r#"{"tls": {"cert": "PEM", "store": "/u3+\n7Q==", "ports": [1, 2]}}"#;
    let at = |at: &str| FileSettings { at: Some(at.into()), ..to(dir.file("app")) };
    deliver_json(at("/tls/cert"), json).await.unwrap();
    assert_eq!(dir.read("app"), "PEM");
    deliver_json(FileSettings { append_newline: true, ..at("/tls/cert") }, json).await.unwrap();
    assert_eq!(dir.read("app"), "PEM\n");
    deliver_json(at("/tls/ports"), json).await.unwrap();
    assert_eq!(dir.read("app"), "[1,2]");
    let base64 = Some(Encoding::Base64);
    deliver_json(FileSettings { encoding: base64, ..at("/tls/store") }, json).await.unwrap();
    assert_eq!(fs::read(dir.file("app")).unwrap(), [0xfe, 0xed, 0xfe, 0xed]);
    for (settings, expected) in [
        (at("/tls/missing"), "source `app`: the value has nothing at `/tls/missing` (`at`)"),
        (FileSettings { encoding: base64, ..at("/tls/ports") }, "source `app`: invalid Base64: "),
    ] {
        let error = deliver_json(settings, json).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = deliver(at("/tls"), "text").await.unwrap_err();
    assert_eq!(error, "source `app`: `at` needs JSON, TOML or YAML, but the media type is missing");
}
