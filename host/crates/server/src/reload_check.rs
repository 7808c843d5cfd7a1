//! Rejects a new configuration that the bound socket cannot be served with: the address takes effect at the
//! next start, and tokens and certificates at once.

use crate::tls;
use reloader_app::{Config, ListenAddress, ReloadCheck};
use std::net::SocketAddr;

/// A TCP socket that is bound until the host ends.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) address: SocketAddr,
    pub(crate) uses_tls: bool,
}

impl ReloadCheck for BoundSocket {
    fn check(&self, config: &Config) -> Vec<(Vec<String>, String)> {
        let Self { address, uses_tls } = *self;
        let listen = &config.listen;
        let mut found = Vec::new();
        let accepts_certificates = uses_tls && listen.client_ca().is_some();
        let is_local = ListenAddress::Tcp(address).is_local();
        if !is_local && listen.token.is_empty() && !accepts_certificates {
            let reason = format!(
                "the API is served at `{address}`, which other machines can reach, until the host is \
                 restarted; this needs a token (`[[listen.token]]`){}: keep one, or restart the host with \
                 the new configuration",
                if uses_tls {
                    " or client certificates (`client-ca` of `[listen.tls]`)"
                } else {
                    ""
                },
            );
            found.push((vec!["listen".into()], reason));
        }
        if let Some(settings) = listen.tls.as_ref().filter(|_| uses_tls)
            && let Err(reason) = tls::check(settings)
        {
            found.push((vec!["listen".into(), "tls".into()], reason));
        }
        found
    }
}
