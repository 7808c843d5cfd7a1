//! File systems that do not answer, under the configuration file, sources, secrets or the state store: they delay
//! neither other sources nor the end of the host.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, TestHost, wait_until};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Maximum time from a stop request to the end of the host.
const MAX_STOP_TIME: Duration = Duration::from_secs(5);

/// The file system of the configuration file, a source, a template and a secret stops answering. Another source is
/// delivered, a later reload works, and the host stops in time.
#[test]
fn hung_file_system_delays_nothing_else() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let template =
        "[[source.sink]]\ntype = \"template\"\ntemplate-file = \"hung/t.j2\"\npath = \"t.out\"\n";
    let config = [
        source("app", &to_file("app.out")),
        source("templated", template),
        source("secret", "").replace("secret.in", "${file:hung/secret}"),
        source("lost", &to_file("hung/lost.out")).replace("lost.in", "hung/lost.in"),
    ];
    let config = config.concat();
    t.write("hung/reloader.toml", &config);
    t.write("hung/t.j2", "{{ value }}");
    t.write("hung/secret", "secret.in");
    t.write("hung/lost.in", "1");
    for name in ["app", "templated", "secret"] {
        t.write(&format!("{name}.in"), "1");
    }
    let mut host = t.run(&["run", "--config", "hung/reloader.toml"]);
    t.wait_for_file("app.out", "1");
    t.wait_for_file("t.out", "1");
    t.wait_for_file("hung/lost.out", "1");
    let Some(mount) = HungMount::over(&t.path("hung")) else { return };
    t.replace("templated.in", "2");
    host.hang_up();
    t.replace("app.in", "2");
    t.wait_for_file("app.out", "2");
    host.wait_for_log(
        "hung/reloader.toml: cannot be read: the file system has not answered for 10s",
    );
    t.replace("app.in", "3");
    t.wait_for_file("app.out", "3");
    drop(mount);
    t.replace("hung/reloader.toml", config.replace("app.out", "app2.out"));
    host.hang_up();
    t.wait_for_file("app2.out", "3");
    let _mount = HungMount::over(&t.path("hung"));
    host.hang_up();
    t.replace("app.in", "4");
    t.wait_for_file("app2.out", "4");
    host.stop_in_time();
}

#[test]
fn stop_while_configuration_file_hangs_is_a_success() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let mut host = t.run(&["run", "--config", "hung/reloader.toml"]);
    wait_until("the thread that reads the configuration", || {
        host.thread_names().iter().any(|name| name == "reloader-files")
    });
    let start = Instant::now();
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// The host resolves the directories of files to find sinks that write the same file. A directory that does not answer
/// prevents neither the start nor a reload.
#[test]
fn hung_directories_prevent_neither_start_nor_reload() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("app.in", "1");
    let lost = source("lost", &to_file("hung/other/lost.in")).replace("lost.in", "hung/lost.in");
    let config = source("app", &to_file("app.out")) + &lost;
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "1");
    t.replace("reloader.toml", config.replace("app.out", "app2.out"));
    t.wait_for_file("app2.out", "1");
    host.stop_in_time();
}

#[test]
fn plugin_run_of_hung_source_stops() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let mut host =
        t.run(&["run", "--plugin", "file", "--set", "path=hung/app.in", "--interval", "100ms"]);
    host.wait_for_log("the file system has not answered");
    let start = Instant::now();
    host.interrupt();
    assert!(start.elapsed() < MAX_STOP_TIME, "{}", host.stderr());
}

/// A stop request aborts a running delivery, although the command of the sink ignores SIGTERM.
#[test]
fn running_sink_command_is_aborted_at_stop() {
    let t = TestHost::new();
    t.write("app.in", "1");
    let exec = "[[source.sink]]\ntype = \"exec\"\n\
                command = [\"sh\", \"-c\", \"trap '' TERM; touch started; sleep 60 & wait; sleep 60\"]\n\
                timeout = \"2m\"\n";
    t.write("reloader.toml", source("app", exec));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("started", "");
    host.stop_in_time();
}

/// The host stops by SIGTERM although the disk of its state store hangs, so that a restart needs no SIGKILL.
#[test]
fn hung_state_directory_does_not_delay_stop() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "1");
    let state = "[state]\npath = \"hung/state\"\n";
    t.write("reloader.toml", state.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "1");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.replace("app.in", "2");
    host.stop_in_time();
}

#[test]
fn check_of_hung_state_directory_is_a_warning() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("app.in", "1");
    let state = "[state]\npath = \"hung/state\"\n";
    t.write("reloader.toml", state.to_owned() + &source("app", ""));
    let checked = t.finish(&["check"]);
    let expected = "reloader.toml:2:8: not checked: the file system has not answered for 10s";
    assert!(checked.stderr.contains(expected), "{}", checked.stderr);
    assert_eq!(checked.status, Some(0));
}

/// The host does not start if the certificate file of its API cannot be read in time. The error names the file.
#[test]
fn hung_certificate_of_api_fails_the_start() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("app.in", "1");
    let listen = "[listen]\naddress = \"127.0.0.1:0\"\n\
                  [listen.tls]\ncert = \"hung/server.pem\"\nkey = \"server.key\"\n";
    t.write("reloader.toml", listen.to_owned() + &source("app", ""));
    let run = t.finish(&["run", "--config", "reloader.toml"]);
    let expected =
        "hung/server.pem` (`cert` in `[listen.tls]`): the file system has not answered for 5s";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    assert_ne!(run.status, Some(0));
}
