//! Attacks on files. Only granted paths are readable, by their exact text, and only through the
//! host.

use crate::{deed, fails, value_of};
use e2e::TestHost;
use rustix::fs::{Mode, mkfifoat};
use std::{fs, os::unix::fs::symlink};

#[test]
fn ungranted_file_is_unreadable() {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    t.write("granted", "fine");
    fs::create_dir(t.path("folder")).unwrap();
    t.write("folder/file", "s3cr3t");
    symlink(t.path("secret"), t.path("link")).unwrap();
    fs::hard_link(t.path("secret"), t.path("hard")).unwrap();
    let secret = t.path("secret").display().to_string();
    let spellings = [
        "secret",
        secret.as_str(),
        "granted/../secret",
        "/etc/passwd",
        "/proc/self/environ",
        "link",
        "hard",
        "folder/file",
        "folder/../secret",
        "granted/",
        "./granted",
        ".//granted",
        "granted/.",
        "folder/../granted",
        "GRANTED",
        "granted\0",
        "",
    ];
    for path in spellings {
        let (to, granted) = (format!("to={path}"), ["granted=granted", "granted=folder"]);
        // A grant for a directory does not cover the files in it.
        for granted in granted {
            if path.contains('\0') {
                continue;
            }
            fails(&deed(&t, "read", &[&to, granted]), "would allow it");
            fails(&deed(&t, "watch-path", &[&to, granted]), "would allow it");
        }
    }
    assert_eq!(value_of(&deed(&t, "read", &["to=granted", "granted=granted"])), "fine");
    assert_eq!(value_of(&deed(&t, "watch-path", &["to=granted", "granted=granted"])), "watched");
}

/// WASI gives no access to files: no preopened directories, and each operation fails.
#[test]
fn wasi_filesystem_is_empty() {
    let t = TestHost::new();
    t.write("granted", "fine");
    fs::create_dir(t.path("folder")).unwrap();
    let file = t.path("granted").display().to_string();
    assert_eq!(value_of(&deed(&t, "preopened", &[])), "0");
    for deed_ in ["open", "write", "truncate", "rename", "link", "remove"] {
        for path in ["granted", file.as_str(), "/granted", "../granted"] {
            let settings = [format!("granted={path}"), format!("to={path}")];
            let run = deed(&t, deed_, &[&settings[0], &settings[1]]);
            fails(&run, "No such file or directory");
        }
    }
    for folder in [".", "/", "folder"] {
        let settings = [format!("granted={folder}"), format!("to={folder}")];
        fails(&deed(&t, "folder", &[&settings[0], &settings[1]]), "No such file or directory");
    }
    assert_eq!(fs::read_to_string(t.path("granted")).unwrap(), "fine");
    let left = fs::read_dir(t.path(".")).unwrap().count();
    assert_eq!(left, 2, "directory entries were added or removed");
}

/// Reading a directory, a FIFO or a device fails immediately.
#[test]
fn special_file_is_rejected() {
    let t = TestHost::new();
    fs::create_dir(t.path("folder")).unwrap();
    mkfifoat(rustix::fs::CWD, t.path("fifo"), Mode::RWXU).unwrap();
    for (path, expected) in
        [("folder", "it is a directory"), ("fifo", "regular file"), ("/dev/zero", "regular file")]
    {
        let settings = [format!("granted={path}"), format!("to={path}")];
        fails(&deed(&t, "read", &[&settings[0], &settings[1]]), expected);
    }
}

#[test]
fn schema_default_grants_nothing() {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "file.wasm"]).status, Some(0));
    // The SDK does not build such a plugin, but an attacker need not use the SDK.
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
    let (status, complaint) = (run.status, run.stderr);
    assert_eq!(status, Some(1), "{complaint}");
    assert!(run.stdout.is_empty());
    assert!(complaint.contains("would allow it"), "{complaint}");
}
