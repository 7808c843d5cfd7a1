//! `host token`: creates a token for the API, and the configuration that accepts it.

use crate::{cli_error::CliError, stdout::print};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use reloader_app::Scope;
use reloader_util::digest::Digest;
use std::io::{IsTerminal, Write as _, stderr, stdout};

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of the token in the configuration
    #[arg(value_name = "NAME")]
    name: String,
    /// Permissions of the token
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// Source that the token may access; repeatable [default: all sources]
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
}

impl TokenArgs {
    /// Prints the token to standard output and the configuration to standard error. If both are terminals, prints an
    /// empty line between the token and the configuration.
    pub(crate) fn execute(self) -> Result<(), CliError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(CliError::runtime)?;
        let token = format!("rlt_{}", URL_SAFE_NO_PAD.encode(bytes));
        let mut table = toml::Table::new();
        table.insert("name".into(), self.name.into());
        let scope = serde_json::to_value(self.scope).map_err(CliError::runtime)?;
        table.insert("scope".into(), scope.as_str().unwrap_or_default().into());
        table.insert("sha256".into(), Digest::of(token.as_bytes()).to_string().into());
        if !self.sources.is_empty() {
            table.insert("sources".into(), self.sources.into());
        }
        let configuration = format!(
            "# Save the token now, it cannot be shown again. Add this to the configuration:\n\
             [[listen.token]]\n{table}"
        );
        let gap = if stdout().is_terminal() && stderr().is_terminal() { "\n" } else { "" };
        print(format!("{token}\n").as_bytes())?;
        write!(stderr().lock(), "{gap}{configuration}").map_err(CliError::runtime)
    }
}
