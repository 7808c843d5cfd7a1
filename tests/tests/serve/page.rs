//! The page for people, in a real browser: what is to be seen is looked for by `tests/page/page.mjs`.

use crate::{APP, Served, access::token};
use e2e::TestHost;
use std::process::Command;

/// A host with what the page has to show: a value that changes, one that is refused, one that is not there yet.
fn shown(rest: &str) -> Served {
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

fn look_at(served: &Served, variables: &[(&str, &str)]) {
    let script = e2e::package().join("page/page.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(&served.base).arg(served.t.path(".")).envs(variables.iter().copied());
    if !variables.is_empty() {
        // Those are of the page that asks for nothing.
        node.env_remove("SCREENSHOTS");
    }
    let looked = node.output().unwrap();
    let said = String::from_utf8_lossy(&looked.stdout);
    let complaints = String::from_utf8_lossy(&looked.stderr);
    assert!(looked.status.success(), "{said}\n{complaints}\n{}", served.host.stderr());
}

/// A browser, and what steers it.
fn have_browser() -> bool {
    let steers = std::env::var_os("PLAYWRIGHT").is_some();
    if !steers {
        let required = std::env::var_os("REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "PLAYWRIGHT does not say where playwright-core is");
        return false;
    }
    e2e::have("node") && e2e::have("chromium")
}

#[test]
fn the_page_shows_what_is_and_what_changes_and_goes_back() {
    if have_browser() {
        look_at(&shown(""), &[]);
    }
}

#[test]
fn the_page_asks_for_a_token_where_one_is_needed() {
    if !have_browser() {
        return;
    }
    let (admin, admits) = token(&["admin", "--scope", "admin"]);
    let (reader, reads) = token(&["reader"]);
    let bare = |token: &str| token.trim_start_matches("Bearer ").to_owned();
    let served = shown(&format!("{admits}{reads}"));
    look_at(&served, &[("TOKEN", &bare(&admin)), ("READ_TOKEN", &bare(&reader))]);
}

/// What comes from elsewhere is refused by the browser, whatever a value holds.
#[test]
fn the_page_lets_nothing_else_in_and_says_nothing_of_what_runs() {
    let served = Served::app("");
    let page = served.get("/");
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("app.in"), "{}", page.text);
    // A link from elsewhere leads here, but nothing else can be asked from there.
    let elsewhere = [("sec-fetch-site", "cross-site")];
    assert_eq!(served.ask("GET", "/", &elsewhere).status, 200);
    served.ask("GET", "/v1/sources", &elsewhere).is_problem(403, "other sites");
    let known = [("if-none-match", page.header("etag"))];
    assert_eq!(served.ask("GET", "/", &known).status, 304);
}
