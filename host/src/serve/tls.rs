//! HTTPS, with certificates that are read again when they change.

use crate::app::ListenTls;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use tracing::{error, info};

/// The files are looked at so often at most, and only while somebody connects.
const LOOK: Duration = Duration::from_secs(1);

/// What it takes to serve HTTPS.
pub(super) struct Tls {
    settings: ListenTls,
    known: Mutex<Known>,
}

struct Known {
    looked: Instant,
    files: Files,
    config: Arc<ServerConfig>,
    /// What is wrong with the files as they are now, if something is.
    wrong: Option<String>,
}

/// What the files say.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files. It blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// The file, and what is wrong with it.
    pub(super) fn new(settings: ListenTls) -> Result<Self, String> {
        let files = Files::read(&settings)?;
        let config = files.config(&settings)?;
        let known = Known { looked: Instant::now(), files, config, wrong: None };
        Ok(Self { settings, known: Mutex::new(known) })
    }

    /// What it takes now. Files that cannot be used change nothing.
    pub(super) async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        {
            let mut known = self.lock();
            if known.looked.elapsed() < LOOK {
                return Arc::clone(&known.config);
            }
            known.looked = Instant::now();
        }
        let tls = Arc::clone(self);
        let looked = spawn_blocking(move || tls.look()).await;
        looked.unwrap_or_else(|_| Arc::clone(&self.lock().config))
    }

    fn look(&self) -> Arc<ServerConfig> {
        let new = Files::read(&self.settings);
        let mut known = self.lock();
        let made = match new {
            Ok(files) if files == known.files => {
                known.wrong = None;
                return Arc::clone(&known.config);
            }
            Ok(files) => files.config(&self.settings).map(|config| (files, config)),
            Err(why) => Err(why),
        };
        match made {
            Ok((files, config)) => {
                info!("the certificate that is served has changed");
                (known.files, known.config, known.wrong) = (files, config, None);
            }
            Err(why) => {
                if known.wrong.as_ref() != Some(&why) {
                    error!("the certificate that is served stays as it was: {why}");
                }
                known.wrong = Some(why);
            }
        }
        Arc::clone(&known.config)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(path: &Path, key: &str, why: impl std::fmt::Display) -> String {
    format!("`{}` (`{key}` of `[listen.tls]`): {why}", path.display())
}

impl Files {
    fn read(settings: &ListenTls) -> Result<Self, String> {
        let read = |path: &Path, key| fs::read(path).map_err(|error| wrong(path, key, error));
        Ok(Self {
            cert: read(&settings.cert, "cert")?,
            key: read(&settings.key, "key")?,
            client_ca: settings.client_ca.as_deref().map(|ca| read(ca, "client-ca")).transpose()?,
        })
    }

    fn config(&self, settings: &ListenTls) -> Result<Arc<ServerConfig>, String> {
        let certificates = certificates(&self.cert, &settings.cert, "cert")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong(&settings.key, "key", error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&self.client_ca, &settings.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(pem, path, "client-ca")? {
                    roots.add(certificate).map_err(|error| wrong(path, "client-ca", error))?;
                }
                let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                // Who shows none may have a token.
                let clients = clients.allow_unauthenticated().build();
                let clients = clients.map_err(|error| wrong(path, "client-ca", error))?;
                builder.with_client_cert_verifier(clients)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(certificates, key);
        let mut config = config.map_err(|error| wrong(&settings.cert, "cert", error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(
    pem: &[u8],
    path: &Path,
    key: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| wrong(path, key, error))?;
    if all.is_empty() {
        return Err(wrong(path, key, "there is no certificate in it"));
    }
    Ok(all)
}
