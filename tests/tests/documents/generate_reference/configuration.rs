//! `configuration.md`: all keys of the configuration file, from its JSON Schema.

use super::{cell, generated, sentence};
use e2e::TestHost;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt::Write as _};

const INTRODUCTION: &str = "\
# Configuration file

All tables and keys of the configuration file of `host run --config` and `host check --config`. Guide:
[configuration](../operate/configuration.md). [`docs/reloader.toml`](../reloader.toml) is a commented example.

| type | examples |
|---|---|
| duration | `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h\"` |
| size | `\"64KiB\"`, `\"8MiB\"` |
| command | `[\"nginx\", \"-t\"]` runs without a shell, `\"nginx -t\"` by `/bin/sh -c` |

Relative paths refer to the working directory of the host. Unknown keys are errors. `host schema` prints the JSON
Schema of the file, for editors.

";

/// Returns the text of `configuration.md`.
pub(super) fn document(t: &TestHost) -> String {
    let schema: Value = serde_json::from_str(&t.finish(&["schema"]).text()).unwrap();
    let mut document = Document {
        definitions: &schema["$defs"],
        written: BTreeMap::new(),
        limits: limits(&t.finish(&["run", "--help"]).text()),
        text: format!("{INTRODUCTION}{}", generated()),
    };
    for (name, property) in schema["properties"].as_object().unwrap() {
        document.table(name, property);
    }
    document.text
}

struct Document<'a> {
    definitions: &'a Value,
    /// For each definition of the schema: path of the table whose section describes the definition.
    written: BTreeMap<String, String>,
    limits: String,
    text: String,
}

/// Table in another table: its path, and the schema of its property.
type Child<'a> = (String, &'a Value);

impl<'a> Document<'a> {
    /// Writes the section of a table, and the sections of the tables in it.
    fn table(&mut self, path: &str, property: &'a Value) {
        let (schema, _) = self.resolve(property);
        let is_list = property["type"] == "array";
        let title = if is_list { format!("[[{path}]]") } else { format!("[{path}]") };
        let description = text_of(property, schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            let _ = write!(self.text, "\n## `{title}`\n\n{description}\n");
            for variant in variants {
                let kind = variant["properties"]["type"]["const"].as_str().unwrap();
                let title = format!("{title} type = \"{kind}\"");
                let _ = write!(self.text, "\n### `{title}`\n\n{}\n", text_of(variant, variant));
                let children = self.keys(path, variant);
                assert!(children.is_empty(), "a table in a sink: {children:?}");
            }
            return;
        }
        let _ = write!(self.text, "\n## `{title}`\n\n{description}\n");
        let children = self.keys(path, schema);
        for (path, property) in children {
            if path.ends_with(".limits") {
                let _ = write!(self.text, "\n## `[{path}]`\n\n{}", self.limits);
            } else {
                self.table(&path, property);
            }
        }
    }

    /// Writes the table of keys, and returns the tables that have no section yet.
    fn keys(&mut self, path: &str, schema: &'a Value) -> Vec<Child<'a>> {
        self.text.push_str("\n| key | type | default | description |\n|---|---|---|---|\n");
        let empty = Vec::new();
        let required = schema["required"].as_array().unwrap_or(&empty);
        let mut children = Vec::new();
        for (key, property) in schema["properties"].as_object().unwrap() {
            if key == "type" {
                continue;
            }
            let (resolved, name) = self.resolve(property);
            let below = format!("{path}.{key}");
            let mut text = text_of(property, property);
            let has_section = resolved["properties"].is_object()
                || resolved["properties"].is_null() && resolved["oneOf"][0]["type"] == "object";
            let is_list = property["type"] == "array";
            let kind = if has_section || key == "limits" {
                let name = name.unwrap_or_else(|| key.clone());
                // A definition that already has a section is not described again: this row links to that section.
                let section = self.written.entry(name).or_insert_with(|| {
                    children.push((below.clone(), property));
                    below
                });
                let kind = if is_list { "list of tables" } else { "table" };
                format!("[{kind}](#{})", section.replace('.', ""))
            } else {
                kind_of(resolved)
            };
            let is_required = required.iter().any(|name| name == key);
            let default = match split_default(&text) {
                Some((rest, default)) => {
                    text = rest;
                    default
                }
                None if is_required => "required".into(),
                None => String::new(),
            };
            let values = values_of(resolved);
            let text = [text, values].join(" ");
            let _ = writeln!(self.text, "| `{key}` | {kind} | {default} | {} |", text.trim());
        }
        children
    }

    /// Follows references, optional values and lists. Returns the schema and the name of its definition.
    fn resolve(&self, schema: &'a Value) -> (&'a Value, Option<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.trim_start_matches("#/$defs/");
            return (&self.definitions[name], Some(name.into()));
        }
        if let Some(variants) = schema["anyOf"].as_array() {
            let mut others = variants.iter().filter(|variant| variant["type"] != "null");
            if let (Some(only), None) = (others.next(), others.next()) {
                return self.resolve(only);
            }
        }
        if schema["type"] == "array" && schema["items"]["$ref"].is_string() {
            return self.resolve(&schema["items"]);
        }
        (schema, None)
    }
}

