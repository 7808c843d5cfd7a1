//! Hosts with few processes (`ulimit -u`) and few open files (`ulimit -n`).

use crate::config_text_helpers::source;
use e2e::TestHost;
use std::fs;

/// Each limit makes the start fail at another step: the thread of the command, the configuration, the log, the async
/// runtime, signals, the WebAssembly runtime, or the compiler process.
#[test]
fn exhausted_process_limit_is_named() {
    for limit in 1..=14 {
        let t = TestHost::new();
        t.write("app.in", "1");
        t.write("reloader.toml", source("app", ""));
        let arguments = ["run", "--config", "reloader.toml"];
        let Some(run) = t.finish_with_process_limit(limit, &arguments) else { return };
        let (status, error) = run.status_and_error();
        assert_eq!(status, Some(1), "{limit}: {error}");
        assert_eq!(error.lines().count(), 1, "{limit}: {error}");
        assert!(error.contains("the system cannot start a thread"), "{limit}: {error}");
        assert!(error.ends_with("`ulimit -u`, `pids.max`, `TasksMax`)"), "{limit}: {error}");
    }
}

/// Some programs handle only file descriptors below the usual limit.
#[test]
fn soft_open_file_limit_is_raised_for_the_host_only() {
    let t = TestHost::new();
    t.write("app.in", "1");
    let sink =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"ulimit -n > limit.out\"]\n";
    t.write("reloader.toml", source("app", sink));
    let host = t.run_with_ulimit("-S -n 100", &["run", "--config", "reloader.toml"]);
    t.wait_for_file("limit.out", "100\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = [0, 1].map(|number| line.split_whitespace().nth(number).unwrap());
    assert_eq!(soft, hard, "{limits}");
}
