//! `command-line.md`: the help texts of all commands.

use super::generated;
use e2e::TestHost;
use std::fmt::Write as _;

/// Returns the text of `command-line.md`.
pub(super) fn document(t: &TestHost) -> String {
    let mut text = format!(
        "# Command line\n\nThe help text of each command, as `host COMMAND --help` prints it. Guides: \
         [operate](../operate/README.md).\n\n{}",
        generated()
    );
    write_command(t, &mut text, &[]);
    text
}

/// Writes the help text of a command and of its subcommands.
fn write_command(t: &TestHost, text: &mut String, command: &[&str]) {
    let help = t.finish(&[command, &["--help"]].concat());
    assert_eq!(help.status, Some(0), "{help:?}");
    let help = help.text();
    let name = [&["host"], command].concat().join(" ");
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    let commands = lines.iter().skip_while(|line| **line != "Commands:").skip(1);
    for line in commands.take_while(|line| !line.is_empty()) {
        let indented = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        match indented.and_then(|rest| rest.split_whitespace().next()) {
            None | Some("help") => {}
            Some(subcommand) => write_command(t, text, &[command, &[subcommand]].concat()),
        }
    }
}
