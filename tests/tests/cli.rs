//! Tests of the command line: output, errors and exit status.

use e2e::TestHost;
use serde_json::Value;

#[test]
fn once_prints_value_and_exits() {
    let t = TestHost::new();
    t.write("app.json", "{}");
    let run = t.finish(&["run", "--plugin", "file", "--set", "path=app.json", "--once"]);
    assert_eq!(run.status, Some(0));
    let line: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((&line["content"], &line["revision"]), (&"{}".into(), &1.into()));
    assert_eq!(run.stderr, "");
}

#[test]
fn once_without_value_exits_with_1() {
    let t = TestHost::new();
    let run = t.finish(&["run", "--plugin", "file", "--set", "path=none", "--once"]);
    assert_eq!(
        run.status_and_error(),
        (Some(1), "error: source `file`: value not found (read `none`)")
    );
    std::fs::create_dir(t.path("folder")).unwrap();
    let run = t.finish(&["run", "--plugin", "file", "--set", "path=folder", "--once"]);
    let reason = "error: source `file`: `folder`: cannot read `folder`: it is a directory";
    assert_eq!(run.status_and_error(), (Some(1), reason));
}

fn assert_settings_rejected(settings: &[&str], reason: &str) {
    let mut arguments = vec!["run", "--plugin", "file"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let run = TestHost::new().finish(&arguments);
    let expected = format!("error: {reason} (`host inspect file` shows the settings)");
    assert_eq!(run.status_and_error(), (Some(2), &*expected));
}

e2e::cases! {
    mod invalid_settings_are_named: assert_settings_rejected {
        without_value(&["path"], "`path`: expected key=value");
        missing(
            &[],
            "setting `path` is missing: expected a path. Path of the file, which may be a symbolic \
             link and may not exist yet.",
        );
        misspelled(&["pth=a", "path=b"], "unknown setting `pth`; did you mean `path`?");
        empty(&["path="], "setting `path`: expected a path, got an empty string");
        duplicate(&["path=a", "path=b"], "setting `path` is given twice");
    }
}

/// Asserts that a file with this content is rejected as a plugin for this reason.
fn assert_plugin_rejected(content: &[u8], reason: &str) {
    let t = TestHost::new();
    t.write("plugin.wasm", content);
    assert_plugin_name_rejected(&t, "plugin.wasm", reason);
}

fn assert_plugin_name_rejected(t: &TestHost, plugin: &str, reason: &str) {
    let run = t.finish(&["run", "--plugin", plugin, "--once"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2), "{error}");
    assert!(error.starts_with(&format!("error: plugin `{plugin}`: {reason}")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

e2e::cases! {
    mod invalid_plugin_file_exits_with_2: assert_plugin_rejected {
        text_file(b"hello", "not a WebAssembly component: text file");
        empty_file(b"", "not a WebAssembly component: empty file");
        core_module(
            b"\0asm\x01\0\0\0",
            "core module instead of a component; build it with `cargo build --target wasm32-wasip2`",
        );
        component_without_exports(
            b"\0asm\x0d\0\x01\0",
            "not a plugin: the component exports neither `reloader:plugin/reload@0.1` nor \
             `reloader:plugin/validate@0.1`, but nothing",
        );
    }
}

#[test]
fn unknown_plugin_exits_with_2() {
    let reason = "not found: no file and no bundled plugin of this name \
                  (bundled: file, http, json-schema, kvs)";
    assert_plugin_name_rejected(&TestHost::new(), "nobody", reason);
}

#[test]
fn missing_plugin_file_exits_with_2() {
    let reason = "cannot read the file: No such file or directory (os error 2)";
    assert_plugin_name_rejected(&TestHost::new(), "./none.wasm", reason);
}

#[test]
fn truncated_plugin_exits_with_2() {
    let t = TestHost::new();
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "whole.wasm"]).status, Some(0));
    let whole = std::fs::read(t.path("whole.wasm")).unwrap();
    assert_plugin_rejected(&whole[..whole.len() / 2], "corrupt or truncated component: ");
}

#[test]
fn signals_stop_gracefully() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let arguments = ["run", "--plugin", "file", "--set", "path=app.toml"];
    let mut run = t.run(&arguments);
    run.wait_for_value("a = 1");
    assert_eq!(run.stop().code(), Some(0));
    let mut run = t.run(&arguments);
    run.wait_for_value("a = 1");
    assert_eq!(run.interrupt().code(), Some(0));
}

