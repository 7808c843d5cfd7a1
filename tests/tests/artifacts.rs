//! Attacks before a plugin runs: invalid files, malicious components and descriptions, and
//! tampering with the cache of compiled plugins. Each attempt must fail in time with a one-line
//! error.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use e2e::{Finished, TestHost, component, text_guest, with_component, with_section};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Maximum duration of a run. Its limits are five seconds each; the rest is for a loaded machine.
const MAX_RUN_TIME: Duration = Duration::from_secs(20);

/// Runs a plugin once.
fn run(t: &TestHost, plugin: &str, more: &[&str]) -> Finished {
    let start = Instant::now();
    let limits = ["--limit", "compile-time=5s", "--limit", "call-timeout=5s"];
    let run = t.finish(&[&["run", "--once", "--plugin", plugin], &limits[..], more].concat());
    assert!(start.elapsed() < MAX_RUN_TIME, "{plugin} {more:?}: {:?}", start.elapsed());
    run
}

/// Asserts that the plugin was rejected with a one-line error that contains one of the texts.
fn assert_rejected(run: &Finished, expected: &[&str]) {
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(2), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.len() < 9_000, "{} bytes: {complaint}", complaint.len());
    assert!(
        expected.iter().any(|expected| complaint.contains(expected)),
        "{expected:?} is not in {complaint:?}"
    );
}

/// Returns the minimal component, from which the others are derived.
fn minimal() -> Vec<u8> {
    fs::read(text_guest("minimal")).unwrap()
}

#[test]
fn truncated_component_is_rejected() {
    let t = TestHost::new();
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "file.wasm"]).status, Some(0));
    let whole = fs::read(t.path("file.wasm")).unwrap();
    for sixteenth in 0..16 {
        t.write("cut.wasm", &whole[..whole.len() * sixteenth / 16]);
        // Cut between two sections, the file may be a valid component without exports.
        let expected = ["corrupt or truncated", "empty file", "not a plugin"];
        assert_rejected(&run(&t, "./cut.wasm", &[]), &expected);
    }
    for at in (8..whole.len()).step_by(whole.len() / 24) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        t.write("flipped.wasm", flipped);
        // If the bit is part of a text or a constant, the component is still valid.
        let run = run(&t, "./flipped.wasm", &["--set", "path=nothing"]);
        let (status, complaint) = run.complaint();
        assert!([Some(1), Some(2)].contains(&status), "{at}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{at}: {complaint}");
    }
}

#[test]
fn non_component_is_rejected() {
    let t = TestHost::new();
    t.write("empty.wasm", "");
    t.write("text.wasm", "hello");
    t.write("program.wasm", b"\x7fELF\xff\x01\x01");
    t.write("module.wasm", b"\0asm\x01\0\0\0");
    t.write("future.wasm", b"\0asm\xff\0\x01\0");
    fs::create_dir(t.path("folder.wasm")).unwrap();
    mkfifoat(CWD, t.path("fifo.wasm"), Mode::RWXU).unwrap();
    File::create(t.path("sparse.wasm")).unwrap().set_len(100 << 20).unwrap();
    std::os::unix::fs::symlink(t.path("round.wasm"), t.path("round.wasm")).unwrap();
    for (plugin, expected) in [
        ("./empty.wasm", "empty file"),
        ("./text.wasm", "text file"),
        ("./program.wasm", "missing magic number"),
        ("./module.wasm", "core module instead"),
        ("./future.wasm", "corrupt or truncated"),
        ("./folder.wasm", "regular file"),
        ("./fifo.wasm", "regular file"),
        ("./sparse.wasm", "limit `component-size` is 24MiB"),
        ("./round.wasm", "cannot read the file"),
        ("./missing.wasm", "cannot read the file"),
        ("/dev/zero", "regular file"),
        ("/dev/stdin", "regular file"),
        ("/proc/self/mem", "cannot read the file"),
    ] {
        assert_rejected(&run(&t, plugin, &[]), &[expected, "missing magic number"]);
    }
}

#[test]
fn component_size_limit_is_enforced() {
    let t = TestHost::new();
    t.write("quiet.wasm", minimal());
    let refused = run(&t, "./quiet.wasm", &["--limit", "component-size=1KiB"]);
    assert_rejected(&refused, &["limit `component-size` is 1KiB"]);
}

