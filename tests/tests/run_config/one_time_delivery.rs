//! `run --config --once`: one delivery of each source to each sink, tested through the program.

use crate::config_text_helpers::{source, to_file};
use e2e::{Finished, TestHost};
use std::{fs, path::Path};

const ONCE: [&str; 6] = ["run", "--config", "reloader.toml", "--once", "--timeout", "20s"];
const STATELESS: &str = "[state]\nenabled = false\n";

fn template(text: &str, path: &str) -> String {
    format!("[[source.sink]]\ntype = \"template\"\ntemplate = \"{text}\"\npath = \"{path}\"\n")
}

/// Returns the exit status, and standard error without the directory of the test.
fn once(t: &TestHost, config: &str) -> (Option<i32>, String) {
    t.write("reloader.toml", format!("{STATELESS}{config}"));
    let Finished { status, stderr, .. } = t.finish(&ONCE);
    (status, stderr.replace(&format!("{}/", t.directory().display()), ""))
}

fn read(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap_or_default()
}

fn is_empty_of_temporaries(directory: &Path) -> bool {
    let mut names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    !names.any(|name| name.to_string_lossy().starts_with(".reloader-"))
}

#[test]
fn everything_is_delivered_once() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "2");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat a.one > ran\"]\n";
    let group = "[[group]]\nname = \"both\"\nsources = [\"a\", \"b\"]\n[[group.sink]]\ntype = \"template\"\n\
                 template = \"{{ a }}{{ b }}\"\npath = \"both.out\"\n";
    let command = "[command]\ncommand = [\"touch\", \"started\"]\n";
    let listen = format!("[listen]\naddress = \"unix:{}\"\n", t.path("api.sock").display());
    let sinks =
        [template("one {{ value }}", "a.one"), template("two {{ value }}", "a.two")].concat();
    let config = [source("a", &(sinks + exec)), source("b", &to_file("b.out"))].concat();
    let (status, log) = once(&t, &[&config, group, command, &listen].concat());
    assert_eq!(status, Some(0), "{log}");
    for (file, content) in [
        ("a.one", "one 1"),
        ("a.two", "two 1"),
        ("ran", "one 1"),
        ("b.out", "2"),
        ("both.out", "12"),
    ] {
        assert_eq!(read(&t, file), content, "{file}: {log}");
    }
    assert!(!t.path("started").exists() && !t.path("api.sock").exists(), "{log}");
}

/// A failure is named, the rest is delivered, and nothing is half-written.
#[test]
fn failures_are_named_and_the_rest_is_delivered() {
    let exec = |command: &str| format!("[[source.sink]]\ntype = \"exec\"\ncommand = {command}\n");
    let checked = "[[source.sink]]\ntype = \"file\"\npath = \"a.checked\"\ncheck = [\"sh\", \"-c\", \"echo no; exit 3\"]\n";
    for (sink, expected) in [
        (
            template("{{ missing }}", "a.other"),
            "sink `a/template-1`: `template`, line 1: undefined value",
        ),
        (
            exec("[\"sh\", \"-c\", \"echo bad; exit 7\"]"),
            "sink `a/exec-1`: `sh` failed with status 7: bad",
        ),
        (exec("[\"no-such-program\"]"), "sink `a/exec-1`: `no-such-program` cannot be started"),
        (to_file("missing/out"), "sink `a/file-1`: cannot write `missing/out`: "),
        (
            checked.to_owned(),
            "sink `a/file-1`: the check rejected the new content of `a.checked`: `sh` failed with status 3: no",
        ),
    ] {
        let t = TestHost::new();
        t.write("a.in", "1");
        let config = source("a", &(to_file("a.out") + &sink));
        t.write("reloader.toml", format!("{STATELESS}{config}"));
        let run = t.finish(&["run", "--config", "reloader.toml", "--once", "--timeout", "4s"]);
        assert_eq!(run.status, Some(1), "{}", run.stderr);
        let heading = "error: not everything is delivered (`--timeout 4s`):";
        assert!(run.stderr.contains(heading), "{}", run.stderr);
        assert!(run.stderr.contains(expected), "{expected} is not in {}", run.stderr);
        assert_eq!(read(&t, "a.out"), "1", "{}", run.stderr);
        assert!(is_empty_of_temporaries(t.directory()), "{}", run.stderr);
    }
}

#[test]
fn source_without_value_is_named_unless_it_is_optional() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let missing = source("missing", &to_file("missing.out"));
    let config = [source("a", &to_file("a.out")), missing].concat();
    t.write("reloader.toml", format!("{STATELESS}{config}"));
    let run = t.finish(&["run", "--config", "reloader.toml", "--once", "--timeout", "2s"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("source `missing`: "), "{}", run.stderr);
    let optional = config.replace("name = \"missing\"", "name = \"missing\"\nrequired = false");
    let (status, log) = once(&t, &optional);
    assert_eq!(status, Some(0), "{log}");
    // The value of an optional source is waited for.
    t.write("missing.in", "2");
    let (status, log) = once(&t, &optional);
    assert_eq!((status, &*read(&t, "missing.out")), (Some(0), "2"), "{log}");
}

/// A source that can never work ends the run before the time limit.
#[test]
fn permanent_failure_ends_the_run_early() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let rejected = source("a", &template("{{ value.x }}", "a.out"));
    t.write("reloader.toml", format!("{STATELESS}{rejected}"));
    let run = t.finish(&["run", "--config", "reloader.toml", "--once", "--timeout", "1h"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("sink `a/template-0`: "), "{}", run.stderr);
}

#[test]
fn rejected_value_is_named() {
    let t = TestHost::new();
    t.write("a.in", "{");
    let config = source("a", &to_file("a.out")).replacen(
        "[[source.sink]]",
        "validate = { parse = \"json\" }\n[[source.sink]]",
        1,
    );
    t.write("reloader.toml", format!("{STATELESS}{config}"));
    let run = t.finish(&["run", "--config", "reloader.toml", "--once", "--timeout", "2s"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("source `a`: value rejected: invalid JSON"), "{}", run.stderr);
}
