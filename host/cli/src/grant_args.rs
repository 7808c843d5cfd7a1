//! What an operator allows a plugin, on the command line.

use clap::Args;
use reloader_plugin_runtime::{LimitError, Limits};
use reloader_policy::{Grant, GrantSyntaxError, Permission};

/// The grants, for each command that takes a plugin and its settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the plugin may reach, besides what its settings name")]
pub(crate) struct PermissionArgs {
    /// Connections to this host and port; `*.example.com:443` for all below a domain
    #[arg(long, value_name = "HOST:PORT", value_parser = connect)]
    allow_connect: Vec<Grant>,
    /// Requests to this origin, or to this path of it and those below
    #[arg(long, value_name = "https://HOST[:PORT][/PATH]", value_parser = http)]
    allow_http: Vec<Grant>,
    /// Reading this file, by the very path that the plugin asks for
    #[arg(long, value_name = "PATH", value_parser = read)]
    allow_read: Vec<Grant>,
    /// This variable of the host's environment
    #[arg(long, value_name = "NAME", value_parser = env)]
    allow_env: Vec<Grant>,
    /// Grant nothing by the settings: only what is allowed here
    #[arg(long)]
    no_implied_grants: bool,
}

impl PermissionArgs {
    pub(crate) fn permission(&self) -> Permission {
        let grants = [&self.allow_connect, &self.allow_http, &self.allow_read, &self.allow_env];
        Permission {
            implied: !self.no_implied_grants,
            grants: grants.into_iter().flatten().cloned().collect(),
        }
    }
}

fn connect(text: &str) -> Result<Grant, GrantSyntaxError> {
    Grant::connect(text)
}

fn http(text: &str) -> Result<Grant, GrantSyntaxError> {
    Grant::http(text)
}

fn read(text: &str) -> Result<Grant, GrantSyntaxError> {
    Grant::read(text)
}

fn env(text: &str) -> Result<Grant, GrantSyntaxError> {
    Grant::env(text)
}

/// The limits, for each command that loads a plugin.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// How much the plugin may use; `host run --help` lists the limits
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit)]
    limits: Vec<(String, String)>,
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Result<Limits, LimitError> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            limits.set(name, value)?;
        }
        Ok(limits)
    }
}

/// Tried at once, so that the error names the argument.
fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. `memory=32MiB`")?;
    Limits::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.into(), value.into()))
}

/// All limits with their defaults, for `--help`.
pub(crate) fn limits_help() -> String {
    let limits = Limits::default();
    let lines = limits.list().map(|(name, value, what)| format!("  {name:<16}{value:>8}  {what}"));
    let lines: Vec<_> = lines.collect();
    format!("Limits, with their defaults (`--limit NAME=VALUE`):\n{}", lines.join("\n"))
}
