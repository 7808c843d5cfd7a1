//! PEM reader: certificates and private keys.

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// Reason why PEM text has no usable certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The text is not valid PEM.
    #[error("{0}")]
    Invalid(pem::Error),
    /// The text contains no certificate.
    #[error("no certificate in PEM format found")]
    NoCertificate,
    /// The text contains no private key.
    #[error("no private key in PEM format found")]
    NoPrivateKey,
    /// The private key is encrypted.
    #[error("encrypted private keys are not supported; use an unencrypted one")]
    EncryptedPrivateKey,
}

/// Returns all certificates, at least one.
///
/// # Errors
///
/// [`PemError::Invalid`] or [`PemError::NoCertificate`].
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(PemError::Invalid)?;
    if all.is_empty() { Err(PemError::NoCertificate) } else { Ok(all) }
}

/// Returns the first private key.
///
/// # Errors
///
/// [`PemError::NoPrivateKey`] or [`PemError::EncryptedPrivateKey`].
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        let is_encrypted = String::from_utf8_lossy(text).contains("ENCRYPTED");
        if is_encrypted { PemError::EncryptedPrivateKey } else { PemError::NoPrivateKey }
    })
}
