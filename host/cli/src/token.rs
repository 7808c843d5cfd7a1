//! `host token`: a token for the API, and what to write of it into the configuration.

use super::{Failed, print};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use reloader_app::Scope;
use reloader_util::digest::Digest;
use std::io::{IsTerminal, Write as _, stderr, stdout};

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Whose it is, for the log
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is good for
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// A source that it is good for; can be given several times [default: all]
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
}

impl TokenArgs {
    /// The token goes to standard output, alone; what belongs into the configuration to standard error,
    /// unless both are the same terminal.
    pub(crate) fn execute(self) -> Result<(), Failed> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(Failed::runtime)?;
        let token = format!("rlt_{}", URL_SAFE_NO_PAD.encode(bytes));
        let mut table = toml::Table::new();
        table.insert("name".into(), self.name.into());
        table.insert("sha256".into(), Digest::of(token.as_bytes()).to_string().into());
        let scope = serde_json::to_value(self.scope).map_err(Failed::runtime)?;
        table.insert("scope".into(), scope.as_str().unwrap_or_default().into());
        if !self.sources.is_empty() {
            table.insert("sources".into(), self.sources.into());
        }
        let said = format!(
            "# It is shown only now. This belongs into the configuration:\n[[listen.token]]\n{table}"
        );
        let gap = if stdout().is_terminal() && stderr().is_terminal() { "\n" } else { "" };
        print(format!("{token}\n").as_bytes())?;
        write!(stderr().lock(), "{gap}{said}").map_err(Failed::runtime)
    }
}
