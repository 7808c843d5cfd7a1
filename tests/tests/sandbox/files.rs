//! Attacks on files. A guest can read a file only through the import of the host, and only by the exact
//! text of a granted path.

use crate::run_attack::{attack, fails, value_of};
use e2e::TestHost;
use rustix::fs::{Mode, mkfifoat};
use std::{fs, os::unix::fs::symlink};

/// Creates a directory with the paths `granted` and `folder`, which the tests grant, and with secrets.
fn directory_with_secrets() -> TestHost {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    t.write("granted", "fine");
    fs::create_dir(t.path("folder")).unwrap();
    t.write("folder/file", "s3cr3t");
    symlink(t.path("secret"), t.path("link")).unwrap();
    fs::hard_link(t.path("secret"), t.path("hard")).unwrap();
    t
}

/// Asserts that a guest can neither read nor watch this path if `granted` or `folder` is granted.
/// `DIRECTORY` in the path is replaced by the directory of the test.
fn assert_path_denied(path: &str) {
    let t = directory_with_secrets();
    let to = format!("to={}", path.replace("DIRECTORY", t.directory().to_str().unwrap()));
    for granted in ["granted=granted", "granted=folder"] {
        fails(&attack(&t, "read", &[&to, granted]), "would allow it");
        fails(&attack(&t, "watch-path", &[&to, granted]), "would allow it");
    }
}

e2e::cases! {
    /// A grant covers one spelling of one path. A grant for a directory does not cover its files.
    mod ungranted_file_is_unreadable: assert_path_denied {
        other_file("secret");
        absolute_path("DIRECTORY/secret");
        parent_of_granted_file("granted/../secret");
        system_file("/etc/passwd");
        process_environment("/proc/self/environ");
        symbolic_link("link");
        hard_link("hard");
        file_in_granted_directory("folder/file");
        parent_of_granted_directory("folder/../secret");
        granted_path_with_slash("granted/");
        granted_path_with_dot("./granted");
        granted_path_with_dot_and_slashes(".//granted");
        granted_path_with_trailing_dot("granted/.");
        granted_path_through_directory("folder/../granted");
        granted_path_in_upper_case("GRANTED");
        empty_path("");
    }
}

#[test]
fn granted_file_is_readable() {
    let t = directory_with_secrets();
    let settings = ["to=granted", "granted=granted"];
    assert_eq!(value_of(&attack(&t, "read", &settings)), "fine");
    assert_eq!(value_of(&attack(&t, "watch-path", &settings)), "watched");
}

/// Performs an attack through WASI on granted paths, and asserts that it fails and changes no file.
/// `DIRECTORY` is replaced by the directory of the test.
fn assert_no_wasi_access(attack_name: &str, paths: &[&str]) {
    let t = TestHost::new();
    t.write("granted", "fine");
    fs::create_dir(t.path("folder")).unwrap();
    for path in paths {
        let path = path.replace("DIRECTORY", t.directory().to_str().unwrap());
        let settings = [format!("granted={path}"), format!("to={path}")];
        let run = attack(&t, attack_name, &[&settings[0], &settings[1]]);
        fails(&run, "No such file or directory");
    }
    assert_eq!(fs::read_to_string(t.path("granted")).unwrap(), "fine");
    let left = fs::read_dir(t.path(".")).unwrap().count();
    assert_eq!(left, 2, "directory entries were added or removed");
}

/// Spellings of the path of a granted file.
const GRANTED_FILE: &[&str] = &["granted", "DIRECTORY/granted", "/granted", "../granted"];

e2e::cases! {
    /// WASI gives no access to files, even with a grant: each operation fails.
    mod wasi_filesystem_is_empty: assert_no_wasi_access {
        open("open", GRANTED_FILE);
        write("write", GRANTED_FILE);
        truncate("truncate", GRANTED_FILE);
        rename("rename", GRANTED_FILE);
        link("link", GRANTED_FILE);
        remove("remove", GRANTED_FILE);
        list("folder", &[".", "/", "folder"]);
    }
}

#[test]
fn wasi_has_no_preopened_directory() {
    assert_eq!(value_of(&attack(&TestHost::new(), "preopened", &[])), "0");
}

fn assert_special_file_rejected(path: &str, expected: &str) {
    let t = TestHost::new();
    fs::create_dir(t.path("folder")).unwrap();
    mkfifoat(rustix::fs::CWD, t.path("fifo"), Mode::RWXU).unwrap();
    let settings = [format!("granted={path}"), format!("to={path}")];
    fails(&attack(&t, "read", &[&settings[0], &settings[1]]), expected);
}

e2e::cases! {
    /// Reading a special file fails without blocking the host.
    mod special_file_is_rejected: assert_special_file_rejected {
        directory("folder", "it is a directory");
        fifo("fifo", "regular file");
        device("/dev/zero", "regular file");
    }
}

#[test]
fn schema_default_grants_nothing() {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "file.wasm"]).status, Some(0));
    // Edit the schema in the component: `secret` becomes the default of the setting `path`. The SDK
    // does not build such a plugin, but an attacker need not use the SDK.
    let swap = |bytes: Vec<u8>, old: &str, new: &str| -> Vec<u8> {
        let new = format!("{new}{}", " ".repeat(old.len() - new.len()));
        let mut bytes = bytes;
        let places: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|&at| bytes[at..].starts_with(old.as_bytes()))
            .collect();
        assert!(!places.is_empty(), "{old}");
        for at in places {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        bytes
    };
    let bytes = fs::read(t.path("file.wasm")).unwrap();
    let help =
        r#""description":"Path of the file, which may be a symbolic link and may not exist yet.","#;
    let bytes = swap(bytes, help, r#""default":"secret","#);
    let bytes = swap(bytes, r#","required":["path"]"#, "");
    t.write("greedy.wasm", bytes);
    let run = t.finish(&["run", "--plugin", "./greedy.wasm", "--once", "--format", "raw"]);
    let (status, error) = (run.status, run.stderr);
    assert_eq!(status, Some(1), "{error}");
    assert!(run.stdout.is_empty());
    assert!(error.contains("would allow it"), "{error}");
}
