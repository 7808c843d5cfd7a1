//! Files that are checked before they are replaced, tested through the program.

use crate::config_text_helpers::source;
use e2e::{TestHost, wait_until};
use std::fs;

/// Returns a template sink for the key `KEY` of the value, with a check that rejects the word `bad`.
fn checked(key: &str) -> String {
    format!(
        "[[source.sink]]\ntype = \"template\"\ntemplate = \"{key} {{{{ value.{key} }}}}\"\npath = \"{key}.out\"\n\
         check = [\"sh\", \"-c\", \"echo seen $(cat $0); ! grep -q bad $0\", \"{{file}}\"]\nretry-later = \"1s\"\n"
    )
}

const EXEC: &str = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat a.out b.out >> runs; echo >> runs\"]\n";

fn host(sinks: &str) -> TestHost {
    let t = TestHost::new();
    let config = source("app", sinks).replace("app.in", "app.json");
    t.write("reloader.toml", config);
    t.write("app.json", "{\"a\": 1, \"b\": 1}");
    t
}

fn read(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap_or_default()
}

/// The status names the check and its output, and no command runs. The next valid value passes.
#[test]
fn rejected_content_is_reported_and_holds_back_notifiers() {
    let t = host(&[&checked("a"), EXEC].concat());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "a 1\n");
    t.replace("app.json", "{\"a\": \"bad\"}");
    host.wait_for_log(
        "the check rejected the new content of `a.out`: `sh` failed with status 1: seen a bad",
    );
    let status = t.finish(&["status", "--config", "reloader.toml", "--json"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains("the check rejected the new content of `a.out`: `sh` failed"),
        "{status}"
    );
    assert!(status.contains("waiting for sink `template-0`"), "{status}");
    assert_eq!((read(&t, "a.out"), read(&t, "runs")), ("a 1".into(), "a 1\n".into()));
    t.replace("app.json", "{\"a\": 2}");
    t.wait_for_file("runs", "a 1\na 2\n");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// All files of a source are replaced, or none. A notifier runs after all of them.
#[test]
fn files_are_replaced_together() {
    let t = host(&[&checked("a"), &checked("b"), EXEC].concat());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "a 1b 1\n");
    t.replace("app.json", "{\"a\": 2, \"b\": \"bad\"}");
    host.wait_for_log("the check rejected the new content of `b.out`");
    // The first check has accepted its content meanwhile.
    host.wait_for_log("seen a 2");
    assert_eq!((read(&t, "a.out"), read(&t, "b.out")), ("a 1".into(), "b 1".into()));
    t.replace("app.json", "{\"a\": 3, \"b\": 3}");
    t.wait_for_file("runs", "a 1b 1\na 3b 3\n");
    assert_eq!((read(&t, "a.out"), read(&t, "b.out")), ("a 3".into(), "b 3".into()));
    // The rejection is still there after a restart, and ends with a corrected check.
    t.replace("app.json", "{\"a\": 4, \"b\": \"bad\"}");
    host.wait_for_log("seen a 4");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert_eq!((read(&t, "a.out"), read(&t, "b.out")), ("a 3".into(), "b 3".into()));
    let config = read(&t, "reloader.toml");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("the check rejected the new content of `b.out`");
    assert_eq!((read(&t, "a.out"), read(&t, "b.out")), ("a 3".into(), "b 3".into()));
    t.replace("reloader.toml", config.replace("grep -q bad", "grep -q worse"));
    wait_until("both files", || {
        (read(&t, "a.out"), read(&t, "b.out")) == ("a 4".into(), "b bad".into())
    });
    t.wait_for_file("runs", "a 1b 1\na 3b 3\na 4b bad\n");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The check of one file is repeated until it accepts; the other file waits for it.
#[test]
fn accepted_file_waits_for_a_check_that_is_repeated() {
    let t = host("");
    let waiting = "[[source.sink]]\ntype = \"file\"\npath = \"b.out\"\ncheck = \"test -e allowed\"\nretry-later = \"1s\"\n";
    let config = source("app", &[&checked("a"), waiting].concat()).replace("app.in", "app.json");
    t.write("reloader.toml", config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("the check rejected the new content of `b.out`");
    host.wait_for_log("seen a 1");
    assert!(!t.path("a.out").exists() && !t.path("b.out").exists());
    t.write("allowed", "");
    t.wait_for_file("a.out", "a 1");
    t.wait_for_file("b.out", "{\"a\": 1, \"b\": 1}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
