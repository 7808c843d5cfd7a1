//! Checks that each attack has a test.

use e2e::{TestHost, guest, package};
use std::fs;

/// Returns the source text of the tests that may use guests.
fn test_sources() -> String {
    let folders = ["tests", "tests/sandbox"].map(|folder| package().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("coverage.rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn each_deed_has_test() {
    let t = TestHost::new();
    let plugin = guest("restless").display().to_string();
    let inspected = t.finish(&["inspect", "--json", &plugin]).text();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let deeds = inspected["settings"]["properties"]["deed"]["enum"].as_array().unwrap();
    let tests = test_sources();
    let without: Vec<&str> = deeds
        .iter()
        .filter_map(serde_json::Value::as_str)
        .filter(|deed| !tests.contains(&format!("{deed:?}")))
        .collect();
    assert!(deeds.len() > 60 && without.is_empty(), "without a test: {without:?}");
}

#[test]
fn each_text_guest_has_test() {
    let tests = test_sources();
    let mut all = 0;
    for entry in fs::read_dir(package().join("guests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(tests.contains(&format!("{name:?}")), "without a test: {name}.wat");
            all += 1;
        }
    }
    assert!(all > 20, "{all}");
}
