//! Secret, certificate and key files on a file system that does not answer: the start fails and names the file.

use crate::config_text_helpers::source;
use e2e::{HungMount, TestHost};
use std::fs;

/// Runs the host with a file system at the directory `hung` that never answers. Returns the exit status and the log, or
/// `None` if the test is skipped.
fn finish(config: &str, command: &str) -> Option<(Option<i32>, String)> {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("reloader.toml", config);
    fs::create_dir(t.path("hung")).unwrap();
    let _mount = HungMount::over(&t.path("hung"))?;
    let run = t.finish(&[command, "--config", "reloader.toml"]);
    Some((run.status, run.stderr))
}

fn assert_start_names_file(config: &str, expected: &str) {
    let Some((status, log)) = finish(config, "run") else { return };
    assert_eq!(status, Some(2), "{log}");
    assert!(log.contains(expected), "{log}");
}

#[test]
fn hung_secret_in_settings_fails_the_start() {
    let config =
        "[[source]]\nname = \"app\"\nplugin = \"file\"\nconfig.path = \"${file:hung/secret}\"\n";
    assert_start_names_file(
        config,
        "`hung/secret` cannot be read: the file system has not answered for 5s",
    );
}

#[test]
fn hung_certificate_fails_the_start() {
    let config = "[[source]]\nname = \"app\"\nplugin = \"http\"\nconfig.url = \"https://localhost/\"\n\
                  tls.ca = \"hung/ca.pem\"\n";
    assert_start_names_file(
        config,
        "`hung/ca.pem` (`--tls-ca`): the file system has not answered for 5s",
    );
}

/// A webhook sink reads its secret at each delivery. `host check` reads the secret too, and reports the file.
#[test]
fn hung_secret_of_webhook_is_reported() {
    let hook = "[[source.sink]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n\
                secret = \"${file:hung/secret}\"\n";
    let Some((_, log)) = finish(&source("app", hook), "check") else { return };
    assert!(
        log.contains("`hung/secret` cannot be read: the file system has not answered for 5s"),
        "{log}"
    );
}
