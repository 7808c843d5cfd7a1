//! Hostile component files: not a component, damaged, or built to exhaust the host before the plugin
//! runs. Each one is rejected with a one-line error.

use crate::run_untrusted_component::{assert_rejected, minimal_component, run_plugin};
use e2e::{TestHost, component, with_component};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::{
    fmt::Write,
    fs::{self, File},
    path::Path,
};

/// Exports the bundled plugin `file` and returns its component.
fn whole_component(t: &TestHost) -> Vec<u8> {
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "file.wasm"]).status, Some(0));
    fs::read(t.path("file.wasm")).unwrap()
}

#[test]
fn truncated_component_is_rejected() {
    let t = TestHost::new();
    let whole = whole_component(&t);
    for sixteenth in 0..16 {
        t.write("cut.wasm", &whole[..whole.len() * sixteenth / 16]);
        // Cut between two sections, the file may be a valid component without exports.
        let expected = ["corrupt or truncated", "empty file", "not a plugin"];
        assert_rejected(&run_plugin(&t, "./cut.wasm", &[]), &expected);
    }
}

/// If the flipped bit is part of a text or a constant, the component may still be valid. Then the
/// plugin fails because the file that it reads is missing.
#[test]
fn component_with_flipped_bit_fails_cleanly() {
    let t = TestHost::new();
    let whole = whole_component(&t);
    for at in (8..whole.len()).step_by(whole.len() / 24) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        t.write("flipped.wasm", flipped);
        let run = run_plugin(&t, "./flipped.wasm", &["--set", "path=nothing"]);
        let (status, error) = run.status_and_error();
        assert!([Some(1), Some(2)].contains(&status), "{at}: {error}");
        // On a busy machine, the compilation is slow, and the host logs that.
        let is_error = |line: &&str| !line.contains(" INFO plugin compilation is slow");
        assert_eq!(error.lines().filter(is_error).count(), 1, "{at}: {error}");
    }
}

fn assert_file_rejected(plugin: &str, create: fn(&Path), expected: &[&str]) {
    let t = TestHost::new();
    create(&t.path("plugin.wasm"));
    assert_rejected(&run_plugin(&t, plugin, &[]), expected);
}

fn create_nothing(_: &Path) {}

/// Plugin path of the cases whose function creates the file `plugin.wasm`.
const CREATED: &str = "./plugin.wasm";

e2e::cases! {
    mod non_component_is_rejected: assert_file_rejected {
        empty_file(CREATED, |path| fs::write(path, "").unwrap(), &["empty file"]);
        text_file(CREATED, |path| fs::write(path, "hello").unwrap(), &["text file"]);
        program(
            CREATED,
            |path| fs::write(path, b"\x7fELF\xff\x01\x01").unwrap(),
            &["missing magic number"],
        );
        core_module(
            CREATED,
            |path| fs::write(path, b"\0asm\x01\0\0\0").unwrap(),
            &["core module instead"],
        );
        future_version(
            CREATED,
            |path| fs::write(path, b"\0asm\xff\0\x01\0").unwrap(),
            &["corrupt or truncated"],
        );
        directory(CREATED, |path| fs::create_dir(path).unwrap(), &["regular file"]);
        fifo(CREATED, |path| mkfifoat(CWD, path, Mode::RWXU).unwrap(), &["regular file"]);
        sparse_file(
            CREATED,
            |path| File::create(path).unwrap().set_len(100 << 20).unwrap(),
            &["limit `component-size` is 24MiB"],
        );
        symbolic_link_to_itself(
            CREATED,
            |path| std::os::unix::fs::symlink(path, path).unwrap(),
            &["cannot read the file"],
        );
        missing_file(CREATED, create_nothing, &["cannot read the file"]);
        device("/dev/zero", create_nothing, &["regular file"]);
        standard_input("/dev/stdin", create_nothing, &["regular file"]);
        process_memory(
            "/proc/self/mem",
            create_nothing,
            &["cannot read the file", "missing magic number"],
        );
    }
}

#[test]
fn component_size_limit_is_enforced() {
    let t = TestHost::new();
    t.write("minimal.wasm", minimal_component());
    let rejected = run_plugin(&t, "./minimal.wasm", &["--limit", "component-size=1KiB"]);
    assert_rejected(&rejected, &["limit `component-size` is 1KiB"]);
}

