//! Command-line arguments for the egress of a source: allowed addresses and TLS.

use crate::{blocking_operation_pool::POOL, cli_error::CliError};
use clap::Args;
use reloader_net::TlsSettings;
use reloader_plugin_runtime::SourceBuilder;
use reloader_policy::AddressRange;
use std::path::PathBuf;

/// Address policy and TLS settings of a source.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Also allow host names to resolve to this address, to addresses in this network, or (`private`) to any private
    /// address; repeatable. Public addresses are always allowed, and loopback addresses for the name `localhost`
    #[arg(long = "allow-address", value_name = "ADDRESS|CIDR|private")]
    allowed: Vec<AddressRange>,
    /// CA certificates to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Client certificate for servers that request one (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of `--tls-cert` (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Server name to verify in the server's certificate, instead of the host name in the settings
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl NetworkArgs {
    /// Checks the TLS files and applies the settings to a source.
    pub(crate) async fn apply(&self, mut source: SourceBuilder) -> Result<SourceBuilder, CliError> {
        let tls = TlsSettings {
            ca: self.tls_ca.clone(),
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: self.tls_server_name.clone(),
        };
        let checked = tls.clone();
        let check = POOL.spawn(move || checked.check()).await.map_err(CliError::runtime)?;
        check.map_err(CliError::usage)?;
        for range in &self.allowed {
            source = source.allow_address(*range);
        }
        Ok(source.tls(tls))
    }
}
