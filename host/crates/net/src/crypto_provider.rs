//! Cryptography provider of rustls for all TLS connections.

use rustls::crypto::{CryptoProvider, ring};
use std::sync::Arc;

/// Returns the cryptography that all TLS connections of the host use.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
