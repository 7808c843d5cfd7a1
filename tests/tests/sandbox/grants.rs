//! Grants by flags, `--no-implied-grants`, and reports of denials.

use e2e::{TestHost, guest};
use serde_json::{Value, json};

/// Runs an attack of the guest `attacker` once, with these flags of `host run`.
fn attack_with_flags(t: &TestHost, attack: &str, to: &str, flags: &[&str]) -> e2e::Finished {
    let plugin = guest("attacker").display().to_string();
    let (attack, to) = (format!("attack={attack}"), format!("to={to}"));
    let arguments = ["run", "--plugin", &plugin, "--once", "--format", "raw", "--set", &attack];
    t.finish(&[&arguments[..], &["--set", &to], flags].concat())
}

fn assert_denial(attack: &str, to: &str, expected: &str) {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let run = attack_with_flags(&t, attack, to, &[]);
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("error: source `attacker`: "), "{line}");
    assert!(line.contains(&format!("{expected} would allow it")), "{line}");
    assert!(!line.contains("t0ken"), "{line}");
}

e2e::cases! {
    mod denial_names_source_access_and_flag: assert_denial {
        file("read", "app.toml", "denied: no grant to read `app.toml`; `--allow-read app.toml`");
        connection(
            "connect",
            "127.0.0.1:1",
            "denied: no grant to connect to `127.0.0.1:1`; `--allow-connect 127.0.0.1:1`",
        );
        request(
            "request",
            "http://127.0.0.1:1/a?token=t0ken",
            "denied: no grant to request `http://127.0.0.1:1/a`; `--allow-http http://127.0.0.1:1`",
        );
    }
}

#[test]
fn flag_of_denial_allows_access() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    assert_eq!(
        attack_with_flags(&t, "read", "app.toml", &["--allow-read", "app.toml"]).text(),
        "a = 1"
    );
    // No server listens on this port, so the allowed connection fails for another reason.
    let run = attack_with_flags(&t, "connect", "127.0.0.1:1", &["--allow-connect", "127.0.0.1:1"]);
    assert!(run.stderr.contains("refused (os error"), "{}", run.stderr);
    let run = attack_with_flags(
        &t,
        "request",
        "http://127.0.0.1:1/a",
        &["--allow-http", "http://127.0.0.1:1"],
    );
    assert!(run.stderr.contains("refused (os error"), "{}", run.stderr);
}

#[test]
fn no_implied_grants_requires_flags() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let run = ["run", "--plugin", "file", "--set", "path=app.toml", "--once", "--format", "raw"];
    assert_eq!(t.finish(&run).text(), "a = 1");
    let explicit = [&run[..], &["--no-implied-grants"]].concat();
    let refused = t.finish(&explicit);
    let (status, line) = refused.status_and_error();
    assert_eq!(status, Some(1));
    assert!(line.contains("`--allow-read app.toml` would allow it"), "{line}");
    assert_eq!(t.finish(&[&explicit[..], &["--allow-read", "app.toml"]].concat()).text(), "a = 1");
}

#[test]
fn repeated_denial_is_logged_once() {
    let t = TestHost::new();
    let plugin = guest("attacker").display().to_string();
    let host = t.run(&[
        "run",
        "--plugin",
        &plugin,
        "--set",
        "attack=read",
        "--set",
        "to=/etc/passwd",
        "--interval",
        "5ms",
        "--log-level",
        "debug",
    ]);
    host.wait_for_log("DEBUG read failed");
    let log = host.stderr();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("`--allow-read /etc/passwd` would allow it"), "{log}");
    assert!(warnings[0].contains("source=attacker"), "{log}");
}

#[test]
fn only_granted_variables_are_visible() {
    let t = TestHost::new();
    let plugin = guest("attacker").display().to_string();
    let run =
        ["run", "--plugin", &plugin, "--once", "--format", "raw", "--set", "attack=environment"];
    assert!(t.finish_with("GREETING", "hello", &run).text().starts_with("[] "));
    let granted = [&run[..], &["--allow-env", "GREETING", "--allow-env", "NOT_THERE"]].concat();
    let seen = t.finish_with("GREETING", "hello", &granted).text();
    assert!(seen.starts_with(r#"[("GREETING", "hello")] "#), "{seen}");
}

#[test]
fn inspect_shows_grants() {
    let t = TestHost::new();
    let inspect = ["inspect", "http", "--json", "--set", "url=https://example.com/a/b?token=t0ken"];
    let decided = |flags: &[&str]| {
        let run = t.finish(&[&inspect[..], flags].concat());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        assert!(!run.text().contains("t0ken"));
        let shown: Value = serde_json::from_str(&run.text()).unwrap();
        (shown["requested"].clone(), shown["granted"].clone(), shown["missing"].clone())
    };
    let requested = json!([{
        "setting": "url",
        "access": "request `https://example.com:443/a/b`",
        "flag": "--allow-http https://example.com:443",
    }]);
    let origin = json!(["--allow-http https://example.com:443"]);
    assert_eq!(decided(&[]), (requested.clone(), origin, json!([])));
    assert_eq!(
        decided(&["--no-implied-grants"]),
        (requested.clone(), json!([]), requested.clone())
    );
    let path = ["--no-implied-grants", "--allow-http", "https://example.com/a"];
    let granted = json!(["--allow-http https://example.com:443/a"]);
    assert_eq!(decided(&path), (requested, granted, json!([])));
}

fn assert_flag_rejected(flag: &str, value: &str, expected: &str) {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let run = t.finish(&["run", "--plugin", "file", "--set", "path=app.toml", flag, value]);
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(2), "{line}");
    assert!(line.contains(expected), "{line}");
}

e2e::cases! {
    mod invalid_grant_or_limit_is_rejected: assert_flag_rejected {
        connection_without_port("--allow-connect", "example.com", "expected HOST:PORT");
        origin_without_scheme("--allow-http", "example.com", "expected https://HOST");
        variable_with_value("--allow-env", "A=b", "without a value");
        unknown_limit(
            "--limit",
            "memroy=1MiB",
            "unknown limit `memroy`; available: `memory`",
        );
        limit_without_number("--limit", "memory=much", "limit `memory`: expected a size");
        limit_without_value("--limit", "memory", "expected NAME=VALUE");
        unknown_address_range("--allow-address", "internal", "invalid value 'internal'");
    }
}
