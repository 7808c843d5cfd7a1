//! TLS, by rustls: the system's certificate authorities, loaded when they are first needed.

use rustls::{ClientConfig, RootCertStore};
use std::{
    io,
    sync::{Arc, OnceLock},
};

/// The settings of every TLS connection, without protocol negotiation.
///
/// # Errors
///
/// When the system has no certificate authorities.
pub(super) fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG.get_or_init(load).clone().map_err(io::Error::other)
}

/// For a client that speaks plain HTTP only: no server would be trusted.
pub(super) fn trusting_nobody() -> io::Result<ClientConfig> {
    with_roots(RootCertStore::empty()).map_err(io::Error::other)
}

fn load() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!(
            "this machine has no certificate authorities to verify a server with{why}"
        ));
    }
    with_roots(roots).map(Arc::new)
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