/// Returns the description of a property, or of the type of its value.
fn text_of(property: &Value, schema: &Value) -> String {
    let text = property["description"].as_str().or_else(|| schema["description"].as_str());
    sentence(text.unwrap_or_default())
}

/// Splits a description into the text and the default that follows `Default: `.
fn split_default(text: &str) -> Option<(String, String)> {
    let (rest, default) = text.rsplit_once("Default: ")?;
    let (default, more) = default.split_once(". ").unwrap_or((default, ""));
    let default = default.trim_end_matches('.').to_owned();
    Some((format!("{rest}{more}").trim().to_owned(), default))
}

/// Returns the type of a value, in words.
fn kind_of(schema: &Value) -> String {
    match schema["format"].as_str() {
        Some("duration-with-unit") => return "duration".into(),
        Some("size-with-unit") => return "size".into(),
        _ => {}
    }
    let constants = schema["oneOf"].as_array().filter(|variants| !variants[0]["const"].is_null());
    if constants.is_some() || schema["enum"].is_array() {
        return "string".into();
    }
    if let Some(variants) = schema["oneOf"].as_array() {
        let is_command = variants.iter().any(|variant| variant["type"] == "array");
        let kinds: Vec<_> = variants.iter().map(kind_of).collect();
        return if is_command { "command".into() } else { kinds.join(" or ") };
    }
    let names: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    match names.first().copied().unwrap_or("string") {
        "array" => match schema["items"]["type"].as_str() {
            Some(item) => format!("list of {item}s"),
            None => "list".into(),
        },
        "object" => "table".into(),
        name => name.into(),
    }
}

/// Returns the values of an enumeration.
fn values_of(schema: &Value) -> String {
    let describe = |variant: &Map<String, Value>| {
        let name = variant["const"].as_str()?;
        let text = variant.get("description").and_then(Value::as_str).unwrap_or_default();
        Some(format!("`{name}`: {}", cell(text).trim_end_matches('.')))
    };
    if let Some(variants) = schema["oneOf"].as_array().filter(|v| !v[0]["const"].is_null()) {
        let values: Vec<_> =
            variants.iter().filter_map(|variant| describe(variant.as_object()?)).collect();
        return format!("Values: {}.", values.join("; "));
    }
    match schema["enum"].as_array() {
        Some(names) => {
            let names: Vec<_> =
                names.iter().map(|name| format!("`{}`", name.as_str().unwrap())).collect();
            format!("Values: {}.", names.join(", "))
        }
        None => String::new(),
    }
}

/// Returns the table of limits from the help text of `host run`.
fn limits(help: &str) -> String {
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let lines =
        help.lines().skip_while(|line| !line.starts_with("Limits and their defaults")).skip(1);
    for line in lines.take_while(|line| line.starts_with("  ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_first = line.contains("   ") && words.len() > 2;
        match (is_first, rows.last_mut()) {
            (false, Some((_, _, text))) => *text = format!("{text} {}", line.trim()),
            _ => rows.push((words[0].into(), words[1].into(), words[2..].join(" "))),
        }
    }
    assert!(rows.len() > 15, "{rows:?}");
    let mut text = String::from(
        "Resource limits of the plugin. A plugin that reaches a limit fails or is slowed down, and the message names \
         the limit.\n\n| limit | default | description |\n|---|---|---|\n",
    );
    for (name, default, description) in rows {
        let _ = writeln!(text, "| `{name}` | `{default}` | {} |", cell(&description));
    }
    text
}
