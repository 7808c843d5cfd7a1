//! Getting started for plugin authors: the example of the crate documentation of the SDK builds and runs.

use e2e::{TestHost, build_guest};
use std::fs;

/// Returns the first code block with this fence from the crate documentation of the SDK.
fn block(page: &str, fence: &str) -> String {
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines
        .skip_while(|line| *line != fence)
        .skip(1)
        .take_while(|line| *line != "```")
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn documentation_example_plugin_builds_and_runs() {
    let t = TestHost::new();
    let sdk = e2e::package().join("../guest-sdk").canonicalize().unwrap();
    let page = fs::read_to_string(sdk.join("src/lib.rs")).unwrap();
    let source = block(&page, "```");
    assert!(source.lines().count() < 30, "the example has fewer than 30 lines: {source}");
    let manifest = block(&page, "```toml").replace("…/guest-sdk", &sdk.display().to_string());
    fs::create_dir_all(t.path("greeting/src")).unwrap();
    t.write("greeting/src/lib.rs", source);
    t.write("greeting/Cargo.toml", manifest);
    // Pin the dependency versions of the bundled plugins, so that new releases do not affect the
    // test.
    fs::copy(sdk.join("../plugins/Cargo.lock"), t.path("greeting/Cargo.lock")).unwrap();
    let plugin = build_guest(&t.path("greeting"), &[]).join("greeting.wasm").display().to_string();

    let run =
        t.finish(&["run", "--plugin", &plugin, "--set", "name=you", "--once", "--format", "raw"]);
    assert_eq!(run.text(), "Hello, you!");
    let run = t.finish(&["run", "--plugin", &plugin, "--once", "--format", "raw"]);
    assert_eq!(run.text(), "Hello, world!");

    let run = t.finish(&["run", "--plugin", &plugin, "--strategy", "realtime"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2));
    assert!(error.contains("cannot watch"), "{error}");

    let inspect = t.finish(&["inspect", &plugin]).text();
    for expected in ["greeting", "source", "Name of the person to greet.", "\"world\"", "none"] {
        assert!(inspect.contains(expected), "{expected}: {inspect}");
    }
}
