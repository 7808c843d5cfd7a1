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
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        _ if is_first_private_key_encrypted(text) => PemError::EncryptedPrivateKey,
        pem::Error::NoItemsFound => PemError::NoPrivateKey,
        _ => PemError::DamagedPrivateKey,
    })
}

/// Returns whether the first private key in the text is encrypted: its label (PKCS #8) or the header `Proc-Type`, which
/// follows the label (RFC 1421), says so.
fn is_first_private_key_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let label = lines.find_map(|line| {
        let label = line.strip_prefix("-----BEGIN ")?.trim_end().strip_suffix("-----")?;
        label.strip_suffix("PRIVATE KEY")
    });
    let header = lines.next().and_then(|line| line.strip_prefix("Proc-Type:"));
    label == Some("ENCRYPTED ") || header.is_some_and(|value| value.contains("ENCRYPTED"))
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

    /// The word in a comment, in the base64 text, or in a later key does not make a damaged key an encrypted one.
    #[test]
    fn word_outside_of_headers_does_not_mean_encryption() {
        let damaged = "-----BEGIN PRIVATE KEY-----\nENCRYPTED\n-----END PRIVATE KEY-----\n";
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for text in [
            damaged.to_owned(),
            format!("# not ENCRYPTED\n{damaged}"),
            format!("Proc-Type: 4,ENCRYPTED\n{damaged}"),
            format!("{damaged}{encrypted}"),
        ] {
            assert!(matches!(error(&text), PemError::DamagedPrivateKey), "{text}");
        }
        assert!(matches!(error("# ENCRYPTED\n"), PemError::NoPrivateKey));
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
