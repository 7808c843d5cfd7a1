//! `host inspect`.

use super::{Common, Failed, print, runtime, table};
use crate::grant_args::{LimitArgs, PermissionArgs};
use clap::Args;
use reloader_plugin_runtime::{ConfigureError, Plugin};
use reloader_policy::{
    Asked, Decision,
    plugin_settings::{kind, parse_pairs},
    schema_annotations::Place,
};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A bundled plugin's name, or the path of a component
    #[arg(value_name = "NAME|PATH.wasm")]
    plugin: String,
    /// With these settings: show what the plugin would ask for, what is granted and what is missing
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // Below a heading of their own; so they come last.
    #[command(flatten)]
    permission: PermissionArgs,
}

impl InspectArgs {
    pub(crate) async fn execute(self, common: &Common) -> Result<(), Failed> {
        let runtime = runtime(common, self.limits.limits().map_err(Failed::usage)?)?;
        let plugin = runtime.load(&self.plugin).await.map_err(Failed::usage)?;
        let decision = if self.settings.is_empty() { None } else { Some(self.decide(&plugin)?) };
        let text = if self.json { as_json(&plugin, decision) } else { as_text(&plugin, decision) };
        print(text.as_bytes())
    }

    fn decide(&self, plugin: &Plugin) -> Result<Decision, Failed> {
        let pairs = self.settings.iter().map(String::as_str);
        let settings = parse_pairs(&plugin.description().settings, pairs)
            .map_err(|errors| Failed::usage(ConfigureError::Settings(errors)))?;
        plugin.decide(settings, self.permission.permission()).map_err(Failed::usage)
    }
}

/// The settings in their order: those that are required first.
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

/// What a setting's value grants, in words.
fn reaches(place: &Place<'_>) -> Option<String> {
    if let Some(schemes) = place.schemes() {
        let urls: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://")).collect();
        return Some(format!("the host and port of its URL ({})", urls.join(", ")));
    }
    place.is_read().then(|| "reading this very file".into())
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
    let (all, settings) = (Place::all(&description.settings), settings(plugin));
    if settings.is_empty() {
        out.push_str("\nsettings: it does not describe any\n");
    } else {
        let mut table = table();
        table.set_header(["setting", "type", "default", "what it is"]);
        for (name, property, required) in &settings {
            let default = match (required, property.get("default")) {
                (true, _) => "(required)".into(),
                (false, Some(default)) => default.to_string(),
                (false, None) => String::new(),
            };
            let place = all.member(name);
            let help = place.says("description").and_then(Value::as_str).unwrap_or_default();
            let secret = if place.is_secret() { " (never shown)" } else { "" };
            table.add_row([name.as_str(), &kind(&place), &default, &format!("{help}{secret}")]);
        }
        let _ = write!(out, "\n{}\n", table.trim_fmt());
    }
    out.push_str("\nmay ask to reach, through\n");
    let mut any = false;
    for (name, ..) in &settings {
        if let Some(what) = reaches(&all.member(name)) {
            let _ = writeln!(out, "  {name:<11} {what}");
            any = true;
        }
    }
    if !any {
        out.push_str("  nothing\n");
    }
    if let Some(decision) = &decision {
        decided(&mut out, decision);
    }
    // Every program in Rust imports these; behind them there is nothing.
    let (empty, imports): (Vec<_>, Vec<_>) =
        world.imports.iter().partition(|import| import.starts_with("wasi:cli/"));
    out.push_str("\nimports\n");
    for import in imports {
        let _ = writeln!(out, "  {import}");
    }
    if !empty.is_empty() {
        out.push_str(
            "  wasi:cli (there, but empty: no arguments, no input, no variables unless allowed)\n",
        );
    }
    out
}

/// What is asked for, granted and missing.
fn decided(out: &mut String, decision: &Decision) {
    out.push_str("\nwith these settings it asks to\n");
    for asked in &decision.asked {
        let verdict = if decision.granted.allow(&asked.access) { "granted" } else { "missing" };
        let (what, setting) = (&asked.shown, &asked.setting);
        let _ = writeln!(out, "  {verdict:<12}{what} (setting `{setting}`)");
    }
    if decision.asked.is_empty() {
        out.push_str("  reach nothing\n");
    }
    out.push_str("\nand may reach what these flags allow\n");
    for flag in &decision.flags {
        let _ = writeln!(out, "  {flag}");
    }
    if decision.flags.is_empty() {
        out.push_str("  nothing\n");
    }
    let mut missing = decision.missing().peekable();
    if missing.peek().is_some() {
        out.push_str("\nwhat is missing would be granted by\n");
        for asked in missing {
            let _ = writeln!(out, "  {}", asked.flag);
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
        let flags = |asked: &Asked| {
            json!({
                "setting": asked.setting,
                "access": asked.shown,
                "flag": asked.flag,
            })
        };
        value["asked"] = decision.asked.iter().map(flags).collect();
        value["granted"] = decision.flags.clone().into();
        value["missing"] = decision.missing().map(flags).collect();
    }
    format!("{value:#}\n")
}
