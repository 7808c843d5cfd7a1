//! The settings of TLS, and the files that they name.

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

/// How a source's connections by TLS are secured. Files are PEM, and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsSettings {
    /// The authorities that are trusted, *instead of* those of this machine: who names the authority of
    /// a server does not want it to be vouched for by any of a hundred others. A file can hold several.
    pub ca: Option<PathBuf>,
    /// The certificate that a server is shown which asks for one, and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`.
    pub key: Option<PathBuf>,
    /// The name that servers are asked for, and that their certificates must have, instead of the
    /// host's.
    pub server_name: Option<String>,
}

/// The settings cannot be used: a file, what is wrong with it, and the flag that names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(crate) String);

const CA: &str = "--tls-ca";
const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";

impl TlsSettings {
    /// Reads the files, and says what is wrong with them. It blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.server_name()?;
        let files = self.read()?;
        if self.ca.is_some() {
            self.roots(&files)?;
        }
        self.identity(&files, &crate::tls_config::provider())?;
        Ok(())
    }

    pub(crate) fn server_name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        let Some(name) = &self.server_name else { return Ok(None) };
        ServerName::try_from(name.clone()).map(Some).map_err(|_| {
            TlsError(format!("`{name}` (`--tls-server-name`) is not a host name or an address"))
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

    /// The authorities in the file that names them.
    pub(crate) fn roots(&self, files: &Files) -> Result<RootCertStore, TlsError> {
        let (path, pem) = (self.ca.as_deref(), files.ca.as_deref().unwrap_or_default());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, CA, pem)? {
            roots.add(certificate).map_err(|error| wrong(path, CA, error))?;
        }
        Ok(roots)
    }

    pub(crate) fn identity(
        &self,
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Option<CertifiedKey>, TlsError> {
        let (pem, key) = match (&files.certificate, &files.key) {
            (Some(pem), Some(key)) => (pem, key),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(wrong(self.certificate.as_deref(), CERTIFICATE, NO_KEY));
            }
            (None, Some(_)) => return Err(wrong(self.key.as_deref(), KEY, NO_CERTIFICATE)),
        };
        let chain = certificates(self.certificate.as_deref(), CERTIFICATE, pem)?;
        let path = self.key.as_deref();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            let encrypted = String::from_utf8_lossy(key).contains("ENCRYPTED");
            let why = if encrypted { "the key is encrypted, which is not supported" } else { NONE };
            wrong(path, KEY, why)
        })?;
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(identity) => Ok(Some(identity)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let certificate = self.certificate.as_deref().unwrap_or(Path::new("")).display();
                let why = format!("the key does not fit the certificate in `{certificate}`");
                Err(wrong(path, KEY, why))
            }
            Err(error) => Err(wrong(path, KEY, error)),
        }
    }
}

const NO_KEY: &str = "a certificate needs its key (`--tls-key`)";
const NO_CERTIFICATE: &str = "a key needs its certificate (`--tls-cert`)";
const NONE: &str = "there is no private key in it, or not in PEM form";

fn wrong(path: Option<&Path>, flag: &str, why: impl std::fmt::Display) -> TlsError {
    TlsError(format!("`{}` (`{flag}`): {why}", path.unwrap_or(Path::new("")).display()))
}

fn certificates(
    path: Option<&Path>,
    flag: &str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(path, flag, error))?;
    if found.is_empty() {
        return Err(wrong(path, flag, "there is no certificate in it, or not in PEM form"));
    }
    Ok(found)
}

/// A file with certificates or a key is not longer than this, in bytes.
const FILE_MAX: u64 = 4 << 20;

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, TlsError> {
    let wrong = |error: io::Error| wrong(Some(path), flag, error);
    if !fs::metadata(path).map_err(wrong)?.is_file() {
        return Err(wrong(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path).map_err(wrong)?.take(FILE_MAX + 1);
    file.read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(wrong(io::Error::other("it is larger than 4 MiB")));
    }
    Ok(bytes)
}

/// What was found in the files.
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
