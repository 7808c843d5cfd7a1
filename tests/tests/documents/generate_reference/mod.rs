//! Reference documents, generated from the program. `cargo xtask reference` writes them; the test compares them.

mod command_line;
mod configuration;
mod http_api;
mod metrics;

use crate::markdown::root;
use e2e::{Running, TestHost};
use std::{env, fs};

/// Environment variable that makes the test write the documents.
const UPDATE: &str = "UPDATE_REFERENCE";

/// The stored reference documents are equal to the generated ones.
#[test]
fn reference_matches_the_program() {
    let t = TestHost::new();
    t.write("app.json", "{}");
    t.write("reloader.toml", CONFIG);
    let host = t.run(&["run", "--config", "reloader.toml", "--listen", "127.0.0.1:0"]);
    let documents = [
        ("command-line.md", command_line::document(&t)),
        ("configuration.md", configuration::document(&t)),
        ("http-api.md", http_api::document(&get(&host, "/openapi.json"))),
        ("metrics.md", metrics::document(|| get(&host, "/metrics"))),
    ];
    for (name, text) in documents {
        let path = root().join("docs/reference").join(name);
        if env::var_os(UPDATE).is_some() {
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{name} is out of date; hint: run `cargo xtask reference`");
    }
}

/// Configuration of a host that has metrics of each kind.
const CONFIG: &str = r#"
[[source]]
name = "app"
plugin = "file"
config = { path = "app.json" }

[[source.sink]]
type = "file"
path = "out.json"
"#;

/// Returns the response of the host's API.
fn get(host: &Running, path: &str) -> String {
    host.wait_for_log("API listening url=");
    let log = host.stderr();
    let (_, url) = log.split_once("API listening url=").unwrap();
    let url = format!("{}{path}", url.lines().next().unwrap().trim());
    ureq::get(url).call().unwrap().into_body().read_to_string().unwrap()
}

/// Returns a text as one line that can be a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Returns a text as one line that ends with a full stop.
fn sentence(text: &str) -> String {
    let text = cell(text);
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

/// Returns the note that a document is generated. It ends the introduction of each document.
fn generated() -> &'static str {
    "This page is generated: `cargo xtask reference` writes it, and a test compares it with the program.\n"
}
