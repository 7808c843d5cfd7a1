//! Imports run one way. What a module may use of this crate is written down here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// Each module, and the modules of this crate that it may use.
const DIRECTIONS: [(&str, &[&str]); 38] = [
    ("model", &[]),
    ("backoff", &[]),
    ("digest", &[]),
    ("socket", &[]),
    ("lines", &[]),
    ("panics", &[]),
    ("text", &[]),
    ("threads", &[]),
    ("units", &[]),
    ("spans", &[]),
    ("wire", &[]),
    ("outgoing", &[]),
    ("client", &["backoff", "outgoing", "text", "wire"]),
    ("counters", &["model"]),
    ("engine", &["model"]),
    ("judge", &["model"]),
    ("origin", &["model"]),
    ("store", &["model"]),
    ("marks", &[]),
    ("capability", &["marks"]),
    ("config", &["marks", "text"]),
    ("decode", &["model"]),
    ("file", &[]),
    ("net", &["capability", "threads"]),
    ("driver", &["counters", "engine", "lines", "model", "origin", "store"]),
    ("reload", &["driver", "engine", "model", "store"]),
    ("file_reloader", &["file", "reload"]),
    (
        "source",
        &[
            "counters", "driver", "engine", "judge", "keep", "model", "origin", "panics", "spans",
            "store",
        ],
    ),
    ("keep", &["model"]),
    ("process", &["backoff", "text", "units"]),
    ("validate", &["decode", "judge", "model", "process", "text", "units"]),
    (
        "delivery",
        &[
            "backoff", "config", "decode", "digest", "lines", "model", "outgoing", "process",
            "spans", "store", "text", "units",
        ],
    ),
    ("state", &["digest", "model", "panics", "text", "units"]),
    (
        "plugin",
        &[
            "capability",
            "config",
            "counters",
            "engine",
            "file",
            "judge",
            "model",
            "net",
            "origin",
            "reload",
            "source",
            "text",
            "threads",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "capability",
            "client",
            "config",
            "delivery",
            "digest",
            "marks",
            "model",
            "net",
            "outgoing",
            "plugin",
            "process",
            "serve",
            "source",
            "spans",
            "store",
            "text",
            "units",
            "wire",
        ],
    ),
    (
        "serve",
        &["app", "counters", "digest", "file", "model", "socket", "spans", "store", "text", "wire"],
    ),
    (
        "app",
        &[
            "capability",
            "counters",
            "delivery",
            "digest",
            "file",
            "judge",
            "keep",
            "model",
            "net",
            "origin",
            "plugin",
            "process",
            "source",
            "state",
            "store",
            "text",
            "units",
            "validate",
            "wire",
        ],
    ),
    ("main", &["cli"]),
];

#[test]
fn each_module_uses_only_what_it_may() {
    let root = source();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if module == "lib" {
            continue;
        }
        let (_, allowed) = DIRECTIONS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("`{module}` is not in the table"));
        for used in used(&path) {
            assert!(
                used == module || allowed.contains(&used.as_str()),
                "`{module}` uses `{used}`, and may only use {allowed:?}"
            );
        }
    }
}

fn source() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src")
}

/// The modules of this crate that a module names after `crate::`.
fn used(module: &Path) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for file in files(module) {
        let text = fs::read_to_string(&file).unwrap();
        // What is below is for tests, which may use what they need.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for after in text.split("crate::").skip(1) {
            let names: Vec<&str> = match after.strip_prefix('{') {
                // `use crate::{a::…, b::{…}}`: the names at the first level.
                Some(list) => first_level(list),
                None => vec![after],
            };
            for name in names {
                let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                let name = name.trim().split(word).next().unwrap_or_default();
                let module = match name {
                    "Source" => "source",
                    "ReloaderService" => "reload",
                    "Plugin" | "Runtime" => "plugin",
                    "Strategy" | "Snapshot" | "SourceName" | "Failure" => "model",
                    "Reader" => "store",
                    other => other,
                };
                used.insert(module.to_owned());
            }
        }
    }
    used.remove("");
    used
}

fn first_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(&list[start..at]);
                return names;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn files(module: &Path) -> Vec<PathBuf> {
    if module.is_file() {
        return vec![module.into()];
    }
    let entries = fs::read_dir(module).unwrap();
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}
