//! Checks that each attack of the guest `attacker` and each text guest has a test.

use e2e::{TestHost, guest, package};
use std::{fs, path::Path};

/// Returns the source text of all tests, without this file.
fn test_sources() -> String {
    let mut sources = String::new();
    append_sources(&package().join("tests"), &mut sources);
    sources
}

fn append_sources(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            append_sources(&path, sources);
        } else if !path.ends_with("attack_coverage.rs") {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_attack_has_test() {
    let t = TestHost::new();
    let plugin = guest("attacker").display().to_string();
    let inspected = t.finish(&["inspect", "--json", &plugin]).text();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let attacks = inspected["settings"]["properties"]["attack"]["enum"].as_array().unwrap();
    let tests = test_sources();
    let without: Vec<&str> = attacks
        .iter()
        .filter_map(serde_json::Value::as_str)
        .filter(|attack| !tests.contains(&format!("{attack:?}")))
        .collect();
    assert!(attacks.len() > 60 && without.is_empty(), "without a test: {without:?}");
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
