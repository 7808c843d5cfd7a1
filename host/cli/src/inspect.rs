//! `host inspect`: shows the description, settings and grants of a plugin.

use crate::{
    cli_error::CliError,
    grant_and_limit_args::{GrantArgs, LimitArgs},
    log_and_cache_args::CommonArgs,
    start_plugin_host::{load_error, start_plugin_host},
    stdout::{print, table},
};
use clap::Args;
use reloader_plugin_runtime::{ConfigureError, Plugin};
use reloader_policy::{
    Decision, RequestedAccess,
    plugin_settings::{expected_type, parse_pairs},
    schema_annotations::Place,
};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Name of a bundled plugin, or path of a component
    #[arg(value_name = "NAME|PATH.wasm")]
    plugin: String,
    /// Setting of the plugin; repeatable. With settings, the output also lists the accesses that the settings
    /// require, and whether each access is granted
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // The grants have a help heading of their own, so they come last.
    #[command(flatten)]
    grants: GrantArgs,
}

impl InspectArgs {
    pub(crate) async fn execute(self, common: &CommonArgs) -> Result<(), CliError> {
        let runtime = start_plugin_host(common, self.limits.limits().map_err(CliError::usage)?)?;
        let plugin = runtime.load(&self.plugin).await.map_err(|error| load_error(&error))?;
        let decision = if self.settings.is_empty() { None } else { Some(self.decide(&plugin)?) };
        let text = if self.json { as_json(&plugin, decision) } else { as_text(&plugin, decision) };
        print(text.as_bytes())
    }

    fn decide(&self, plugin: &Plugin) -> Result<Decision, CliError> {
        let pairs = self.settings.iter().map(String::as_str);
        let settings = parse_pairs(&plugin.description().settings, pairs)
            .map_err(|errors| CliError::usage(ConfigureError::Settings(errors)))?;
        plugin.decide(settings, self.grants.permission()).map_err(CliError::usage)
    }
}

/// Returns the settings: name, schema, and whether the setting is required. Required settings come first.
fn settings(plugin: &Plugin) -> Vec<(&String, &Value, bool)> {
    let schema = &plugin.description().settings;
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name))
    };
    let mut settings: Vec<_> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| (name, property, required(name)))
        .collect();
    settings.sort_by_key(|(_, _, required)| !required);
    settings
}

/// Describes the access that is granted by setting a value, for example to the host of a URL; `None` if the setting
/// grants no access.
fn implied_access(place: &Place<'_>) -> Option<String> {
    if let Some(schemes) = place.schemes() {
        let urls: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://")).collect();
        return Some(format!("connect to the host and port of the URL ({})", urls.join(", ")));
    }
    place.is_read().then(|| "read the file with this path".into())
}

fn as_text(plugin: &Plugin, decision: Option<Decision>) -> String {
    let (description, world) = (plugin.description(), plugin.world());
    let mut out = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<12}{value}");
    };
    let unknown = "unknown";
    row("name", &description.name);
    row("about", description.about.as_deref().unwrap_or("-"));
    row("version", description.version.as_deref().unwrap_or(unknown));
    row("sdk", description.sdk.as_deref().unwrap_or(unknown));
    row("interface", &format!("reloader:plugin@{}", world.interface));
    row("world", world.name());
    row("size", &format!("{} KiB", description.size.div_ceil(1024)));
    row("sha256", &description.digest);
    let (all, settings) = (Place::root(&description.settings), settings(plugin));
    if settings.is_empty() {
        out.push_str("\nsettings: none\n");
    } else {
        let mut table = table();
        table.set_header(["setting", "type", "default", "description"]);
        for (name, property, required) in &settings {
            let default = match (required, property.get("default")) {
                (true, _) => "(required)".into(),
                (false, Some(default)) => default.to_string(),
                (false, None) => String::new(),
            };
            let place = all.member(name);
            let help = place.keyword("description").and_then(Value::as_str).unwrap_or_default();
            let secret = if place.is_secret() { " (secret)" } else { "" };
            table.add_row([
                name.as_str(),
                &expected_type(&place),
                &default,
                &format!("{help}{secret}"),
            ]);
        }
        let _ = write!(out, "\n{}\n", table.trim_fmt());
    }
    out.push_str("\naccess implied by settings\n");
    let mut any = false;
    for (name, ..) in &settings {
        if let Some(access) = implied_access(&all.member(name)) {
            let _ = writeln!(out, "  {name:<11} {access}");
            any = true;
        }
    }
    if !any {
        out.push_str("  none\n");
    }
    if let Some(decision) = &decision {
        write_decision(&mut out, decision);
    }
    // Every plugin written in Rust imports the interfaces of `wasi:cli`. They show nothing about the plugin, so the
    // output has a single line for all of them.
    let (empty, imports): (Vec<_>, Vec<_>) =
        world.imports.iter().partition(|import| import.starts_with("wasi:cli/"));
    out.push_str("\nimports\n");
    for import in imports {
        let _ = writeln!(out, "  {import}");
    }
    if !empty.is_empty() {
        out.push_str(
            "  wasi:cli (empty: no arguments, no input, only granted environment variables)\n",
        );
    }
    out
}

/// Writes the accesses that the settings require, whether they are granted, and the grants in effect.
fn write_decision(out: &mut String, decision: &Decision) {
    out.push_str("\nrequired access with these settings\n");
    for requested in &decision.requested {
        let decided = if decision.granted.allow(&requested.access) { "granted" } else { "missing" };
        let (access, setting) = (&requested.shown, &requested.setting);
        let _ = writeln!(out, "  {decided:<12}{access} (setting `{setting}`)");
    }
    if decision.requested.is_empty() {
        out.push_str("  none\n");
    }
    out.push_str("\ngrants in effect\n");
    for flag in &decision.flags {
        let _ = writeln!(out, "  {flag}");
    }
    if decision.flags.is_empty() {
        out.push_str("  none\n");
    }
    let mut missing = decision.missing().peekable();
    if missing.peek().is_some() {
        out.push_str("\nmissing grants\n");
        for requested in missing {
            let _ = writeln!(out, "  {}", requested.flag);
        }
    }
}

fn as_json(plugin: &Plugin, decision: Option<Decision>) -> String {
    let (description, world) = (plugin.description(), plugin.world());
    let mut value = json!({
        "name": description.name,
        "about": description.about,
        "version": description.version,
        "sdk": description.sdk,
        "interface": format!("reloader:plugin@{}", world.interface),
        "world": world.name(),
        "size": description.size,
        "sha256": description.digest,
        "settings": description.settings,
        "imports": world.imports,
    });
    if let Some(decision) = &decision {
        let flags = |requested: &RequestedAccess| {
            json!({
                "setting": requested.setting,
                "access": requested.shown,
                "flag": requested.flag,
            })
        };
        value["requested"] = decision.requested.iter().map(flags).collect();
        value["granted"] = decision.flags.clone().into();
        value["missing"] = decision.missing().map(flags).collect();
    }
    format!("{value:#}\n")
}
