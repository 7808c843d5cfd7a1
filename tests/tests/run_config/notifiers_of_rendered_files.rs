//! Commands beside rendered files, tested through the program: they run when a file changes, and only then.

use crate::config_text_helpers::source;
use e2e::{TestHost, wait_until_or};
use std::{fs, thread, time::Duration};

/// Sinks that render the key `a` of the value to `app.out` and log a run of the command in `runs`, with the content of
/// the file.
const SINKS: &str = "[[source.sink]]\ntype = \"template\"\ntemplate-file = \"app.j2\"\npath = \"app.out\"\n\
    [[source.sink]]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"cat app.out >> runs\"]\n";

fn host() -> TestHost {
    let t = TestHost::new();
    t.write("app.json", "{\"a\": 1}");
    t.write("app.j2", "a{{ value.a }};");
    let config = source("app", SINKS).replace("app.in", "app.json");
    t.write("reloader.toml", config);
    t
}

#[test]
fn command_runs_for_edited_template_and_not_for_unrelated_value() {
    let t = host();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "a1;");
    t.replace("app.j2", "b{{ value.a }};");
    t.wait_for_file("runs", "a1;b1;");
    // Neither the part that the template does not use nor a reload changes the file.
    t.replace("app.json", "{\"a\": 1, \"b\": 1}");
    host.hang_up();
    host.wait_for_log("configuration reloaded");
    t.replace("app.json", "{\"a\": 2, \"b\": 1}");
    t.wait_for_file("runs", "a1;b1;b2;");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    // The template is edited while the host is stopped.
    t.write("app.j2", "c{{ value.a }};");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "a1;b1;b2;c2;");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.replace("app.json", "{\"a\": 3}");
    t.wait_for_file("runs", "a1;b1;b2;c2;c3;");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The host is killed at many instants around the write of the file and the run of the command.
#[test]
fn killed_host_misses_no_run() {
    let t = host();
    for value in 1..=12_u32 {
        t.replace("app.json", format!("{{\"a\": {value}}}"));
        let mut host = t.run(&["run", "--config", "reloader.toml"]);
        // Not a wait for an event: the instants of the kills are spread over the time of a start and a delivery.
        thread::sleep(Duration::from_millis(u64::from(value) * 30));
        host.kill();
    }
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    let describe = || format!("runs {:?}; {}", fs::read_to_string(t.path("runs")), host.stderr());
    wait_until_or(describe, || {
        let runs = fs::read_to_string(t.path("runs")).unwrap_or_default();
        runs.ends_with("a12;")
    });
    host.kill();
}
