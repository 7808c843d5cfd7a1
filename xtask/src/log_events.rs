//! Reference of log events: extracts each event of the host's crates from the source, with its level and fields.

use crate::run_program::root;
use anyhow::{Context, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};
use syn::visit::Visit;

/// Path of the generated document in the repository.
const DOCUMENT: &str = "docs/reference/log-events.md";
/// Directories whose events appear in the log of the host.
const SOURCES: [&str; 3] = ["host/cli/src", "host/crates", "host/src"];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Index in [`LEVELS`] of the level at which repeated, flapping and rate-limited events of a source are logged.
const DEBUG: usize = 3;

/// Macro of the crate `source` that creates an event: level, phrase, fields.
const SOURCE_EVENT_MACRO: &str = "log_event";
/// Phrases of events that forward text of another program, and their names in the document.
const FORWARDED_TEXT: [(&str, &str); 3] = [
    ("{text}", "log line of a plugin"),
    ("{line}", "output line of a command"),
    // Phrase of the call that writes all events of `SOURCE_EVENT_MACRO`. The document lists those events instead.
    ("{phrase}", ""),
];

const INTRODUCTION: &str = "\
# Log events

Each event has a fixed phrase and structured fields. `--log-format json` writes the fields as JSON members; the text
format writes them after the phrase. Targets begin with `reloader_` and the name of the crate; `RUST_LOG` selects
them, for example `RUST_LOG=reloader_server=debug`.

If several levels are listed, an event has the lowest level when it repeats, when its failure is flapping, or when it
exceeds a rate limit. Events in italics forward the text of another program.

Fields that many events have:

| field | content |
|---|---|
| `source` | name of the source |
| `sink` | name of the sink |
| `owner` | source or group (`group/NAME`) to which a sink or a command belongs |
| `error` | cause of the failure |
| `retry_in`, `restart_in` | delay before the next attempt |
| `suppressed` | number of events that a rate limit has suppressed before this one |

This page is generated: `cargo xtask log-events` writes it, and CI compares it with the code.
";

/// Levels and fields of an event.
#[derive(Debug, Default)]
struct Event {
    levels: BTreeSet<usize>,
    fields: BTreeSet<String>,
}

/// Writes the document; with `check`, fails if the document differs from the code.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = root();
    let text = document(&root)?;
    let path = root.join(DOCUMENT);
    if !check {
        fs::create_dir_all(path.parent().context("the document is in a directory")?)?;
        return fs::write(&path, text).with_context(|| format!("cannot write {DOCUMENT}"));
    }
    if fs::read_to_string(&path).unwrap_or_default() != text {
        bail!("{DOCUMENT} differs from the code; hint: run `cargo xtask log-events`");
    }
    Ok(())
}

fn document(root: &Path) -> Result<String> {
    let mut crates: BTreeMap<String, BTreeMap<String, Event>> = BTreeMap::new();
    for source in SOURCES {
        for path in rust_files(&root.join(source))? {
            let relative = path.strip_prefix(root)?;
            let text = fs::read_to_string(&path)?;
            let file = syn::parse_file(&text)
                .with_context(|| format!("cannot parse {}", relative.display()))?;
            let mut events = Events { found: crates.entry(crate_of(relative)).or_default() };
            events.visit_file(&file);
        }
    }
    let mut text = String::from(INTRODUCTION);
    for (name, events) in crates.iter().filter(|(_, events)| !events.is_empty()) {
        let _ = write!(text, "\n## {name}\n\n| event | level | fields |\n|---|---|---|\n");
        for (phrase, Event { levels, fields }) in events {
            let levels: Vec<_> = levels.iter().map(|level| LEVELS[*level]).collect();
            let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
            let forwarded = FORWARDED_TEXT.iter().find(|(text, _)| text == phrase);
            let event = match forwarded {
                Some((_, "")) => continue,
                Some((_, name)) => format!("*{name}*"),
                None => format!("`{}`", phrase.replace('|', "\\|")),
            };
            let _ = writeln!(text, "| {event} | {} | {} |", levels.join(", "), fields.join(", "));
        }
    }
    Ok(text)
}

