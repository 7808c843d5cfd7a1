//! Bound socket of the API, and its veto against a new configuration that would be unsafe or unusable on it.
//!
//! A new address takes effect at the next start, but new tokens and certificates take effect immediately. So a
//! configuration without credentials must not be applied while the socket is reachable from other machines.

use crate::tls;
use reloader_app::{Config, InvalidSetting, ListenAddress, ListenTls, ReloadVeto};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::watch;

/// TCP socket of the API, which stays bound until the host stops.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) address: SocketAddr,
    pub(crate) uses_tls: bool,
    /// Configuration that the host uses at present.
    pub(crate) config: watch::Receiver<Arc<Config>>,
}

impl ReloadVeto for BoundSocket {
    fn invalid_settings(&self, config: &Config) -> Vec<InvalidSetting> {
        let Self { address, uses_tls, .. } = *self;
        let listen = &config.listen;
        let mut found = Vec::new();
        let accepts_certificates = uses_tls && listen.client_ca().is_some();
        let is_local = ListenAddress::Tcp(address).is_local();
        if !is_local && listen.token.is_empty() && !accepts_certificates {
            let reason = format!(
                "the API listens on {address} until the host is restarted, and {address} is not loopback: a token \
                 (`[[listen.token]]`){} is required; keep one, or restart the host with the new configuration",
                if uses_tls { " or a client CA (`client-ca` in `[listen.tls]`)" } else { "" },
            );
            found.push(InvalidSetting::new(vec!["listen".into()], reason));
        }
        if let Some(settings) = listen.tls.as_ref().filter(|_| uses_tls)
            && self.names_other_files(settings)
            && let Err(reason) = tls::check(settings)
        {
            let path = vec!["listen".into(), "tls".into()];
            found.push(InvalidSetting::new(path, reason));
        }
        found
    }
}

impl BoundSocket {
    /// Returns `true` if `settings` name a file that the configuration in use does not name. The caller then checks all
    /// files. If all names are unchanged, the caller checks no file: a file that has become unusable must not prevent
    /// the removal of a token or of `client-ca`.
    fn names_other_files(&self, settings: &ListenTls) -> bool {
        let config = self.config.borrow();
        let Some(present) = &config.listen.tls else { return true };
        let other_ca = settings.client_ca.is_some() && settings.client_ca != present.client_ca;
        other_ca || settings.cert != present.cert || settings.key != present.key
    }
}
