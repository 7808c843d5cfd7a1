//! What an operator grants besides the settings, takes back, and is told of.

use e2e::{TestHost, guest};
use serde_json::{Value, json};

/// Runs the guest that does what it is told, once.
fn deed(t: &TestHost, deed: &str, to: &str, flags: &[&str]) -> e2e::Finished {
    let plugin = guest("restless").display().to_string();
    let (deed, to) = (format!("deed={deed}"), format!("to={to}"));
    let arguments = ["run", "--plugin", &plugin, "--once", "--format", "raw", "--set", &deed];
    t.finish(&[&arguments[..], &["--set", &to], flags].concat())
}

#[test]
fn a_refusal_is_one_line_that_names_the_source_what_was_asked_and_the_flag_that_allows_it() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let cases = [
        ("read", "app.toml", "refused to read `app.toml`: not granted; `--allow-read app.toml`"),
        (
            "connect",
            "127.0.0.1:1",
            "refused to connect to `127.0.0.1:1`: not granted; `--allow-connect 127.0.0.1:1`",
        ),
        (
            "request",
            "http://127.0.0.1:1/a?token=t0ken",
            "refused to request `http://127.0.0.1:1/a`: not granted; \
             `--allow-http http://127.0.0.1:1`",
        ),
    ];
    for (what, to, expected) in cases {
        let run = deed(&t, what, to, &[]);
        let (status, line) = run.complaint();
        assert_eq!(status, Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.starts_with("error: source `restless`: "), "{line}");
        assert!(line.contains(&format!("{expected} would allow it")), "{line}");
        assert!(!line.contains("t0ken"), "{line}");
    }
}

#[test]
fn the_flag_that_a_refusal_names_allows_it() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    assert_eq!(deed(&t, "read", "app.toml", &["--allow-read", "app.toml"]).text(), "a = 1");
    // Nobody listens there, so that what comes is another failure.
    let run = deed(&t, "connect", "127.0.0.1:1", &["--allow-connect", "127.0.0.1:1"]);
    assert!(run.stderr.contains("refused (os error"), "{}", run.stderr);
    let run = deed(&t, "request", "http://127.0.0.1:1/a", &["--allow-http", "http://127.0.0.1:1"]);
    assert!(run.stderr.contains("refused (os error"), "{}", run.stderr);
}

#[test]
fn without_implied_grants_everything_has_to_be_spelled_out() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    let run = ["run", "--plugin", "file", "--set", "path=app.toml", "--once", "--format", "raw"];
    assert_eq!(t.finish(&run).text(), "a = 1");
    let explicit = [&run[..], &["--no-implied-grants"]].concat();
    let refused = t.finish(&explicit);
    let (status, line) = refused.complaint();
    assert_eq!(status, Some(1));
    assert!(line.contains("`--allow-read app.toml` would allow it"), "{line}");
    assert_eq!(t.finish(&[&explicit[..], &["--allow-read", "app.toml"]].concat()).text(), "a = 1");
}

#[test]
fn a_source_that_goes_on_says_a_refusal_once() {
    let t = TestHost::new();
    let plugin = guest("restless").display().to_string();
    let host = t.run(&[
        "run",
        "--plugin",
        &plugin,
        "--set",
        "deed=read",
        "--set",
        "to=/etc/passwd",
        "--interval",
        "5ms",
        "--log-level",
        "debug",
    ]);
    host.wait_for_log("DEBUG reading failed");
    let log = host.stderr();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("`--allow-read /etc/passwd` would allow it"), "{log}");
    assert!(warnings[0].contains("source=restless"), "{log}");
}

#[test]
fn a_variable_is_there_when_it_is_granted_and_no_other_is() {
    let t = TestHost::new();
    let plugin = guest("restless").display().to_string();
    let run =
        ["run", "--plugin", &plugin, "--once", "--format", "raw", "--set", "deed=environment"];
    assert!(t.finish_with("GREETING", "hello", &run).text().starts_with("[] "));
    let granted = [&run[..], &["--allow-env", "GREETING", "--allow-env", "NOT_THERE"]].concat();
    let seen = t.finish_with("GREETING", "hello", &granted).text();
    assert!(seen.starts_with(r#"[("GREETING", "hello")] "#), "{seen}");
}

#[test]
fn inspect_shows_what_is_asked_granted_and_missing() {
    let t = TestHost::new();
    let inspect = ["inspect", "http", "--json", "--set", "url=https://example.com/a/b?token=t0ken"];
    let decided = |flags: &[&str]| {
        let run = t.finish(&[&inspect[..], flags].concat());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        assert!(!run.text().contains("t0ken"));
        let shown: Value = serde_json::from_str(&run.text()).unwrap();
        (shown["asked"].clone(), shown["granted"].clone(), shown["missing"].clone())
    };
    let asked = json!([{
        "setting": "url",
        "access": "request `https://example.com:443/a/b`",
        "flag": "--allow-http https://example.com:443",
    }]);
    let origin = json!(["--allow-http https://example.com:443"]);
    assert_eq!(decided(&[]), (asked.clone(), origin, json!([])));
    assert_eq!(decided(&["--no-implied-grants"]), (asked.clone(), json!([]), asked.clone()));
    let path = ["--no-implied-grants", "--allow-http", "https://example.com/a"];
    let granted = json!(["--allow-http https://example.com:443/a"]);
    assert_eq!(decided(&path), (asked, granted, json!([])));
}

#[test]
fn what_cannot_be_granted_or_limited_is_told_at_once() {
    let t = TestHost::new();
    t.write("app.toml", "a = 1");
    for (flag, value, expected) in [
        ("--allow-connect", "example.com", "expected HOST:PORT"),
        ("--allow-http", "example.com", "expected https://HOST"),
        ("--allow-env", "A=b", "without a value"),
        ("--limit", "memroy=1MiB", "there is no limit `memroy`; there are `memory`"),
        ("--limit", "memory=much", "limit `memory`: expected a size"),
        ("--limit", "memory", "expected NAME=VALUE"),
        ("--allow-address", "internal", "invalid value 'internal'"),
    ] {
        let run = t.finish(&["run", "--plugin", "file", "--set", "path=app.toml", flag, value]);
        let (status, line) = run.complaint();
        assert_eq!(status, Some(2), "{line}");
        assert!(line.contains(expected), "{flag} {value}: {line}");
    }
}
