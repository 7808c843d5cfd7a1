//! The configuration file: what is wrong with it is said, all at once, with its place.

use e2e::TestHost;

fn check(text: &str) -> (Option<i32>, String) {
    let t = TestHost::new();
    t.write("reloader.toml", text);
    let finished = t.finish(&["check", "--config", "reloader.toml"]);
    (finished.status, finished.stderr)
}

#[test]
fn three_keys_make_a_source() {
    let t = TestHost::new();
    t.write(
        "reloader.toml",
        "[[source]]\nname = \"app\"\nplugin = \"file\"\nconfig.path = \"a.toml\"\n",
    );
    let finished = t.finish(&["check"]);
    assert_eq!((finished.status, &*finished.stderr), (Some(0), ""));
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(said, "reloader.toml: all well (1 source, 0 sinks)\n");
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_place() {
    let (status, said) = check(
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
    assert_eq!(status, Some(2), "{said}");
    for expected in [
        "reloader.toml:5:1: unknown key `intervall`; did you mean `interval`?",
        "reloader.toml:6:15: `stale-after`: expected a number and its unit, e.g. `500ms`",
        "reloader.toml:8:",
        "`path` is missing",
        "reloader.toml:12:8: there is another source named `app`",
        "reloader.toml:15:21: there is no limit `memroy`",
        "reloader.toml:16:23: `nowhere`",
        "`name` is missing",
        "reloader.toml:23:19: unknown source `ap`; did you mean `app`?",
        "reloader.toml:25:2: unknown table `stat`; did you mean `state`?",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
}

#[test]
fn what_is_no_toml_is_said_with_its_place() {
    let (status, said) = check("[[source]]\nname = \nplugin = 'file\n");
    assert_eq!(status, Some(2));
    assert!(said.contains("reloader.toml:2:") && said.contains("reloader.toml:3:"), "{said}");
}

#[test]
fn settings_of_a_plugin_are_checked_against_its_schema() {
    let (status, said) = check(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nconfig = { pfad = \"x\" }\n\n\
         [[source]]\nname = \"b\"\nplugin = \"flie\"\n",
    );
    assert_eq!(status, Some(2));
    assert!(said.contains("reloader.toml:4:19: unknown setting `pfad`"), "{said}");
    assert!(said.contains("reloader.toml:4:10: setting `path` is missing"), "{said}");
    assert!(said.contains("reloader.toml:8:10: plugin `flie`: there is no such file"), "{said}");
}

#[test]
fn what_is_wrong_with_the_file_and_with_a_plugins_settings_is_said_at_once() {
    let (status, said) = check(
        "[[source]]\nname = 1\n\n\
         [[source]]\nname = \"a\"\nplugin = \"file\"\ninterval = \"soon\"\nconfig = { pfad = \"x\" }\n",
    );
    assert_eq!(status, Some(2));
    for expected in ["reloader.toml:2:8: ", "reloader.toml:7:12: ", "8:19: unknown setting `pfad`"]
    {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let finished = TestHost::new().finish(&["run", "--config", "gone.toml"]);
    assert_eq!(finished.status, Some(2));
    assert!(finished.stderr.contains("gone.toml: cannot be read"), "{}", finished.stderr);
}

#[test]
fn another_component_than_the_pinned_one_is_refused() {
    let (status, said) = check(&format!(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nsha256 = \"{}\"\nconfig.path = \"x\"\n",
        "0".repeat(64)
    ));
    assert_eq!(status, Some(2));
    assert!(said.contains("reloader.toml:4:10: the plugin is another one"), "{said}");
}

#[test]
fn online_each_source_is_opened_once() {
    let t = TestHost::new();
    t.write("there.toml", "a = 1");
    t.write(
        "reloader.toml",
        "[[source]]\nname = \"there\"\nplugin = \"file\"\nconfig.path = \"there.toml\"\n\
         [[source]]\nname = \"gone\"\nplugin = \"file\"\nconfig.path = \"gone.toml\"\n",
    );
    let finished = t.finish(&["check", "--online"]);
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(said.contains("there") && said.contains("5 bytes"), "{said}");
    assert!(said.contains("gone") && said.contains("failed: "), "{said}");
}

#[test]
fn the_example_is_right_and_so_is_the_schema() {
    let example = e2e::package().join("../docs/reloader.toml");
    let example = std::fs::read_to_string(example).unwrap();
    let (status, said) = check(&example);
    assert_eq!((status, &*said), (Some(0), ""));
    let schema = TestHost::new().finish(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example: serde_json::Value = toml::from_str(&example).unwrap();
    let errors: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
}

#[test]
fn sinks_that_can_never_work_are_refused_where_they_stand() {
    let sink = |rest: &str| format!("[[source.sink]]\n{rest}\n");
    let text = format!(
        "[[source]]\nname = \"a\"\nplugin = \"file\"\nconfig.path = \"a\"\n{}{}{}",
        sink("type = \"stdout\"\nname = \"one\""),
        sink("type = \"file\"\npath = \"b\"\nname = \"one\""),
        sink("type = \"template\"\npath = \"c\"\ntemplate = \"{{ a\""),
    );
    let (status, said) = check(&text);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("reloader.toml:8:") && said.contains("another sink named `one`"),
        "{said}"
    );
    assert!(said.contains("reloader.toml:12:") && said.contains("syntax error"), "{said}");
}

#[test]
fn what_cannot_stand_together_is_said() {
    let (status, said) = check(
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
    assert_eq!(status, Some(2), "{said}");
    for expected in [
        "reloader.toml:8:8: the source reads this file",
        "reloader.toml:20:8: the sink `a/file-1` writes this file, too",
        "reloader.toml:23:8: there is a source named `a`",
        "reloader.toml:24:22: `b` is in this group already",
        "reloader.toml:25:8: `min` (2s) is more than `max` (1s)",
        "reloader.toml:27:8: a file holds the value of one source",
    ] {
        let expected = expected.trim_start_matches("reloader.toml");
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_what_to_write() {
    let (status, said) = check(
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
    assert_eq!(status, Some(2), "{said}");
    for expected in [
        ":3:11: `history`: got integer `-1`, expected a whole number from 0",
        ":7:12: `interval`: got integer `10`, expected a string such as \"10s\"",
        ":12:8: `mode`: got integer `640`, expected a text in octal like \"0640\"",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    assert_eq!(said.matches("expected 64 hexadecimal digits").count(), 1, "{said}");
}

#[test]
fn what_would_not_work_on_this_machine_is_a_warning_and_for_the_strict_an_error() {
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
    assert_eq!(warned.text(), "reloader.toml: well, with 10 warnings (1 source, 4 sinks)\n");
    for expected in [
        "warning: reloader.toml:3:8: `a.in` is no directory",
        ":8:20: `/no/such` is not there",
        ":11:8: there is no directory `no/such`",
        ":12:9: there is no user `nonesuch`",
        ":15:11: `nonesuch` is in no directory of the PATH",
        ":19:10: `secret`: ${env:NONESUCH}: there is no variable `NONESUCH`",
        ":20:6: `no.pem` (`ca`): No such file",
        ":23:17: `no.j2` cannot be read",
        ":24:8: `/tmp` is a directory",
        ":26:11: `./nothing` is not there",
    ] {
        assert!(warned.stderr.contains(expected), "{expected} is not in {}", warned.stderr);
    }
    let strict = t.finish(&["check", "--strict"]);
    assert_eq!((strict.status, &*strict.text()), (Some(2), ""), "{}", strict.stderr);
}
