//! Files that are checked before they are replaced, tested through the program.

use crate::config_text_helpers::source;
use e2e::TestHost;
use std::fs;

/// Returns a template sink for the key `KEY` of the value, with a check that rejects the word `bad`.
fn checked(key: &str) -> String {
    format!(
        "[[source.sink]]\ntype = \"template\"\ntemplate = \"{key} {{{{ value.{key} }}}}\"\npath = \"{key}.out\"\n\
         check = [\"sh\", \"-c\", \"echo seen $(cat $0); ! grep -q bad $0\", \"{{file}}\"]\nretry-later = \"1s\"\n"
    )
}

const EXEC: &str = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat a.out >> runs; echo >> runs\"]\n";

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
