//! Examples of configuration files in the documents.

use crate::markdown::{blocks, documents, read};
use e2e::TestHost;

/// Source that is added to an example without a source.
const SOURCE: &str =
    "[[source]]\nname = \"app\"\nplugin = \"file\"\nconfig = { path = \"app.json\" }\n";

/// Names of the tables of a configuration file.
const TABLES: [&str; 7] = ["source", "group", "defaults", "state", "log", "listen", "command"];

/// Returns whether a TOML text is a part of a configuration file.
fn is_config(text: &str) -> bool {
    let mut names = text.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix('[')?.trim_start_matches('[');
        name.split([']', '.']).next()
    });
    let is_table = |name: &str| TABLES.contains(&name);
    names.next().is_some_and(is_table)
}

/// `host check` accepts each example. An example without a source is checked with [`SOURCE`].
#[test]
fn config_examples_are_valid() {
    let t = TestHost::new();
    let mut found = 0;
    for document in documents() {
        for block in blocks(&read(&document)) {
            if block.language != "toml" || !is_config(&block.text) {
                continue;
            }
            found += 1;
            let has_source = block.text.contains("[[source]]");
            let config =
                if has_source { block.text.clone() } else { format!("{SOURCE}{}", block.text) };
            t.write("reloader.toml", config);
            let check =
                t.finish_with("API_TOKEN", "secret", &["check", "--config", "reloader.toml"]);
            // Files that an example names do not exist in this test, so their errors are ignored.
            let errors = check.stderr.lines().filter(|line| line.starts_with("error"));
            let errors: Vec<_> = errors.filter(|line| !line.contains("No such file")).collect();
            let place = format!("{}:{}", document.display(), block.line);
            assert!(errors.is_empty(), "{place}: {}", check.stderr);
        }
    }
    assert!(found > 10, "only {found} examples");
}