/// Exponential expansion ("billion laughs"): nested components with ten instances at each level.
fn nested_instances(levels: u32) -> String {
    let mut text = String::from("(component (core module $m) (component $c0 ");
    text.push_str("(core module $m) (core instance (instantiate $m)))");
    for level in 1..=levels {
        // Nests the component of the previous level in the new one, which can then refer to it by name.
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

/// Writes the minimal plugin with this component nested in it, and returns its path.
fn plugin_with(t: &TestHost, text: &str) -> &'static str {
    t.write("plugin.wasm", with_component(&minimal_component(), &component(text)));
    "./plugin.wasm"
}

fn assert_too_many_instances(text: &str) {
    let t = TestHost::new();
    let run = run_plugin(&t, plugin_with(&t, text), &[]);
    assert_rejected(&run, &["limit `instances` is 64"]);
}

e2e::cases! {
    mod instance_limit_is_enforced: assert_too_many_instances {
        nested_100(&nested_instances(2));
        nested_1_000_000_000(&nested_instances(9));
        siblings_2_to_5(&sibling_instances(5));
        siblings_2_to_24(&sibling_instances(24));
        siblings_2_to_1_000(&sibling_instances(1_000));
    }
}

fn assert_accepted(text: &str) {
    let t = TestHost::new();
    let run = run_plugin(&t, plugin_with(&t, text), &[]);
    assert_eq!(run.status, Some(0), "{run:?}");
}

e2e::cases! {
    mod few_instances_are_accepted: assert_accepted {
        nested(&nested_instances(1));
        siblings(&sibling_instances(3));
        globals(&instances_with_globals(100, 2));
    }
}

/// Returns `uses` instances of a module with `count` globals.
fn instances_with_globals(count: usize, uses: usize) -> String {
    let globals = "(global (mut i64) (i64.const 7))".repeat(count);
    let uses = "(core instance (instantiate $m))".repeat(uses);
    format!("(component (core module $m {globals}) {uses})")
}

fn assert_static_cost_rejected(count: usize, uses: usize) {
    let t = TestHost::new();
    let plugin = plugin_with(&t, &instances_with_globals(count, uses));
    let run = run_plugin(&t, plugin, &[]);
    assert_rejected(&run, &["the globals and functions of an instance take up to"]);
    assert_rejected(&run, &["limit `memory` is 24MiB"]);
}

e2e::cases! {
    /// Globals and functions count towards the memory limit, which is checked before compilation.
    mod static_memory_cost_is_limited: assert_static_cost_rejected {
        many_instances(100_000, 40);
        many_globals(900_000, 3);
    }
}

#[test]
fn mismatched_import_is_named() {
    let t = TestHost::new();
    let files = "reloader:plugin/files@0.1.0";
    let import = format!(r#"(component (import "{files}" (instance (export "shred" (func))))"#);
    let text = fs::read_to_string(e2e::package().join("guests/other-types.wat")).unwrap();
    t.write("import.wasm", component(&text.replacen("(component", &import, 1)));
    let run = run_plugin(&t, "./import.wasm", &[]);
    assert_rejected(&run, &[files]);
    assert_rejected(&run, &["`shred`"]);
}

/// Compilation bomb: the minimal plugin with additional module fields, such as functions, that take long to compile.
fn compile_bomb(fields: &str) -> Vec<u8> {
    let text = fs::read_to_string(e2e::package().join("guests/minimal.wat")).unwrap();
    let end = text.trim_end().rfind(')').unwrap();
    component(&format!("{}{fields})", &text[..end]))
}

/// Returns a function with 2,000 nested blocks and 300 branch tables of 2,000 labels each.
fn function_with_many_branches() -> String {
    let mut text = String::from("(func (param i32)");
    let depth = 2_000;
    text.push_str(&"(block ".repeat(depth));
    for _ in 0..300 {
        text.push_str("(block (br_table");
        for label in 0..depth {
            let _ = write!(text, " {label}");
        }
        text.push_str(" (local.get 0)))");
    }
    text.push_str(&")".repeat(depth));
    text.push(')');
    text
}

/// Returns a function with 600,000 dependent operations.
fn long_function() -> String {
    let operations = "(i64.mul (local.get 0)) (i64.popcnt) (i64.add (i64.const 3))".repeat(200_000);
    format!("(func (param i64) (result i64) (local.get 0){operations})")
}

/// Returns a function with 40,000 local variables and 40,000 loops that change them.
fn function_with_many_locals() -> String {
    let loops: String = (0..40_000)
        .map(|number| {
            let (to, from) = (number + 1, (number * 7919) % 40_000 + 1);
            format!(
                "(loop (local.set {to} (i64.add (local.get {to}) (local.get {from}))) \
                 (br_if 0 (local.get 0)))"
            )
        })
        .collect();
    format!("(func (param i32) (local {}) {loops})", "i64 ".repeat(40_000))
}

/// Asserts that the host aborts the compilation of a bomb. The time limit of 100 ms is shorter than any
/// machine needs for the compilation.
fn assert_compilation_aborted(fields: &str) {
    let t = TestHost::new();
    t.write("bomb.wasm", compile_bomb(fields));
    let run = run_plugin(&t, "./bomb.wasm", &["--limit", "compile-time=100ms"]);
    let expected = ["limit `compile-time` is 100ms", "limit `compile-memory`", "too large"];
    assert_rejected(&run, &expected);
}

e2e::cases! {
    mod slow_compilation_is_aborted: assert_compilation_aborted {
        many_branches(&function_with_many_branches());
        long_function_body(&long_function());
        many_locals(&function_with_many_locals());
    }
}

#[test]
fn host_exit_kills_compiler() {
    let t = TestHost::new();
    t.write("bomb.wasm", compile_bomb(&long_function()));
    let mut host = t.run(&["run", "--plugin", "./bomb.wasm", "--limit", "compile-time=5m"]);
    e2e::wait_until("the compiler to start", || !host.children().is_empty());
    let compiler = host.children();
    host.stop();
    let has_ended = || compiler.iter().all(|process| e2e::process_status(*process).is_none());
    e2e::wait_until("the end of the compiler", has_ended);
}

/// Replacing the component file does not affect the running plugin.
#[test]
fn replaced_component_file_keeps_plugin_running() {
    let t = TestHost::new();
    t.write("plugin.wasm", minimal_component());
    let mut run = t.run(&["run", "--plugin", "./plugin.wasm", "--interval", "20ms"]);
    run.wait_for_value("x");
    t.replace("plugin.wasm", "something else");
    t.write("plugin.wasm", "and again");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    assert!(Path::new(&t.path("plugin.wasm")).exists());
}
