//! `http-api.md`: all paths of the HTTP API, from its OpenAPI description.

use super::{cell, generated, sentence};
use serde_json::Value;
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# HTTP API

All paths of the API of `host run --config … --listen ADDRESS`. The host serves the OpenAPI description at
`/openapi.json`.
Guide: [HTTP API and web page](../operate/http-api.md).

Requests carry `Authorization: Bearer TOKEN` if the host has tokens; paths marked *Public* require none. An error has
the media type `application/problem+json` (RFC 9457). A response of status 401 has the header `WWW-Authenticate`.
If too many responses are buffered for slow clients, a request fails with status 503 and the header `Retry-After` (in
seconds).

";

/// Returns the text of `http-api.md`.
pub(super) fn document(openapi: &str) -> String {
    let description: Value = serde_json::from_str(openapi).unwrap();
    let mut text = format!("{INTRODUCTION}{}", generated());
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            write_operation(&mut text, path, method, operation);
        }
    }
    text.push_str("\n## Types\n");
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        write_type(&mut text, name, schema);
    }
    text
}

fn write_operation(text: &mut String, path: &str, method: &str, operation: &Value) {
    let part = |name: &str| sentence(operation[name].as_str().unwrap_or_default());
    let is_public = !operation["security"].is_null();
    let public = if is_public { "*Public.*" } else { "" };
    let _ = write!(text, "\n## `{} {path}`\n\n", method.to_uppercase());
    let parts = [part("summary"), part("description"), public.into()];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let _ = writeln!(text, "{}", parts.join(" "));
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters {
        text.push_str("\n| parameter | in | type | description |\n|---|---|---|---|\n");
        for parameter in parameters {
            let required = if parameter["required"] == true { ", required" } else { "" };
            let _ = writeln!(
                text,
                "| `{}` | {} | {}{required} | {} |",
                parameter["name"].as_str().unwrap(),
                parameter["in"].as_str().unwrap(),
                kind_of(&parameter["schema"]),
                sentence(parameter["description"].as_str().unwrap_or_default()),
            );
        }
    }
    text.push_str("\n| status | body | description |\n|---|---|---|\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let bodies = response["content"].as_object();
        let bodies = bodies.into_iter().flatten().map(|(media_type, body)| {
            let kind = kind_of(&body["schema"]);
            match kind.as_str() {
                "string" | "object" | "" => format!("`{media_type}`"),
                kind => kind.to_owned(),
            }
        });
        let bodies: Vec<_> = bodies.collect();
        let description = sentence(response["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| {status} | {} | {description} |", bodies.join(", "));
    }
    write_headers(text, operation);
}

/// Writes the response headers that the description of an operation names.
fn write_headers(text: &mut String, operation: &Value) {
    let mut title = "\n| response header | status | description |\n|---|---|---|\n";
    for (status, response) in operation["responses"].as_object().unwrap() {
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let description = sentence(header["description"].as_str().unwrap_or_default());
            let _ = writeln!(text, "{title}| `{name}` | {status} | {description} |");
            title = "";
        }
    }
}

fn write_type(text: &mut String, name: &str, schema: &Value) {
    let description = sentence(schema["description"].as_str().unwrap_or_default());
    let _ = write!(text, "\n### {name}\n\n{description}\n");
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if part["$ref"].is_string() {
            let _ = write!(text, "\nIncludes all members of {}.\n", kind_of(part));
        } else {
            write_members(text, part);
        }
    }
    write_members(text, schema);
}

fn write_members(text: &mut String, schema: &Value) {
    let Some(members) = schema["properties"].as_object() else { return };
    let empty = Vec::new();
    let required = schema["required"].as_array().unwrap_or(&empty);
    text.push_str("\n| member | type | description |\n|---|---|---|\n");
    for (member, schema) in members {
        let optional = if required.iter().any(|name| name == member) { "" } else { ", optional" };
        let description = cell(schema["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| `{member}` | {}{optional} | {description} |", kind_of(schema));
    }
}

/// Returns the type of a value, with a link to a described type.
fn kind_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(variants) = schema[list].as_array() {
            let kinds: Vec<_> = variants.iter().map(kind_of).collect();
            return kinds.join(" or ");
        }
    }
    let names: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    let names: Vec<_> = names
        .into_iter()
        .map(|name| match (name, schema["format"].as_str()) {
            ("array", _) => format!("list of {}", kind_of(&schema["items"])),
            ("string", Some("date-time")) => "time (RFC 3339)".into(),
            _ => name.to_owned(),
        })
        .collect();
    names.join(" or ")
}
