//! Access control: modes and owners of the directory and its files, and the lock.

use crate::harness::{DEADLINE, app, open, record, save};
use reloader_state::{OpenError, Retention, State};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

fn open_error(directory: &Path) -> String {
    State::open(directory, Retention::default()).unwrap_err().to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn directory_and_files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lib/reloader");
    let state = open(&path);
    save(&state, &app(), record(1, "a"));
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&directory.path().join("lib")), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(state);
    // A wider mode is restricted again.
    let file = path.join("state.redb");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let state = open(&path);
    assert_eq!(mode(&file), 0o600);
    drop(state);
}

/// The directory has mode 0700 and the database 0600 for any umask. The test starts itself as a child process for each
/// umask, since the umask belongs to the whole process.
#[test]
fn umask_does_not_change_modes() {
    if let Ok(path) = std::env::var("STATE_UMASK") {
        drop(open(Path::new(&path)));
        return;
    }
    for umask in ["000", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let program = std::env::current_exe().unwrap();
        let name = "access::umask_does_not_change_modes";
        let script = "umask $0; exec \"$@\"";
        let ended = Command::new("sh")
            .args(["-c", script, umask])
            .arg(program)
            .args(["--exact", name])
            .env("STATE_UMASK", &path)
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        assert_eq!((mode(&path), mode(&path.join("state.redb"))), (0o700, 0o600), "{umask}");
    }
}

#[test]
fn writable_by_others_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    for open_to in [0o770, 0o702, 0o1777] {
        fs::set_permissions(directory.path(), Permissions::from_mode(open_to)).unwrap();
        let path = directory.path().display();
        assert_eq!(
            open_error(directory.path()),
            format!(
                "{path} cannot be used for the state store: other users can write to it (mode \
                 {open_to:o}); hint: run `chmod 700`"
            )
        );
    }
    // A directory that other users can list is accepted, since its files are private.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    drop(open(directory.path()));
}

#[test]
fn wrong_file_types_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(open_error(&file).contains("not a directory"), "{}", open_error(&file));

    let path = directory.path().join("state");
    drop(open(&path));
    let database = path.join("state.redb");
    // A symbolic link is rejected: it might lead to a directory that other users can write to.
    fs::rename(&database, directory.path().join("elsewhere")).unwrap();
    symlink(directory.path().join("elsewhere"), &database).unwrap();
    let error = State::open(&path, Retention::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { operation: "open", .. }), "{error}");
    fs::remove_file(&database).unwrap();
    // Opening a FIFO does not block.
    let made = Command::new("mkfifo").arg(&database).status().unwrap();
    assert!(made.success());
    assert!(
        open_error(&path).contains("not a regular file; hint: move or delete it"),
        "{}",
        open_error(&path)
    );
}

#[test]
fn second_host_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let pid = std::process::id();
    let path = directory.path().display();
    assert_eq!(
        open_error(directory.path()),
        format!(
            "state directory {path} is in use by another host (process {pid}); hint: stop that host, or set \
             a different `path` in `[state]`"
        )
    );
    state.close(DEADLINE).unwrap();
    drop(open(directory.path()));
}

/// A child process can hold the lock after the host has ended, for example between fork and exec. The error names the
/// child process, and a start waits until the child has ended.
#[test]
fn lock_held_by_child_names_process() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let lock = directory.path().join("lock");
    let mut ended = Command::new("true").spawn().unwrap();
    let host = ended.id();
    ended.wait().unwrap();
    fs::write(&lock, format!("{host}\n")).unwrap();
    // The child inherits the lock with its standard input.
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
    let before = Instant::now();
    let error = open_error(directory.path());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    let expected = format!(
        "is locked by process {} (`sleep`), which a host that has ended may have started; hint: stop that process",
        child.id()
    );
    assert!(error.contains(&expected), "{error}");
    // A start waits for a lock that is released within the timeout.
    let opening = thread::spawn({
        let directory = directory.path().to_owned();
        move || State::open(&directory, Retention::default()).map(drop)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    opening.join().unwrap().unwrap();
}

#[test]
fn partial_database_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("state.redb.new"), "half a database").unwrap();
    drop(open(directory.path()));
    assert!(!directory.path().join("state.redb.new").exists());
}
