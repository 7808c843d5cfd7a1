//! `host plugins`: lists and exports bundled plugins.

use crate::{
    cli_error::CliError,
    stdout::{print, table},
};
use clap::{Args, Subcommand};
use reloader_plugin_runtime::{Bundled, Description, bundled};
use serde_json::json;
use std::{fs, path::PathBuf};

#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum PluginsCommand {
    /// Export a bundled plugin to a file
    Export {
        /// Name of the plugin
        name: String,
        /// Output file; `-` for standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl PluginsArgs {
    pub(crate) fn execute(self) -> Result<(), CliError> {
        match self.command {
            None if self.json => print(format!("{:#}\n", list_json()?).as_bytes()),
            None => print(list()?.as_bytes()),
            Some(PluginsCommand::Export { name, output }) => {
                let plugin = bundled().find(|plugin| plugin.name == name).ok_or_else(|| {
                    let names: Vec<_> = bundled().map(|plugin| plugin.name).collect();
                    let names = names.join(", ");
                    CliError::Usage(format!("unknown bundled plugin `{name}`; available: {names}"))
                })?;
                if output.as_os_str() == "-" {
                    return print(plugin.component);
                }
                fs::write(&output, plugin.component).map_err(|error| {
                    CliError::Runtime(format!("cannot write `{}`: {error}", output.display()))
                })
            }
        }
    }
}

/// Returns the bundled plugins with their descriptions.
fn described() -> Result<Vec<(Bundled, Description)>, CliError> {
    bundled()
        .map(|plugin| {
            let description = Description::read(plugin.component, plugin.name);
            Ok((plugin, description.map_err(CliError::runtime)?))
        })
        .collect()
}

fn list() -> Result<String, CliError> {
    let mut table = table();
    table.set_header(["plugin", "version", "description"]);
    for (plugin, description) in described()? {
        table.add_row([
            plugin.name,
            description.version.as_deref().unwrap_or("-"),
            description.about.as_deref().unwrap_or("-"),
        ]);
    }
    Ok(format!("{}\n", table.trim_fmt()))
}

fn list_json() -> Result<serde_json::Value, CliError> {
    let plugins: Vec<_> = described()?
        .into_iter()
        .map(|(plugin, description)| {
            json!({
                "name": plugin.name,
                "version": description.version,
                "about": description.about,
                "size": description.size,
                "sha256": description.digest,
            })
        })
        .collect();
    Ok(plugins.into())
}
