//! Syntax of the `host` commands in the documents, also in code blocks that no test runs.

use crate::markdown::{documents, read};
use std::{path::PathBuf, process::Command};

/// Each `host` command of a document has valid arguments.
#[test]
fn documented_commands_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    // This page consists of help texts, in which a description follows each command.
    let is_help = |page: &PathBuf| page.ends_with("reference/command-line.md");
    let pages = documents().into_iter().chain(["guest-sdk/src/lib.rs".into()]);
    let pages = pages.filter(|page| !is_help(page));
    let mut found = 0;
    for page in pages {
        let text = read(&page).replace("\\\n", " ");
        let mut in_block = false;
        for line in text.lines() {
            let line = line.trim_start_matches("//!").trim_start().trim_start_matches("$ ");
            in_block ^= line.starts_with("```");
            if !in_block || !line.starts_with("host ") {
                continue;
            }
            // With `--help`, the command line is parsed but not executed.
            let program = e2e::program();
            let command = line.split(['|', '>', '&']).next().unwrap();
            let script = format!("host() {{ {} \"$@\" --help; }}; {command}", program.display());
            let output = Command::new("sh")
                .args(["-c", &script])
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {line}: {output:?}", page.display());
            found += 1;
        }
    }
    assert!(found > 50, "only {found} commands");
}