/// Exponential expansion ("billion laughs"): nested components with ten instances at each level.
fn nested_instances(levels: u32) -> String {
    let mut text = String::from("(component (core module $m) (component $c0 ");
    text.push_str("(core module $m) (core instance (instantiate $m)))");
    for level in 1..=levels {
        // Each component is nested in the next one, where its names are in scope.
        let inner = text.split_off("(component (core module $m) ".len());
        let _ = write!(text, "(component $c{level} {inner} ");
        for _ in 0..10 {
            let _ = write!(text, "(instance (instantiate $c{}))", level - 1);
        }
        text.push(')');
    }
    let _ = write!(text, "(instance (instantiate $c{levels})))");
    text
}

/// Exponential expansion with sibling components, each with two instances of the previous one.
fn sibling_instances(times: u32) -> String {
    let mut text = String::from("(component (component $c0");
    text.push_str("(core module $m) (core instance (instantiate $m)))");
    for time in 1..=times {
        let one = format!("(instance (instantiate $c{}))", time - 1);
        let _ = write!(text, "(component $c{time} {one} {one})");
    }
    let _ = write!(text, "(instance (instantiate $c{times})))");
    text
}

#[test]
fn instance_limit_is_enforced() {
    let t = TestHost::new();
    for text in [
        nested_instances(2),
        nested_instances(9),
        sibling_instances(5),
        sibling_instances(24),
        sibling_instances(1_000),
    ] {
        t.write("laughs.wasm", with_component(&minimal(), &wat(&text)));
        assert_rejected(&run(&t, "./laughs.wasm", &[]), &["limit `instances` is 64"]);
    }
    for text in [nested_instances(1), sibling_instances(3)] {
        t.write("laughs.wasm", with_component(&minimal(), &wat(&text)));
        assert_eq!(run(&t, "./laughs.wasm", &[]).status, Some(0));
    }
}

