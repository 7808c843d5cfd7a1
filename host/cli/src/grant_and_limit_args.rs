//! Command-line arguments for grants and limits of a plugin.

use clap::Args;
use reloader_plugin_runtime::{LimitError, Limits};
use reloader_policy::{Grant, GrantSyntaxError, Permission};

/// Grants of a plugin.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grants, in addition to those that the settings imply")]
pub(crate) struct GrantArgs {
    /// Allow connections to this host and port; `*.example.com:443` allows all subdomains
    #[arg(long, value_name = "HOST:PORT", value_parser = connect)]
    allow_connect: Vec<Grant>,
    /// Allow HTTP requests to this origin, or to this path and the paths below it
    #[arg(long, value_name = "https://HOST[:PORT][/PATH]", value_parser = http)]
    allow_http: Vec<Grant>,
    /// Allow reads of the file with exactly this path
    #[arg(long, value_name = "PATH", value_parser = read)]
    allow_read: Vec<Grant>,
    /// Allow reads of this environment variable
    #[arg(long, value_name = "NAME", value_parser = env)]
    allow_env: Vec<Grant>,
    /// Do not derive grants from the settings
    #[arg(long)]
    no_implied_grants: bool,
}

impl GrantArgs {
    /// Returns the grants in the type of the plugin runtime.
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

/// Resource limits of a plugin.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Resource limit of the plugin; repeatable; `run --help` lists all limits
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit)]
    limits: Vec<(String, String)>,
}

impl LimitArgs {
    /// Returns the default limits, changed by the `--limit` arguments.
    pub(crate) fn limits(&self) -> Result<Limits, LimitError> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            limits.set(name, value)?;
        }
        Ok(limits)
    }
}

/// Parses and validates the value of `--limit`. clap adds the name of the argument to the error.
fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. `memory=32MiB`")?;
    Limits::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.into(), value.into()))
}

/// Returns a list of all limits with their defaults, for `--help`.
pub(crate) fn limits_help() -> String {
    let limits = Limits::default();
    let lines = limits.list().map(|(name, value, help)| format!("  {name:<16}{value:>8}  {help}"));
    let lines: Vec<_> = lines.collect();
    format!("Limits and their defaults (`--limit NAME=VALUE`):\n{}", lines.join("\n"))
}
