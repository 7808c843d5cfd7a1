//! Conformance of the API to its OpenAPI description, checked with generated requests
//! (schemathesis).

use crate::served::Served;
use std::process::Command;

/// Event streams are excluded, because the checker waits for the end of each response.
#[test]
fn generated_requests_match_openapi() {
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
    let output = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{output}\n{}", served.host.stderr());
    assert!(!served.host.stderr().contains("panicked"), "{}", served.host.stderr());
}
