//! The API is as its description says, for requests that nobody has thought of.

use crate::Served;
use std::process::Command;

/// What has no end is left out: it is not what such a checker waits for.
#[test]
fn whatever_is_asked_is_answered_as_described() {
    if !e2e::have("schemathesis") {
        return;
    }
    let served = Served::app("");
    let checked = Command::new("schemathesis")
        .args(["run", &format!("{}/openapi.json", served.base)])
        .args(["--exclude-path-regex", "events$", "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "30", "--request-timeout", "20", "--no-color"])
        .current_dir(served.t.path("."))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}\n{}", served.host.stderr());
    assert!(!served.host.stderr().contains("panicked"), "{}", served.host.stderr());
}