#[test]
fn stdout_contains_only_values() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let mut run = t.run(&[
        "run",
        "--plugin",
        "file",
        "--set",
        "path=app.toml",
        "--log-level",
        "trace",
        "--log-format",
        "json",
    ]);
    run.wait_for_value("a = 1");
    run.wait_for_log("\"source\":\"file\"");
    run.stop();
    for line in run.stderr().lines() {
        let _: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
}

#[test]
fn closed_stdout_ends_host_silently() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    // `head` exits after the first line. The host must exit although it has no second line to write.
    let script = format!(
        "{} run --plugin file --set path=app.toml --format raw --log-level warn | head -n 1",
        e2e::program().display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(t.directory())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a = 1\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn signal_stops_once_without_value() {
    let t = TestHost::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("url=redis://{}", silent.local_addr().unwrap());
    let mut run = t.run(&["run", "--plugin", "kvs", "--set", &url, "--set", "key=a", "--once"]);
    let _connection = silent.accept().unwrap();
    assert_eq!(run.stop().code(), Some(1));
    assert!(run.stderr().contains("stopped before a value was available"), "{}", run.stderr());
}

#[test]
fn plugin_config_failure_exits_with_2() {
    let t = TestHost::new();
    for _ in 0..20 {
        let run = t.finish(&["run", "--plugin", "kvs", "--set", "url=redis://127.0.0.1:1"]);
        let (status, error) = run.status_and_error();
        assert_eq!(status, Some(2), "{error}");
        assert!(error.contains("`prefix`"), "{error}");
    }
}

#[test]
fn inspect_shows_settings_and_access() {
    let t = TestHost::new();
    let shown = t.finish(&["inspect", "file", "--set", "path=app.toml"]);
    assert_eq!(shown.status, Some(0));
    let text = shown.text();
    for expected in [
        "name        file",
        "interface   reloader:plugin@0.1.0",
        "world       realtime-source",
        "path        read the file with this path",
        "read app.toml",
        "reloader:plugin/files@0.1.0",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("wasi:http"), "the plugin `file` does not import HTTP: {text}");
    let json = t.finish(&["inspect", "kvs", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["world"], "realtime-source");
    assert_eq!(json["settings"]["properties"]["url"]["x-connect"]["redis"], 6379);
    assert_eq!(json["settings"]["properties"]["password"]["x-secret"], true);
}

#[test]
fn bundled_plugins_are_listed_and_exported() {
    let t = TestHost::new();
    let list = t.finish(&["plugins"]).text();
    for name in ["file", "http", "json-schema", "kvs"] {
        assert!(list.contains(name), "{list}");
    }
    assert_eq!(t.finish(&["plugins", "export", "kvs", "-o", "kvs.wasm"]).status, Some(0));
    let inspect = |plugin: &str| -> Value {
        serde_json::from_slice(&t.finish(&["inspect", plugin, "--json"]).stdout).unwrap()
    };
    assert_eq!(inspect("kvs"), inspect("./kvs.wasm"));
    let run = t.finish(&["plugins", "export", "none", "-o", "none.wasm"]);
    let reason = "error: unknown bundled plugin `none`; available: file, http, json-schema, kvs";
    assert_eq!(run.status_and_error(), (Some(2), reason));
}

#[test]
fn help_and_completions_are_available() {
    let t = TestHost::new();
    assert!(t.finish(&["--help"]).text().contains("Examples:"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(t.finish(&["completions", shell]).text().contains("host"));
    }
    let wrong = t.finish(&["run", "--plugin", "file", "--interval", "0s"]);
    assert_eq!(wrong.status, Some(2));
    assert!(wrong.stderr.contains("expected at least `1ms`"), "{}", wrong.stderr);
}

/// The cache directory has mode 0700, and a corrupt entry is compiled again.
#[test]
fn compiled_plugin_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let arguments = ["run", "--plugin", "file", "--set", "path=app.toml"];
    let cache = t.path("cache");
    let entries = || -> Vec<_> {
        let folder = std::fs::read_dir(cache.join("reloader-host")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    };
    let start = || t.run_with("XDG_CACHE_HOME", &cache, &arguments).wait_for_value("a = 1");
    start();
    let mode = cache.join("reloader-host").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let [entry] = entries().try_into().unwrap();
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&entry, &bytes).unwrap();
    start();
    assert_ne!(std::fs::read(&entry).unwrap(), bytes, "the corrupt entry is replaced");
    std::fs::write(&entry, b"short").unwrap();
    start();
    assert_eq!(entries().len(), 1);
}
