//! Validation of values as configured by `validate`.

use crate::config_text_helpers::{source, to_file};
use e2e::{TestHost, guest, number_range, wait_until};
use std::fs;

#[test]
fn rejected_value_is_not_delivered() {
    let t = TestHost::new();
    t.write("app.in", r#"{"port": 1}"#);
    t.write("schema.json", r#"{ "properties": { "port": { "type": "integer" } } }"#);
    let validator = number_range().display().to_string();
    let rest = format!(
        "[source.validate]\nparse = \"json\"\nschema = \"schema.json\"\n\
         command = [\"grep\", \"-vq\", \"forbidden\"]\nplugin = {validator:?}\n\
         config.rules = [{{ at = \"/port\", max = 100 }}]\n\
         {}",
        to_file("app.out")
    );
    t.write("reloader.toml", source("app", &rest));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", r#"{"port": 1}"#);
    for (bad, reason) in [
        (r#"{"port": "#, "invalid JSON at line 1, column 9: EOF while parsing a value"),
        (r#"{"port": "x"}"#, "`/port`: it is not of type \"integer\""),
        (r#"{"port": 101}"#, "rejected by `number-range`: `/port` is 101"),
        (r#"{"port": 2, "forbidden": 1}"#, "`grep` failed with status 1"),
    ] {
        t.replace("app.in", bad);
        host.wait_for_log(reason);
        assert_eq!(fs::read_to_string(t.path("app.out")).unwrap(), r#"{"port": 1}"#);
        wait_until("the stored rejected value", || {
            let kept = t.finish(&["history", "app", "--rejected"]);
            kept.stdout == bad.as_bytes()
        });
        let history = t.finish(&["history", "app"]);
        assert!(String::from_utf8_lossy(&history.stdout).contains(reason), "{history:?}");
    }
    t.replace("app.in", r#"{"port": 2}"#);
    t.wait_for_file("app.out", r#"{"port": 2}"#);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

fn assert_check_fails(settings: &str, expected: &str) {
    let t = TestHost::new();
    t.write("reloader.toml", source("app", &format!("[source.validate]\n{settings}\n")));
    let checked = t.finish(&["check", "--config", "reloader.toml"]);
    assert_eq!(checked.status, Some(2), "{checked:?}");
    assert!(checked.stderr.contains(expected), "{expected} is not in: {}", checked.stderr);
}

e2e::cases! {
    mod invalid_validator_is_reported_by_check: assert_check_fails {
        missing_schema("schema = \"none.json\"", "cannot read the schema none.json");
        missing_plugin("plugin = \"none.wasm\"", "none.wasm");
        settings_without_plugin("config.a = 1", "`config` requires `plugin`");
        source_plugin(
            &format!("plugin = {:?}", guest("attacker")),
            "`attacker` is a source, not a validator",
        );
        missing_plugin_setting(&format!("plugin = {:?}", number_range()), "rules");
        invalid_shrink("max-shrink = \"half\"", "expected a share from `0%` to `99%`");
    }
}

#[test]
fn validator_as_source_is_reported_by_check() {
    let t = TestHost::new();
    let plugin = format!("{:?}", number_range());
    t.write("reloader.toml", source("app", "").replace("\"file\"", &plugin));
    let checked = t.finish(&["check", "--config", "reloader.toml"]);
    let expected = "`number-range` is a validator, not a source";
    assert!(checked.stderr.contains(expected), "{}", checked.stderr);
}

#[test]
fn rejected_first_value_is_kept_in_history() {
    let t = TestHost::new();
    t.write("app.in", "{");
    let rest = format!("[source.validate]\nparse = \"json\"\n{}", to_file("app.out"));
    t.write("reloader.toml", source("app", &rest));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("new value rejected");
    wait_until("the stored rejected value", || {
        t.finish(&["history", "app", "--rejected"]).stdout == b"{"
    });
    t.replace("app.in", "{}");
    t.wait_for_file("app.out", "{}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// After a schema has rejected large values, the sandbox and the allocator return their memory to the system.
#[test]
fn memory_of_rejected_values_is_returned() {
    let t = TestHost::new();
    t.write("app.in", "[]");
    t.write(
        "schema.json",
        r#"{ "items": { "required": ["a", "b", "c", "d", "e", "f", "g", "h"] } }"#,
    );
    let rest = "[source.validate]\nparse = \"json\"\nschema = \"schema.json\"\n";
    t.write("reloader.toml", source("app", &format!("{rest}{}", to_file("app.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "[]");
    // The measurement starts after the first validation, which compiles the validator's component, and after the first
    // rejection, which is stored.
    t.replace("app.in", "[{}]");
    host.wait_for_log("is a required property");
    t.replace("app.in", "[0]");
    t.wait_for_file("app.out", "[0]");
    let before = host.resident_mib();
    for round in 1..=4 {
        let bytes = if round % 2 == 0 { (8 << 20) - 16 } else { 450_000 };
        t.replace("app.in", format!("[{}{{}}]", "{},".repeat(bytes / 3)));
        wait_until("the value is rejected", || {
            host.stderr().matches("new value rejected").count() > round
        });
        t.replace("app.in", format!("[{round}]"));
        t.wait_for_file("app.out", &format!("[{round}]"));
    }
    let most = before + 32;
    wait_until("the memory is returned", || host.resident_mib() <= most);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
