//! A plugin's author, who has the SDK's front page and nothing else.

use e2e::{TestHost, build};
use std::fs;

/// The first block of a kind on the SDK's front page, without the comment signs.
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
fn the_smallest_plugin_of_the_documentation_builds_in_a_folder_of_its_own_and_runs() {
    let t = TestHost::new();
    let sdk = e2e::package().join("../guest-sdk").canonicalize().unwrap();
    let page = fs::read_to_string(sdk.join("src/lib.rs")).unwrap();
    let source = block(&page, "```");
    assert!(source.lines().count() < 30, "it is small: {source}");
    let manifest = block(&page, "```toml").replace("…/guest-sdk", &sdk.display().to_string());
    fs::create_dir_all(t.path("greeting/src")).unwrap();
    t.write("greeting/src/lib.rs", source);
    t.write("greeting/Cargo.toml", manifest);
    // The same versions as the bundled plugins', so that the test depends on nobody's new release.
    fs::copy(sdk.join("../plugins/Cargo.lock"), t.path("greeting/Cargo.lock")).unwrap();
    let plugin = build(&t.path("greeting"), &[]).join("greeting.wasm").display().to_string();

    let run =
        t.finish(&["run", "--plugin", &plugin, "--set", "name=you", "--once", "--format", "raw"]);
    assert_eq!(run.text(), "Hello, you!");
    let run = t.finish(&["run", "--plugin", &plugin, "--once", "--format", "raw"]);
    assert_eq!(run.text(), "Hello, world!");

    let run = t.finish(&["run", "--plugin", &plugin, "--strategy", "realtime"]);
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(2));
    assert!(complaint.contains("cannot watch"), "{complaint}");

    let inspect = t.finish(&["inspect", &plugin]).text();
    for expected in ["greeting", "source", "Whom to greet.", "\"world\"", "nothing"] {
        assert!(inspect.contains(expected), "{expected}: {inspect}");
    }
}
