//! Validation of the configuration file: all errors are reported at once, with line and column.

use crate::config_text_helpers::source;
use e2e::TestHost;

fn check(text: &str) -> (Option<i32>, String) {
    let t = TestHost::new();
    t.write("reloader.toml", text);
    let finished = t.finish(&["check", "--config", "reloader.toml"]);
    (finished.status, finished.stderr)
}

#[test]
fn minimal_source_has_three_keys() {
    let t = TestHost::new();
    t.write(
        "reloader.toml",
        "[[source]]\nname = \"app\"\nplugin = \"file\"\nconfig.path = \"a.toml\"\n",
    );
    let finished = t.finish(&["check"]);
    assert_eq!((finished.status, &*finished.stderr), (Some(0), ""));
    let output = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(output, "reloader.toml: OK (1 source, 0 sinks)\n");
}

#[test]
fn all_errors_are_reported_with_location() {
    let (status, output) = check(
        r#"
[[source]]
name = "app"
plugin = "file"
intervall = "10s"
stale-after = "soon"
config = { path = "a.toml" }
[[source.sink]]
type = "file"

[[source]]
name = "app"
plugin = "file"
config = { path = "b.toml" }
limits = { memroy = "1MiB" }
grants = { connect = ["nowhere"] }

[[source]]
plugin = "file"

[[group]]
name = "all"
sources = ["app", "ap"]

[stat]
"#,
    );
    assert_eq!(status, Some(2), "{output}");
    for expected in [
        "reloader.toml:5:1: unknown key `intervall`; did you mean `interval`?",
        "reloader.toml:6:15: `stale-after`: expected a number and its unit, e.g. `500ms`",
        "reloader.toml:8:",
        "`path` is missing",
        "reloader.toml:12:8: duplicate source name `app`",
        "reloader.toml:15:21: unknown limit `memroy`",
        "reloader.toml:16:23: invalid grant `nowhere`",
        "`name` is missing",
        "reloader.toml:23:19: unknown source `ap`; did you mean `app`?",
        "reloader.toml:25:2: unknown table `stat`; did you mean `state`?",
    ] {
        assert!(output.contains(expected), "{expected:?} is not in\n{output}");
    }
}

#[test]
fn syntax_error_has_location() {
    let (status, output) = check("[[source]]\nname = \nplugin = 'file\n");
    assert_eq!(status, Some(2));
    assert!(output.contains("reloader.toml:2:") && output.contains("reloader.toml:3:"), "{output}");
}

