//! Web page in a real browser. `tests/page/page.mjs` contains the checks.

use crate::served::{APP, Served, token};
use e2e::TestHost;
use std::process::Command;

/// Starts a host with a value that changes, a rejected value, and a source without a value.
fn start_host(rest: &str) -> Served {
    let t = TestHost::new();
    t.write("app.json", "{\"a\": 1, \"password\": \"hunter2\"}");
    t.write("broken.json", "{");
    let config = APP.replace("app.in", "app.json")
        + "[[source.sink]]\ntype = \"file\"\npath = \"out.json\"\n\
           [[source]]\nname = \"broken\"\nplugin = \"file\"\nconfig.path = \"broken.json\"\nrequired = false\n\
           validate = { parse = \"json\" }\n\
           [[source]]\nname = \"later\"\nplugin = \"file\"\nconfig.path = \"later.json\"\nrequired = false\n"
        + rest;
    let served = Served::start(t, &config, &["--listen", "127.0.0.1:0"]);
    served.wait_for("/readyz", 200);
    served
}

fn run_page_checks(served: &Served, variables: &[(&str, &str)]) {
    let script = e2e::package().join("page/page.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(&served.base).arg(served.t.path(".")).envs(variables.iter().copied());
    if !variables.is_empty() {
        // Screenshots are only taken of the page without authentication.
        node.env_remove("SCREENSHOTS");
    }
    let finished = node.output().unwrap();
    let output = String::from_utf8_lossy(&finished.stdout);
    let errors = String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success(), "{output}\n{errors}\n{}", served.host.stderr());
}

/// Returns whether Chromium and Playwright are installed.
fn has_browser() -> bool {
    if std::env::var_os("PLAYWRIGHT").is_none() {
        e2e::skip("PLAYWRIGHT is not set to the directory of playwright-core");
        return false;
    }
    e2e::have("node") && e2e::have("chromium")
}

#[test]
fn page_shows_changes_and_rolls_back() {
    if has_browser() {
        run_page_checks(&start_host(""), &[]);
    }
}

#[test]
fn page_requires_token() {
    if !has_browser() {
        return;
    }
    let (admin, admits) = token(&["admin", "--scope", "admin"]);
    let (reader, reads) = token(&["reader"]);
    let bare = |token: &str| token.trim_start_matches("Bearer ").to_owned();
    let served = start_host(&format!("{admits}{reads}"));
    run_page_checks(&served, &[("TOKEN", &bare(&admin)), ("READ_TOKEN", &bare(&reader))]);
}

/// The content security policy blocks external content, regardless of the content of values.
#[test]
fn page_blocks_external_content() {
    let served = Served::app("");
    let page = served.get("/");
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("app.in"), "{}", page.text);
    // Another site may link to the page. Other requests from this site are rejected.
    let elsewhere = [("sec-fetch-site", "cross-site")];
    assert_eq!(served.ask("GET", "/", &elsewhere).status, 200);
    served.ask("GET", "/v1/sources", &elsewhere).is_problem(403, "cross-origin");
    let known = [("if-none-match", page.header("etag"))];
    assert_eq!(served.ask("GET", "/", &known).status, 304);
}
