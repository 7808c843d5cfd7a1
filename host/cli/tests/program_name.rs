//! Program name and version: help and errors contain the name under which the program was called, and packages install
//! the program as `reloader-host`.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

/// Runs the program under the name `reloader-host` (in `argv[0]`).
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host"));
    command.arg0("/usr/local/bin/reloader-host").args(arguments);
    command.output().expect("the program can be started")
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("the output is text")
}

fn stderr(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("the output is text")
}

const COMMANDS: [&str; 15] = [
    "run",
    "check",
    "schema",
    "status",
    "get",
    "watch",
    "history",
    "rollback",
    "resume",
    "reload",
    "token",
    "inspect",
    "plugins",
    "completions",
    "help",
];

#[test]
fn help_names_program_as_called() {
    let help = stdout(&["--help"]);
    assert!(help.contains("Usage: reloader-host [OPTIONS] <COMMAND>"), "{help}");
    assert!(help.contains("\n  reloader-host run --plugin file"), "{help}");
    for command in COMMANDS.into_iter().filter(|command| *command != "help") {
        let usage = format!("Usage: reloader-host {command}");
        let page = stdout(&[command, "--help"]);
        assert!(page.contains(&usage), "{page}");
        for other in COMMANDS {
            let is_wrong = |start: &str| page.contains(&format!("{start}host {other}"));
            assert!(!is_wrong("`") && !is_wrong(" ") && !is_wrong("("), "{other}: {page}");
        }
    }
    let completions = stdout(&["completions", "bash"]);
    assert!(completions.contains(" -o default reloader-host\n"), "{completions}");
}

#[test]
fn errors_name_program_as_called() {
    assert!(stderr(&["nothing"]).contains("Usage: reloader-host [OPTIONS] <COMMAND>"));
    let error = stderr(&["run", "--plugin", "file", "--once"]);
    assert!(error.contains("(`reloader-host inspect file` shows the settings)"), "{error}");
}

#[test]
fn short_version_is_one_line() {
    let version = stdout(&["-V"]);
    let start = format!("reloader-host {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&start) && version.ends_with(")\n"), "{version}");
    assert_eq!(version.lines().count(), 1, "{version}");
}

/// `--version` prints five lines: version, commit, features, wasmtime and plugin interface. The commit is `unknown` in
/// an archive without `.git`, and the value of `RELOADER_COMMIT` in a container build.
#[test]
fn long_version_lists_parts() {
    let version = stdout(&["--version"]);
    let lines: Vec<_> = version.lines().collect();
    let [name, commit, features, wasmtime, interface] = lines[..] else {
        panic!("{version}");
    };
    assert_eq!(name, format!("reloader-host {}", env!("CARGO_PKG_VERSION")));
    let commit = commit.strip_prefix("commit: ").expect("a commit");
    let is_hash = commit.len() >= 7 && commit.chars().all(|digit| digit.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown" || option_env!("RELOADER_COMMIT").is_some(), "{commit}");
    let expected = if cfg!(feature = "otel") { "features: otel" } else { "features: none" };
    assert_eq!(features, expected);
    let is_version = |text: &str| {
        text.split('.').count() == 3
            && text.chars().all(|char| char == '.' || char.is_ascii_digit())
    };
    assert!(wasmtime.strip_prefix("wasmtime: ").is_some_and(is_version), "{wasmtime}");
    let interface = interface.strip_prefix("plugin interface: reloader:plugin@");
    assert!(interface.is_some_and(is_version), "{version}");
}

#[test]
fn packages_install_reloader_host() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    for (file, line) in [
        ("Containerfile", "ENTRYPOINT [\"/usr/local/bin/reloader-host\"]"),
        (
            "Containerfile",
            "COPY --from=build /src/target/release/host /usr/local/bin/reloader-host",
        ),
        ("reloader-host.service", "ExecStart=/usr/local/bin/reloader-host run"),
    ] {
        let text = fs::read_to_string(packaging.join(file)).expect("the file exists");
        assert!(text.contains(line), "{file}: {line}");
        assert!(!text.contains("/usr/local/bin/host"), "{file}");
    }
}
