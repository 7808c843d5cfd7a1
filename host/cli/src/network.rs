//! The arguments that say how a source reaches what it is granted.

use super::Failed;
use clap::Args;
use reloader_net::TlsSettings;
use reloader_plugin_runtime::SourceBuilder;
use reloader_policy::AddressRange;
use std::path::PathBuf;
use tokio::task::spawn_blocking;

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Let names in the settings stand for this address, one of this network, or any private one
    /// (names may stand for public addresses only); can be given several times
    #[arg(long = "allow-address", value_name = "ADDRESS|CIDR|private")]
    allowed: Vec<AddressRange>,
    /// Trust the authorities in this file (PEM) instead of this machine's
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Show this certificate (PEM) to servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of `--tls-cert` (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Expect this name in servers' certificates, instead of the host's
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl NetworkArgs {
    /// Tells a source of it, once the files have been looked at.
    pub(crate) async fn apply(&self, mut source: SourceBuilder) -> Result<SourceBuilder, Failed> {
        let tls = TlsSettings {
            ca: self.tls_ca.clone(),
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: self.tls_server_name.clone(),
        };
        let checked = tls.clone();
        let check = spawn_blocking(move || checked.check()).await.map_err(Failed::runtime)?;
        check.map_err(Failed::usage)?;
        for range in &self.allowed {
            source = source.allow_address(*range);
        }
        Ok(source.tls(tls))
    }
}
