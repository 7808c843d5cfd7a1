//! Sinks on a file system that does not answer, tested through the program.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, TestHost, wait_until};
use std::fs;

/// Name of the threads that run blocking operations of sinks.
const THREAD_NAME: &str = "reloader-sinks";

/// Returns the number of threads of a process that have this name.
fn threads(process: u32, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|comm| comm.trim_end() == name).count()
}

/// A hung sink occupies one thread, however often its delivery is retried. All hung sinks on one file system occupy at
/// most 64 threads.
#[test]
fn hung_templates_block_neither_other_sinks_nor_shutdown() {
    const SINKS: usize = 80;
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("app.in", "one");
    let template = |number| {
        format!(
            "[[source.sink]]\ntype = \"template\"\ntemplate-file = \"hung/t.j2\"\npath = \"t.{number}\"\n\
             timeout = \"500ms\"\nretries = 2\n"
        )
    };
    let templates: String = (0..SINKS).map(template).collect();
    t.write("reloader.toml", source("app", &format!("{templates}{}", to_file("app.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    for value in ["two", "three", "four"] {
        t.replace("app.in", value);
        t.wait_for_file("app.out", value);
    }
    host.wait_for_log("reading `hung/t.j2` has not returned; the file system may not answer");
    host.wait_for_log("delivery retries exhausted, retrying less often");
    // One idle thread of the pool stays.
    wait_until("the threads of the hung file system", || threads(host.id(), THREAD_NAME) == 64 + 1);
    t.replace("app.in", "five");
    t.wait_for_file("app.out", "five");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn hung_target_is_reported_and_written_when_it_answers() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "one");
    let sink = format!("{}timeout = \"500ms\"\n", to_file("hung/app.out"));
    t.write("reloader.toml", source("app", &sink));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("hung/app.out", "one");
    let Some(mount) = HungMount::over(&t.path("hung")) else { return };
    t.replace("app.in", "two");
    host.wait_for_log("writing `hung/app.out` has not returned; the file system may not answer");
    drop(mount);
    t.wait_for_file("hung/app.out", "two");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The periodic check whether another program has changed the delivered file hangs. The host logs this, and SIGTERM
/// still stops the host.
#[test]
fn hung_repair_check_is_reported() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "one");
    let rest = "timeout = \"500ms\"\nrepair-interval = \"1s\"\n";
    t.write("reloader.toml", source("app", &format!("{}{rest}", to_file("hung/app.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("hung/app.out", "one");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    host.wait_for_log("checking `hung/app.out` has not returned; the file system may not answer");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn hung_template_is_a_warning_of_check() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("app.in", "one");
    let sink =
        "[[source.sink]]\ntype = \"template\"\ntemplate-file = \"hung/t.j2\"\npath = \"t\"\n";
    t.write("reloader.toml", source("app", sink));
    let run = t.finish(&["check", "--config", "reloader.toml"]);
    let expected =
        "the files of the sink were not checked within 10s; the file system may not answer";
    assert!(run.stderr.contains(expected), "{run:?}");
}
