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
    /// The PEM text of the private key is damaged. The message omits the details, which may contain parts of the key.
    #[error("the private key in PEM format is damaged")]
    DamagedPrivateKey,
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
/// [`PemError::NoPrivateKey`], [`PemError::DamagedPrivateKey`] or [`PemError::EncryptedPrivateKey`].
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let is_encrypted = String::from_utf8_lossy(text).contains("ENCRYPTED");
        match error {
            _ if is_encrypted => PemError::EncryptedPrivateKey,
            pem::Error::NoItemsFound => PemError::NoPrivateKey,
            _ => PemError::DamagedPrivateKey,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> PemError {
        private_key(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn missing_private_key_is_reported() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "no PEM text", certificate] {
            assert!(matches!(error(text), PemError::NoPrivateKey), "{text}");
        }
    }

    #[test]
    fn damaged_private_key_is_reported_without_its_content() {
        for text in [
            "-----BEGIN PRIVATE KEY-----\nSECRET!*\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\nSECRET\n",
            "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END EC PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY SECRET\n",
        ] {
            let error = error(text);
            assert!(matches!(error, PemError::DamagedPrivateKey), "{text}: {error}");
            assert_eq!(error.to_string(), "the private key in PEM format is damaged");
        }
    }

    #[test]
    fn encrypted_private_key_is_reported() {
        let pkcs8 =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n\
                           -----END RSA PRIVATE KEY-----\n";
        for text in [pkcs8, traditional] {
            assert!(matches!(error(text), PemError::EncryptedPrivateKey), "{text}");
        }
    }
}
