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
        sink("type = \"template\"\npath = \"b\"\ntemplate = \"{{ a\""),
    );
    let (status, said) = check(&text);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("reloader.toml:8:") && said.contains("another sink named `one`"),
        "{said}"
    );
    assert!(said.contains("reloader.toml:12:") && said.contains("syntax error"), "{said}");
}