#[test]
fn plugin_settings_are_checked_by_schema() {
    let (status, output) = check(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nconfig = { pfad = \"x\" }\n\n\
         [[source]]\nname = \"b\"\nplugin = \"flie\"\n",
    );
    assert_eq!(status, Some(2));
    assert!(output.contains("reloader.toml:4:19: unknown setting `pfad`"), "{output}");
    assert!(output.contains("reloader.toml:4:10: setting `path` is missing"), "{output}");
    assert!(output.contains("reloader.toml:8:10: plugin `flie`: not found"), "{output}");
}

#[test]
fn file_and_plugin_errors_are_combined() {
    let (status, output) = check(
        "[[source]]\nname = 1\n\n\
         [[source]]\nname = \"a\"\nplugin = \"file\"\ninterval = \"soon\"\nconfig = { pfad = \"x\" }\n",
    );
    assert_eq!(status, Some(2));
    for expected in ["reloader.toml:2:8: ", "reloader.toml:7:12: ", "8:19: unknown setting `pfad`"]
    {
        assert!(output.contains(expected), "{expected} is not in: {output}");
    }
}

#[test]
fn missing_configuration_is_named() {
    let finished = TestHost::new().finish(&["run", "--config", "gone.toml"]);
    assert_eq!(finished.status, Some(2));
    assert!(finished.stderr.contains("gone.toml: cannot be read"), "{}", finished.stderr);
}

#[test]
fn mismatched_digest_is_rejected() {
    let (status, output) = check(&format!(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nsha256 = \"{}\"\nconfig.path = \"x\"\n",
        "0".repeat(64)
    ));
    assert_eq!(status, Some(2));
    assert!(output.contains("reloader.toml:4:10: SHA-256 mismatch"), "{output}");
}

#[test]
fn online_check_opens_each_source() {
    let t = TestHost::new();
    t.write("there.toml", "a = 1");
    t.write(
        "reloader.toml",
        "[[source]]\nname = \"there\"\nplugin = \"file\"\nconfig.path = \"there.toml\"\n\
         [[source]]\nname = \"gone\"\nplugin = \"file\"\nconfig.path = \"gone.toml\"\n",
    );
    let finished = t.finish(&["check", "--online"]);
    let output = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(output.contains("there") && output.contains("5 bytes"), "{output}");
    assert!(output.contains("gone") && output.contains("failed: "), "{output}");
}

#[test]
fn example_and_schema_are_valid() {
    let example = e2e::package().join("../docs/reloader.toml");
    let example = std::fs::read_to_string(example).unwrap();
    let (status, output) = check(&example);
    assert_eq!((status, &*output), (Some(0), ""));
    let schema = TestHost::new().finish(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example: serde_json::Value = toml::from_str(&example).unwrap();
    let errors: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
}

#[test]
fn impossible_sink_is_rejected_with_location() {
    let sink = |rest: &str| format!("[[source.sink]]\n{rest}\n");
    let text = format!(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nconfig.path = \"a\"\n{}{}{}",
        sink("type = \"stdout\"\nname = \"one\""),
        sink("type = \"file\"\npath = \"b\"\nname = \"one\""),
        sink("type = \"template\"\npath = \"c\"\ntemplate = \"{{ a\""),
    );
    let (status, output) = check(&text);
    assert_eq!(status, Some(2), "{output}");
    assert!(
        output.contains("reloader.toml:8:") && output.contains("duplicate sink name `one`"),
        "{output}"
    );
    assert!(output.contains("reloader.toml:12:") && output.contains("syntax error"), "{output}");
}

#[test]
fn conflicting_settings_are_rejected() {
    let (status, output) = check(
        r#"
[[source]]
name = "a"
plugin = "file"
config.path = "a.in"
[[source.sink]]
type = "file"
path = "./a.in"
[[source.sink]]
type = "file"
path = "x"

[[source]]
name = "b"
plugin = "file"
config.path = "b.in"
[[source.sink]]
type = "template"
template = ""
path = "./x"

[[group]]
name = "a"
sources = ["a", "b", "b"]
wait = { min = "2s", max = "1s" }
[[group.sink]]
type = "file"
path = "y"
"#,
    );
    assert_eq!(status, Some(2), "{output}");
    for expected in [
        "reloader.toml:8:8: loop: source `a` reads the file that this sink writes",
        "reloader.toml:20:8: the sink `a/file-1` writes the same file",
        "reloader.toml:23:8: the name `a` is already used by a source",
        "reloader.toml:24:22: duplicate source `b`",
        "reloader.toml:25:8: `min` (2s) is more than `max` (1s)",
        "reloader.toml:27:8: a `file` sink holds the value of one source",
    ] {
        let expected = expected.trim_start_matches("reloader.toml");
        assert!(output.contains(expected), "{expected} is not in {output}");
    }
}

/// The first delivery would replace the template by its own result.
#[test]
fn sink_that_writes_its_template_is_an_error() {
    let t = TestHost::new();
    t.write("app.in", "1");
    let sink =
        "[[source.sink]]\ntype = \"template\"\ntemplate-file = \"./t.j2\"\npath = \"t.j2\"\n";
    t.write("reloader.toml", source("app", sink));
    let error = t.finish(&["check", "--config", "reloader.toml"]).stderr;
    assert!(error.contains("8:8: loop: the sink writes its own template file"), "{error}");
}

#[test]
fn wrong_type_names_expected_format() {
    let (status, output) = check(
        r#"
[state]
history = -1
[[source]]
name = "a"
plugin = "file"
interval = 10
sha256 = "abc"
[[source.sink]]
type = "file"
path = "x"
mode = 640
"#,
    );
    assert_eq!(status, Some(2), "{output}");
    for expected in [
        ":3:11: `history`: got integer `-1`, expected a non-negative integer",
        ":7:12: `interval`: got integer `10`, expected a string such as \"10s\"",
        ":12:8: `mode`: got integer `640`, expected an octal string like \"0640\"",
    ] {
        assert!(output.contains(expected), "{expected} is not in {output}");
    }
    assert_eq!(output.matches("expected 64 hexadecimal digits").count(), 1, "{output}");
}

/// A failed preflight check is a warning, and an error with `--strict`.
#[test]
fn failed_preflight_is_warning_or_strict_error() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write(
        "reloader.toml",
        r#"
[state]
path = "a.in/x"
[[source]]
name = "a"
plugin = "file"
config.path = "a.in"
validate.command = ["/no/such"]
[[source.sink]]
type = "file"
path = "no/such/x"
owner = "nonesuch"
[[source.sink]]
type = "exec"
command = ["nonesuch"]
[[source.sink]]
type = "webhook"
url = "https://localhost:1/"
secret = "${env:NONESUCH}"
ca = "no.pem"
[[source.sink]]
type = "template"
template-file = "no.j2"
path = "/tmp"
[command]
command = ["./nothing"]
"#,
    );
    let warned = t.finish(&["check"]);
    assert_eq!(warned.status, Some(0), "{}", warned.stderr);
    assert_eq!(warned.text(), "reloader.toml: OK, 10 warnings (1 source, 4 sinks)\n");
    for expected in [
        "warning: reloader.toml:3:8: `a.in` is not a directory",
        ":8:20: `/no/such`: file not found",
        ":11:8: directory `no/such` does not exist",
        ":12:9: user `nonesuch` does not exist",
        ":15:11: `nonesuch`: command not found in PATH",
        ":19:10: `secret`: ${env:NONESUCH}: environment variable `NONESUCH` is not set",
        ":20:6: `no.pem` (`ca`): No such file",
        ":23:17: cannot read `no.j2`",
        ":24:8: `/tmp` is a directory",
        ":26:11: `./nothing`: file not found",
    ] {
        assert!(warned.stderr.contains(expected), "{expected} is not in {}", warned.stderr);
    }
    let strict = t.finish(&["check", "--strict"]);
    assert_eq!((strict.status, &*strict.text()), (Some(2), ""), "{}", strict.stderr);
}

#[test]
fn integer_out_of_range_is_reported_with_its_place() {
    let (status, output) = check(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nlimits = { events = 18446744073709551615 }\n",
    );
    assert_eq!(status, Some(2), "{output}");
    let expected = "reloader.toml:4:21: integer out of range: the maximum is 9223372036854775807";
    assert!(output.contains(expected), "{output}");
}

#[test]
fn limit_of_another_type_is_reported_with_what_is_expected() {
    for amount in ["true", "-1", "1.5"] {
        let (status, output) = check(&format!(
            "[[source]]\nname = \"a\"\nplugin = \"file\"\nlimits = {{ events = {amount} }}\n"
        ));
        assert_eq!(status, Some(2), "{output}");
        let expected = "expected a non-negative integer";
        assert!(output.contains("reloader.toml:4:21: ") && output.contains(expected), "{output}");
    }
}