#[test]
fn mismatched_import_is_named() {
    let t = TestHost::new();
    let files = "reloader:plugin/files@0.1.0";
    let import = format!(r#"(component (import "{files}" (instance (export "shred" (func))))"#);
    let text = fs::read_to_string(e2e::package().join("guests/other-types.wat")).unwrap();
    t.write("import.wasm", wat(&text.replacen("(component", &import, 1)));
    let run = run(&t, "./import.wasm", &[]);
    assert_rejected(&run, &[files]);
    assert_rejected(&run, &["`shred`"]);
}

fn wat(text: &str) -> Vec<u8> {
    component(text)
}

/// Compilation bomb: the minimal plugin with additional fields that take long to compile.
fn compile_bomb(fields: &str) -> Vec<u8> {
    let text = fs::read_to_string(e2e::package().join("guests/minimal.wat")).unwrap();
    let end = text.trim_end().rfind(')').unwrap();
    component(&format!("{}{fields})", &text[..end]))
}

#[test]
fn slow_compilation_is_aborted() {
    let t = TestHost::new();
    let mut branches = String::from("(func (param i32)");
    let depth = 2_000;
    branches.push_str(&"(block ".repeat(depth));
    for _ in 0..300 {
        branches.push_str("(block (br_table");
        for label in 0..depth {
            let _ = write!(branches, " {label}");
        }
        branches.push_str(" (local.get 0)))");
    }
    branches.push_str(&")".repeat(depth));
    branches.push(')');

    let mut long = String::from("(func (param i64) (result i64) (local.get 0)");
    long.push_str(&"(i64.mul (local.get 0)) (i64.popcnt) (i64.add (i64.const 3))".repeat(200_000));
    long.push(')');

    let locals = format!(
        "(func (param i32) (local {}) {})",
        "i64 ".repeat(40_000),
        (0..40_000)
            .map(|number| format!(
                "(loop (local.set {} (i64.add (local.get {}) (local.get {}))) (br_if 0 (local.get 0)))",
                number + 1,
                number + 1,
                (number * 7919) % 40_000 + 1
            ))
            .collect::<String>()
    );

    for (name, fields) in [("branches", branches), ("long", long), ("locals", locals)] {
        t.write("bomb.wasm", compile_bomb(&fields));
        let start = Instant::now();
        let run = run(&t, "./bomb.wasm", &["--limit", "compile-time=1s"]);
        let took = start.elapsed();
        // A fast machine may compile it within the limit; then the plugin is valid.
        if run.status != Some(0) {
            assert_rejected(
                &run,
                &["limit `compile-time` is 1s", "limit `compile-memory`", "too large"],
            );
        }
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
}

#[test]
fn host_exit_kills_compiler() {
    let t = TestHost::new();
    let mut long = String::from("(func (param i64) (result i64) (local.get 0)");
    long.push_str(&"(i64.mul (local.get 0)) (i64.popcnt) (i64.add (i64.const 3))".repeat(200_000));
    long.push(')');
    t.write("bomb.wasm", compile_bomb(&long));
    let mut host = t.run(&["run", "--plugin", "./bomb.wasm", "--limit", "compile-time=5m"]);
    e2e::wait_until("it is being compiled", || !host.children().is_empty());
    let compiler = host.children();
    let start = Instant::now();
    host.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let is_gone = || compiler.iter().all(|process| e2e::status(*process).is_none());
    e2e::wait_until("the compiler is gone", is_gone);
}

/// Component with `uses` instances of a module with `count` globals.
fn globals(count: usize, uses: usize) -> Vec<u8> {
    let globals = "(global (mut i64) (i64.const 7))".repeat(count);
    let uses = "(core instance (instantiate $m))".repeat(uses);
    component(&format!("(component (core module $m {globals}) {uses})"))
}

/// Globals and functions count towards the memory limit, which is checked before compilation.
#[test]
fn static_memory_cost_is_limited() {
    let t = TestHost::new();
    for (count, uses, refused) in [(100, 2, false), (100_000, 40, true), (900_000, 3, true)] {
        t.write("globals.wasm", with_component(&minimal(), &globals(count, uses)));
        let run = run(&t, "./globals.wasm", &[]);
        if refused {
            let expected =
                ["the globals and functions of an instance take up to", "limit `memory` is 24MiB"];
            assert_rejected(&run, &expected[..1]);
            assert_rejected(&run, &expected[1..]);
        } else {
            assert_eq!(run.status, Some(0), "{run:?}");
        }
    }
}

/// Runs a plugin once with a separate cache of compiled plugins.
fn run_with_cache(t: &TestHost, plugin: &str, more: &[&str]) -> Finished {
    let arguments = [&["run", "--once", "--format", "raw", "--plugin", plugin], more].concat();
    t.finish_with("XDG_CACHE_HOME", &t.path("cache").display().to_string(), &arguments)
}

fn cache_entries(t: &TestHost) -> Vec<PathBuf> {
    let folder = t.path("cache/reloader-host");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn corrupt_cache_entry_is_recompiled() {
    let t = TestHost::new();
    let plugin = text_guest("minimal").display().to_string();
    assert_eq!(run_with_cache(&t, &plugin, &[]).text(), "x");
    let [entry] = cache_entries(&t).try_into().unwrap();
    let whole = fs::read(&entry).unwrap();
    let again = |changed: &[u8], what: &str| {
        fs::write(&entry, changed).unwrap();
        let run = run_with_cache(&t, &plugin, &[]);
        assert_eq!(run.text(), "x", "{what}");
        assert!(
            run.stderr.contains("invalid plugin cache entry, recompiling"),
            "{what}: {}",
            run.stderr
        );
        assert!(fs::read(&entry).unwrap() == whole, "{what}: it has been written again");
    };
    for sixteenth in 0..16 {
        let at = whole.len() * sixteenth / 16;
        again(&whole[..at], &format!("cut off at {at}"));
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        again(&flipped, &format!("flipped at {at}"));
    }
    again(&[whole.as_slice(), b"x"].concat(), "longer");
}

/// A FIFO, a directory or a link to a device in place of a cache entry must not block the host.
#[test]
fn special_file_in_cache_is_ignored() {
    let t = TestHost::new();
    let plugin = text_guest("minimal").display().to_string();
    assert_eq!(run_with_cache(&t, &plugin, &[]).text(), "x");
    let [entry] = cache_entries(&t).try_into().unwrap();
    for make in [
        (|path| mkfifoat(CWD, path, Mode::RWXU).unwrap()) as fn(&Path),
        |path| fs::create_dir(path).unwrap(),
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ] {
        fs::remove_file(&entry).or_else(|_| fs::remove_dir(&entry)).unwrap();
        make(&entry);
        let run = run_with_cache(&t, &plugin, &[]);
        assert_eq!(run.text(), "x");
        let expected = "invalid plugin cache entry, recompiling";
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        assert!(run.stderr.contains("not a regular file"), "{}", run.stderr);
    }
}

#[test]
fn cache_entry_of_other_plugin_is_rejected() {
    let t = TestHost::new();
    let quiet = text_guest("minimal").display().to_string();
    let other = fs::read_to_string(e2e::package().join("guests/minimal.wat")).unwrap();
    t.write("other.wasm", component(&other.replace("\"x\"", "\"y\"")));
    assert_eq!(run_with_cache(&t, &quiet, &[]).text(), "x");
    let [first] = cache_entries(&t).try_into().unwrap();
    assert_eq!(run_with_cache(&t, "./other.wasm", &[]).text(), "y");
    let second = cache_entries(&t).into_iter().find(|entry| *entry != first).unwrap();
    fs::copy(&second, &first).unwrap();
    let run = run_with_cache(&t, &quiet, &[]);
    assert_eq!(run.text(), "x", "the value of the other plugin");
    assert!(run.stderr.contains("invalid plugin cache entry, recompiling"), "{}", run.stderr);
}

/// A cache directory that other users can write to, or that is a symbolic link, is not used.
#[test]
fn writable_cache_directory_is_not_used() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let t = TestHost::new();
    let plugin = text_guest("minimal").display().to_string();
    let folder = t.path("cache/reloader-host");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let run = run_with_cache(&t, &plugin, &[]);
    assert_eq!(run.text(), "x");
    assert!(run.stderr.contains("plugin cache disabled"), "{}", run.stderr);
    fs::remove_dir(&folder).unwrap();
    fs::create_dir(t.path("elsewhere")).unwrap();
    symlink(t.path("elsewhere"), &folder).unwrap();
    let run = run_with_cache(&t, &plugin, &[]);
    assert_eq!(run.text(), "x");
    assert!(run.stderr.contains("plugin cache disabled"), "{}", run.stderr);
    assert_eq!(fs::read_dir(t.path("elsewhere")).unwrap().count(), 0);
}

/// Writes the minimal plugin with this description and returns its path.
fn plugin_with_description(t: &TestHost, description: impl AsRef<[u8]>) -> String {
    t.write("described.wasm", with_section(minimal(), "reloader:plugin", description.as_ref()));
    "./described.wasm".into()
}

fn schema(settings: &Value) -> Vec<u8> {
    json!({ "name": "described", "settings": settings }).to_string().into_bytes()
}

/// A schema may set the default ports of its own URL schemes, but not those of `http` and `https`.
#[test]
fn http_port_is_not_configurable_by_schema() {
    let t = TestHost::new();
    let url = json!({ "type": "string", "x-connect": { "http": 22, "https": 22, "own": 22 } });
    let plugin = plugin_with_description(&t, schema(&json!({ "properties": { "url": url } })));
    for (url, granted) in [
        ("http://127.0.0.1/", "--allow-http http://127.0.0.1:80"),
        ("https://127.0.0.1/", "--allow-http https://127.0.0.1:443"),
        ("own://127.0.0.1", "--allow-connect 127.0.0.1:22"),
        // Different spellings result in the same grant.
        ("HTTP://0x7f.1:080/a", "--allow-http http://127.0.0.1:80"),
        ("http://2130706433.:80", "--allow-http http://127.0.0.1:80"),
    ] {
        let url = format!("url={url}");
        let run = t.finish(&["inspect", "--json", &plugin, "--set", &url]);
        let inspected: Value = serde_json::from_str(&run.text()).unwrap();
        assert_eq!(inspected["granted"], json!([granted]), "{url}");
    }
}

#[test]
fn invalid_description_is_rejected() {
    let t = TestHost::new();
    let deep = |open: &str, close: &str| {
        let nested = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
        format!(r#"{{"name":"x","settings":{nested}}}"#)
    };
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(300 << 10));
    for description in [
        "",
        "{",
        "null",
        "[]",
        r#"{"name":1}"#,
        r#"{"settings":{}}"#,
        &deep("[", "]"),
        &deep(r#"{"a":"#, "}"),
        &long,
    ] {
        let plugin = plugin_with_description(&t, description);
        assert_rejected(&run(&t, &plugin, &[]), &["invalid description"]);
        assert_rejected(&t.finish(&["inspect", &plugin]), &["invalid description"]);
    }
    let plugin = plugin_with_description(&t, b"{\"name\":\"\xff\"}");
    assert_rejected(&run(&t, &plugin, &[]), &["invalid description"]);
}

/// The schema is untrusted. With any schema, `run` and `inspect` end in time with short output.
#[test]
fn malicious_schema_is_bounded() {
    let t = TestHost::new();
    let many: serde_json::Map<String, Value> =
        (0..12_000).map(|n| (format!("p{n}"), json!({}))).collect();
    let names: Vec<_> = (0..20_000).map(|n| format!("n{n}")).collect();
    let text = json!({ "type": "string" });
    let schemas = [
        json!({ "properties": many, "additionalProperties": false }),
        json!({ "properties": many, "required": many.keys().collect::<Vec<_>>() }),
        json!({ "properties": { "a": { "enum": names } } }),
        json!({ "properties": { "a": { "type": "string", "pattern": "^(a+)+$" } } }),
        json!({ "properties": { "a": { "type": "string", "pattern": "^(?:(a|aa)+)+\\1$" } } }),
        json!({ "properties": { "a": { "type": "string", "pattern": "((((a{1000}){1000}){1000}){1000})" } } }),
        json!({ "properties": { "a": { "type": "string", "pattern": "(" } } }),
        json!({ "$ref": "#" }),
        json!({ "properties": { "a": { "$ref": "#/properties/a" } } }),
        json!({ "properties": { "a": { "$ref": "#/$defs/b" } }, "$defs": {
            "b": { "$ref": "#/$defs/c" }, "c": { "$ref": "#/$defs/b" } } }),
        json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }),
        json!({ "properties": { "a": { "$ref": "http://127.0.0.1:1/schema" } } }),
        json!({ "properties": { "a": { "type": "no such type" } } }),
        json!({ "properties": { "a": exponential_schema(17) } }),
        json!({ "properties": { "a": { "minLength": -1, "maxLength": 1e308, "multipleOf": 0 } } }),
        json!({ "properties": { "a": { "uniqueItems": true, "contains": text } } }),
        json!({ "properties": { "a\nb": text, "\u{1b}[2J": text } }),
        json!({ "properties": [], "required": "a", "additionalProperties": 7 }),
        json!({ "$schema": "http://json-schema.org/no-such-draft#" }),
        json!([]),
        json!(true),
        json!("text"),
    ];
    let long = format!("a={}!", "a".repeat(50_000));
    let deep = format!("a={}{}", "[".repeat(50_000), "]".repeat(50_000));
    for schema_ in schemas {
        let plugin = plugin_with_description(&t, schema(&schema_));
        let shown: String = schema_.to_string().chars().take(100).collect();
        for settings in [&[][..], &["--set", &long], &["--set", "zzz=1"], &["--set", &deep]] {
            let start = Instant::now();
            let run = run(&t, &plugin, settings);
            let took = start.elapsed();
            assert!([Some(0), Some(1), Some(2)].contains(&run.status), "{shown}: {run:?}");
            assert!(took < Duration::from_secs(5), "{shown}: {took:?}");
            assert!(!run.stderr.contains("panicked"), "{shown}: {}", run.stderr);
            let most = run.stderr.len();
            assert!(most < 20_000, "{shown} {:.20?}: {most} bytes", settings.get(1));
        }
        let inspected = t.finish(&["inspect", &plugin]);
        assert!(!inspected.text().contains('\u{1b}'), "{shown}");
        assert!(!inspected.stderr.contains("panicked"), "{shown}: {}", inspected.stderr);
    }
}

/// Returns a schema whose validation cost doubles at each level.
fn exponential_schema(levels: u32) -> Value {
    (0..levels).fold(json!({ "type": "string" }), |inner, level| {
        if level < 10 { json!({ "allOf": [inner, inner] }) } else { json!({ "not": inner }) }
    })
}

#[test]
fn description_control_characters_are_escaped() {
    let t = TestHost::new();
    let odd = "odd\n\u{1b}[2J\u{202e}name";
    let description = json!({
        "name": odd, "version": odd, "sdk": odd, "description": odd,
        "settings": { "properties": { odd: { "description": odd, "default": odd, "enum": [odd] } } },
    });
    let plugin = plugin_with_description(&t, description.to_string());
    for arguments in [&["inspect", &plugin][..], &["inspect", "--json", &plugin]] {
        let text = t.finish(arguments).text();
        for odd in ['\u{1b}', '\u{202e}'] {
            assert!(!text.contains(odd), "{odd:?}: {text}");
        }
    }
    let run = t.finish(&["run", "--once", "--plugin", &plugin, "--set", "zzz=1"]);
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
}

/// Replacing the component file does not affect the running plugin.
#[test]
fn replaced_component_file_keeps_plugin_running() {
    let t = TestHost::new();
    t.write("plugin.wasm", minimal());
    let mut run = t.run(&["run", "--plugin", "./plugin.wasm", "--interval", "20ms"]);
    run.wait_for_value("x");
    t.replace("plugin.wasm", "something else");
    t.write("plugin.wasm", "and again");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    assert!(Path::new(&t.path("plugin.wasm")).exists());
}