fn crate_of(path: &Path) -> String {
    let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match (parts.nth(1).as_deref(), parts.next()) {
        (Some("crates"), Some(name)) => name,
        (Some("cli"), _) => "host (program)".into(),
        _ => "library".into(),
    }
}

/// Returns the files of the library and the program, without tests.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "sim" {
            files.extend(rust_files(&path)?);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "build.rs" {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Visitor that collects the log events in a source file.
struct Events<'a> {
    found: &'a mut BTreeMap<String, Event>,
}

impl<'ast> Visit<'ast> for Events<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // An operator never sees the log of a test module.
        if module.ident != "tests" {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|last| last.ident.to_string());
        if name.as_deref() == Some(SOURCE_EVENT_MACRO) {
            return self.source_event(call.tokens.clone());
        }
        let level = name.and_then(|name| LEVELS.iter().position(|level| *level == name));
        match level {
            Some(level) => self.event(level, call.tokens.clone()),
            None => self.nested(call.tokens.clone()),
        }
    }
}

impl Events<'_> {
    /// Adds the event of a macro call: fields, then the phrase.
    fn event(&mut self, level: usize, tokens: TokenStream) {
        let (mut phrase, mut fields) = (None, BTreeSet::new());
        for argument in split(tokens) {
            match argument.as_slice() {
                [TokenTree::Literal(literal)] => {
                    let text = literal.to_string();
                    if phrase.is_none() && text.starts_with('"') {
                        phrase = Some(unescaped(&text));
                    }
                }
                [TokenTree::Ident(target), TokenTree::Punct(colon), ..]
                    if target == "target" && colon.as_char() == ':' => {}
                [TokenTree::Punct(sigil), TokenTree::Ident(field), ..]
                    if ['%', '?'].contains(&sigil.as_char()) =>
                {
                    fields.insert(field.to_string());
                }
                [TokenTree::Ident(field), ..] if phrase.is_none() => {
                    fields.insert(field.to_string());
                }
                _ => {}
            }
        }
        if let Some(phrase) = phrase {
            let event = self.found.entry(phrase).or_default();
            event.levels.insert(level);
            event.fields.extend(fields);
        }
    }

    /// Adds the event of a call of [`SOURCE_EVENT_MACRO`].
    fn source_event(&mut self, tokens: TokenStream) {
        let mut arguments = split(tokens).into_iter().flatten();
        let level = arguments.next().map(|level| level.to_string().to_lowercase());
        let level = level.and_then(|level| LEVELS.iter().position(|known| *known == level));
        let phrase = arguments.next().map(|phrase| unescaped(&phrase.to_string()));
        let (Some(level), Some(phrase)) = (level, phrase) else { return };
        let event = self.found.entry(phrase).or_default();
        event.levels.extend([level, DEBUG]);
        event.fields.insert("source".into());
        event.fields.extend(arguments.map(|field| field.to_string()));
    }

    /// Looks for events in the arguments of another macro, such as `tokio::select!`.
    fn nested(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            let call = at.checked_sub(2).and_then(|start| tokens.get(start..at));
            let level = match call {
                Some([TokenTree::Ident(name), TokenTree::Punct(bang)]) if bang.as_char() == '!' => {
                    LEVELS.iter().position(|level| name == level)
                }
                _ => None,
            };
            match level {
                Some(level) if group.delimiter() == Delimiter::Parenthesis => {
                    self.event(level, group.stream());
                }
                _ => self.nested(group.stream()),
            }
        }
    }
}

/// Splits the arguments of a macro at its commas.
fn split(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in tokens {
        let is_comma = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',');
        match arguments.last_mut() {
            Some(last) if !is_comma => last.push(token),
            _ => arguments.push(Vec::new()),
        }
    }
    arguments
}

/// Returns the content of a string literal on one line.
fn unescaped(literal: &str) -> String {
    let text = syn::parse_str::<syn::LitStr>(literal).map(|text| text.value());
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
