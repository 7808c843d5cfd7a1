//! `render`: a preview of the files, tested through the program.

use crate::config_text_helpers::{source, to_file};
use e2e::TestHost;

fn host() -> TestHost {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "2");
    let template =
        "[[source.sink]]\ntype = \"template\"\ntemplate = \"a={{ value }}\\n\"\npath = \"a.out\"\n";
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"touch\", \"ran\"]\n";
    let group = "[[group]]\nname = \"g\"\nsources = [\"a\", \"b\", \"c\"]\n[[group.sink]]\ntype = \"template\"\n\
                 template = \"{{ a }}{{ b }}{{ c or 3 }}\"\npath = \"g.out\"\n";
    let config = [
        source("a", &[template, exec].concat()),
        source("b", &to_file("b.out")),
        source("c", "required = false\n"),
        group.to_owned(),
    ];
    t.write("reloader.toml", config.concat());
    t
}

#[test]
fn differences_are_printed_and_nothing_changes() {
    let t = host();
    t.write("a.out", "a=0\n");
    t.write("b.out", "2");
    let run = t.finish(&["render"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(
        text,
        "# a/template-0\n--- a.out\n+++ a.out\n@@ -1 +1 @@\n-a=0\n+a=1\n# b/file-0: b.out is unchanged\n\
         # group/g/template-0\n--- /dev/null\n+++ g.out\n@@ -0,0 +1 @@\n+123\n\\ No newline at end of file\n"
    );
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    assert!(!t.path("g.out").exists() && !t.path("ran").exists());
    assert_eq!(std::fs::read_to_string(t.path("a.out")).unwrap(), "a=0\n");
}

#[test]
fn content_of_one_sink_is_printed() {
    let t = host();
    let run = t.finish(&["render", "group/g/template-0"]);
    assert_eq!((run.status, &*run.stdout), (Some(0), &b"123"[..]), "{}", run.stderr);
    let run = t.finish(&["render", "g"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2), "{error}");
    let expected = "error: no sink `g` writes a file; available: `a/template-0`, `b/file-0`, `group/g/template-0`";
    assert_eq!(error, expected);
}

#[test]
fn failing_template_and_missing_value_are_errors() {
    let t = host();
    let config = std::fs::read_to_string(t.path("reloader.toml")).unwrap();
    t.write("reloader.toml", config.replace("a={{ value }}", "{{ value.x }}"));
    std::fs::remove_file(t.path("b.in")).unwrap();
    let run = t.finish(&["render", "--timeout", "1s"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("error: sink `a/template-0`: `template`, line 1: undefined value"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("sink `b/file-0`: source `b`: "), "{}", run.stderr);
    assert!(run.stderr.contains("sink `group/g/template-0`: source `b`: "), "{}", run.stderr);
}
