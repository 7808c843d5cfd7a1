//! TLS settings of a source, and the certificate and key files that they name.

use crate::{crypto_provider::crypto_provider, file_reads::read_file, pem};
use reloader_fs_watch::RegularFileError;
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// TLS settings of a source. The files are in PEM format, and are read again before each connection and HTTPS request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsSettings {
    /// File of trusted certificate authorities. They replace those of the system. A file can contain several.
    pub ca: Option<PathBuf>,
    /// File of the client certificate, for servers that request one, followed by intermediate certificates.
    pub certificate: Option<PathBuf>,
    /// File of the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// Name to send to the server (SNI) and to expect in its certificate, instead of the host name.
    pub server_name: Option<String>,
}

/// Invalid TLS settings. The message names the file and its flag, and states the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(crate) String);

const CA: &str = "--tls-ca";
const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";

impl TlsSettings {
    /// Reads and validates the files. Blocks.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] for the first invalid setting or file.
    pub fn check(&self) -> Result<(), TlsError> {
        self.server_name()?;
        let files = self.read()?;
        if self.ca.is_some() {
            self.roots(&files)?;
        }
        self.identity(&files, &crypto_provider())?;
        Ok(())
    }

    pub(crate) fn server_name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        let Some(name) = &self.server_name else { return Ok(None) };
        ServerName::try_from(name.clone()).map(Some).map_err(|_| {
            TlsError(format!("`{name}` (`--tls-server-name`) is not a host name or an IP address"))
        })
    }

    pub(crate) fn has_files(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some() || self.key.is_some()
    }

    pub(crate) fn read(&self) -> Result<Files, TlsError> {
        let read =
            |file: &Option<PathBuf>, flag| file.as_deref().map(|f| read(f, flag)).transpose();
        let ca = read(&self.ca, CA)?;
        let certificate = read(&self.certificate, CERTIFICATE)?;
        Ok(Files { ca, certificate, key: read(&self.key, KEY)? })
    }

    /// Returns the certificate authorities of the `ca` file.
    pub(crate) fn roots(&self, files: &Files) -> Result<RootCertStore, TlsError> {
        let (path, pem) = (self.ca.as_deref(), files.ca.as_deref().unwrap_or_default());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, CA, pem)? {
            roots.add(certificate).map_err(|error| invalid(path, CA, error))?;
        }
        Ok(roots)
    }

    /// Returns the client certificate and its key, if the settings name them.
    pub(crate) fn identity(
        &self,
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Option<CertifiedKey>, TlsError> {
        let (pem, key) = match (&files.certificate, &files.key) {
            (Some(pem), Some(key)) => (pem, key),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(invalid(self.certificate.as_deref(), CERTIFICATE, KEY_MISSING));
            }
            (None, Some(_)) => return Err(invalid(self.key.as_deref(), KEY, CERTIFICATE_MISSING)),
        };
        let chain = certificates(self.certificate.as_deref(), CERTIFICATE, pem)?;
        let path = self.key.as_deref();
        let key = pem::private_key(key).map_err(|error| invalid(path, KEY, error))?;
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(identity) => Ok(Some(identity)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let certificate = self.certificate.as_deref().unwrap_or(Path::new("")).display();
                let reason = format!("the key does not match the certificate in `{certificate}`");
                Err(invalid(path, KEY, reason))
            }
            Err(error) => Err(invalid(path, KEY, error)),
        }
    }
}

const KEY_MISSING: &str = "a client certificate requires its private key; hint: set `--tls-key`";
const CERTIFICATE_MISSING: &str = "a private key requires its certificate; hint: set `--tls-cert`";

fn invalid(path: Option<&Path>, flag: &str, reason: impl std::fmt::Display) -> TlsError {
    TlsError(format!("`{}` (`{flag}`): {reason}", path.unwrap_or(Path::new("")).display()))
}

fn certificates(
    path: Option<&Path>,
    flag: &str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(text).map_err(|error| invalid(path, flag, error))
}

/// Maximum size of a certificate or key file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, TlsError> {
    read_file(path, MAX_FILE_BYTES).map_err(|error| match error {
        RegularFileError::TooLarge { .. } => invalid(Some(path), flag, "larger than 4 MiB"),
        other => invalid(Some(path), flag, other),
    })
}

/// Contents of the files that the TLS settings name.
pub(crate) struct Files {
    ca: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Files {
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for file in [&self.ca, &self.certificate, &self.key] {
            let bytes = file.as_deref().unwrap_or_default();
            digest.update(bytes.len().to_le_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }
}
