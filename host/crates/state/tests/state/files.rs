//! Who may use the state, and who may see it.

use crate::{DEADLINE, app, open, record, save};
use reloader_state::{OpenError, Settings, State};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

fn refused(directory: &Path) -> String {
    State::open(directory, Settings::default()).unwrap_err().to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_directory_and_its_files_are_their_owners_alone() {
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
    // One that somebody has opened to others is closed again.
    let file = path.join("state.redb");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let state = open(&path);
    assert_eq!(mode(&file), 0o600);
    drop(state);
}

/// A process of its own, since the umask is that of the whole process.
#[test]
fn the_umask_does_not_matter() {
    if let Ok(path) = std::env::var("STATE_UMASK") {
        drop(open(Path::new(&path)));
        return;
    }
    for umask in ["000", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let program = std::env::current_exe().unwrap();
        let name = "files::the_umask_does_not_matter";
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
fn a_directory_that_others_may_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for open_to in [0o770, 0o702, 0o1777] {
        fs::set_permissions(directory.path(), Permissions::from_mode(open_to)).unwrap();
        let path = directory.path().display();
        assert_eq!(
            refused(directory.path()),
            format!(
                "the state cannot be kept in {path}: others may write to it (mode {open_to:o}); \
                 `chmod 700` it"
            )
        );
    }
    // Others may look into it: what is there is not theirs to read.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    drop(open(directory.path()));
}

#[test]
fn what_is_no_directory_or_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file).contains("it is not a directory"), "{}", refused(&file));

    let path = directory.path().join("state");
    drop(open(&path));
    let database = path.join("state.redb");
    // A link might lead to where others can write.
    fs::rename(&database, directory.path().join("elsewhere")).unwrap();
    symlink(directory.path().join("elsewhere"), &database).unwrap();
    let error = State::open(&path, Settings::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { doing: "opening it", .. }), "{error}");
    fs::remove_file(&database).unwrap();
    // Nor is anybody waited for at the other end of a pipe.
    let made = Command::new("mkfifo").arg(&database).status().unwrap();
    assert!(made.success());
    assert!(refused(&path).contains("it is not a file; move it away"), "{}", refused(&path));
}

#[test]
fn two_hosts_do_not_use_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let pid = std::process::id();
    let path = directory.path().display();
    assert_eq!(
        refused(directory.path()),
        format!(
            "the state in {path} is in use by another host (process {pid}); stop that one, or set \
             another `path` in `[state]`"
        )
    );
    state.close(DEADLINE).unwrap();
    drop(open(directory.path()));
}

#[test]
fn a_start_that_was_interrupted_leaves_nothing_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("state.redb.new"), "half a database").unwrap();
    drop(open(directory.path()));
    assert!(!directory.path().join("state.redb.new").exists());
}
