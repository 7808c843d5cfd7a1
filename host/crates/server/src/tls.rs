//! TLS of the API: reload of changed certificate files, and revocation of client certificates on open
//! connections.

use crate::blocking_operation_pool::POOL;
use reloader_app::{Config, ListenTable, ListenTls};
use reloader_net::{crypto_provider, file_reads::read_file, pem};
use reloader_util::sync::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use tracing::{error, info};

/// Time between two reads of the certificate files. After an authority is removed from a file, the client
/// certificates that it has issued stay trusted for at most this time and the duration of one read. The time limit
/// of a read is five seconds.
const FILES_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two verifications of the client certificate of an open connection, since certificates expire.
const REVERIFY_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum size of a certificate file, in bytes. A bundle of all public authorities is about a quarter of this
/// size.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// TLS of one listening socket, with the certificates in use.
pub(crate) struct Tls {
    state: watch::Sender<Arc<TlsState>>,
    config: watch::Receiver<Arc<Config>>,
}

/// Server configuration and client verifier, built from the files of `[listen.tls]`.
struct TlsState {
    settings: ListenTls,
    files: Files,
    server: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Contents of the certificate and key files of `[listen.tls]`.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files of `settings`. Blocks the thread, for five seconds at most for each file.
    ///
    /// # Errors
    ///
    /// Returns the unusable file and the reason.
    pub(crate) fn new(
        settings: ListenTls,
        config: watch::Receiver<Arc<Config>>,
    ) -> Result<Self, String> {
        let state = TlsState::load(settings)?;
        Ok(Self { state: watch::Sender::new(Arc::new(state)), config })
    }

    /// Returns the server configuration for new connections.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.borrow().server)
    }

    /// Reloads the certificates after each change of the configuration or the files, until the host stops. If a
    /// file is unusable, its previous content stays in use: an unusable `cert` or `key` does not keep a new
    /// `client-ca` from taking effect.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut config = self.config.clone();
        let mut failure = None;
        loop {
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                () = sleep(FILES_POLL_INTERVAL) => {}
            }
            let present = Arc::clone(&self.state.borrow());
            let settings = config.borrow_and_update().listen.tls.clone();
            let loaded = POOL.spawn(move || present.reload(settings)).await;
            let (state, now) = loaded.unwrap_or_else(|error| (None, Some(error.to_string())));
            if let Some(state) = state {
                info!("TLS files of the API reloaded");
                self.state.send_replace(Arc::new(state));
            }
            if let Some(error) = now.as_ref().filter(|_| now != failure) {
                error!(%error, "TLS file of the API unusable; the previous `cert` and `key` stay in use");
            }
            failure = now;
        }
    }

    /// Returns the certificate that an accepted client has presented; `None` if it has presented none.
    pub(crate) fn client_certificate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Option<ClientCertificate> {
        let chain: Vec<_> = chain?.iter().map(|part| part.clone().into_owned()).collect();
        let (state, config) = (self.state.subscribe(), self.config.clone());
        (!chain.is_empty()).then(|| ClientCertificate {
            chain,
            state,
            config,
            verified: Mutex::default(),
        })
    }
}

/// The certificate that the client of an open connection has presented.
pub(crate) struct ClientCertificate {
    /// Certificate chain, beginning with the client's own certificate.
    chain: Vec<CertificateDer<'static>>,
    state: watch::Receiver<Arc<TlsState>>,
    config: watch::Receiver<Arc<Config>>,
    verified: Mutex<Option<Verified>>,
}

/// Result of the last verification of a client certificate.
struct Verified {
    by: Arc<dyn ClientCertVerifier>,
    at: Instant,
    is_trusted: bool,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl ClientCertificate {
    /// Returns `true` if the certificate is trusted under this configuration and the present files.
    pub(crate) fn is_trusted(&self, listen: &ListenTable) -> bool {
        let state = Arc::clone(&self.state.borrow());
        let Some(verifier) = &state.clients else { return false };
        // If the path of `client-ca` differs, the verifier belongs to an earlier configuration. Until it is replaced,
        // no certificate is trusted.
        if listen.client_ca().is_none() || listen.client_ca() != state.client_ca_path() {
            return false;
        }
        let mut verified = self.verified.lock();
        let is_current = |verified: &&Verified| {
            Arc::ptr_eq(&verified.by, verifier) && verified.at.elapsed() < REVERIFY_INTERVAL
        };
        if let Some(verified) = verified.as_ref().filter(is_current) {
            return verified.is_trusted;
        }
        let is_trusted = self.chain.split_first().is_some_and(|(own, intermediates)| {
            verifier.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
        });
        *verified = Some(Verified { by: Arc::clone(verifier), at: Instant::now(), is_trusted });
        is_trusted
    }

    /// Waits until the certificate is no longer trusted.
    pub(crate) async fn revoked(&self) {
        let (mut state, mut config) = (self.state.clone(), self.config.clone());
        loop {
            state.mark_unchanged();
            let present = Arc::clone(&config.borrow_and_update());
            if !self.is_trusted(&present.listen) {
                return;
            }
            let followed = tokio::select! {
                changed = state.changed() => changed,
                changed = config.changed() => changed,
                () = sleep(REVERIFY_INTERVAL) => Ok(()),
            };
            if followed.is_err() {
                return;
            }
        }
    }
}

/// Checks that the files of `settings` are usable. Blocks the thread, for five seconds at most for each file.
///
/// # Errors
///
/// Returns the unusable file and the reason.
pub(crate) fn check(settings: &ListenTls) -> Result<(), String> {
    TlsState::load(settings.clone()).map(|_| ())
}

impl TlsState {
    fn load(settings: ListenTls) -> Result<Self, String> {
        let files = Files::read(&settings)?;
        let clients = files.client_verifier(&settings)?;
        let server = files.server_config(&settings, clients.clone())?;
        Ok(Self { settings, files, server, clients })
    }

    /// Reads the files of the present settings. Returns the new state, if a file or `client-ca` has changed, and the
    /// reason if a file is unusable.
    ///
    /// If the present configuration has no TLS settings, the socket keeps its certificate until the next start and
    /// accepts no client certificates.
    fn reload(&self, settings: Option<ListenTls>) -> (Option<Self>, Option<String>) {
        let own = || ListenTls { client_ca: None, ..self.settings.clone() };
        let settings = settings.unwrap_or_else(own);
        let files = Files::read(&settings);
        let error = match files.and_then(|files| self.updated(settings.clone(), files)) {
            Ok(state) => return (state, None),
            Err(error) => error,
        };
        // An unusable server certificate must not delay the revocation of client certificates.
        let state = Files::read_client_ca(&settings).and_then(|client_ca| {
            let (cert, key) = (self.files.cert.clone(), self.files.key.clone());
            let settings = ListenTls { client_ca: settings.client_ca, ..self.settings.clone() };
            self.updated(settings, Files { cert, key, client_ca })
        });
        (state.unwrap_or_default(), Some(error))
    }

    /// Returns the state with new settings and files; `None` if the files and the path of `client-ca` are unchanged.
    fn updated(&self, settings: ListenTls, files: Files) -> Result<Option<Self>, String> {
        if files == self.files && settings.client_ca == self.settings.client_ca {
            return Ok(None);
        }
        // Unchanged authorities keep their verifier, which keeps the cached results of verifications valid.
        let is_same = files.client_ca == self.files.client_ca;
        let clients = match &self.clients {
            Some(clients) if is_same => Some(Arc::clone(clients)),
            _ => files.client_verifier(&settings)?,
        };
        let server = files.server_config(&settings, clients.clone())?;
        Ok(Some(Self { settings, files, server, clients }))
    }

    fn client_ca_path(&self) -> Option<&Path> {
        self.settings.client_ca.as_deref()
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, String> {
    read_file(path, MAX_FILE_BYTES).map_err(|error| unusable(path, key, error))
}

fn unusable(path: &Path, key: &str, reason: impl fmt::Display) -> String {
    format!("cannot use `{}` (`{key}` in `[listen.tls]`): {reason}", path.display())
}

impl Files {
    fn read(settings: &ListenTls) -> Result<Self, String> {
        let client_ca = Self::read_client_ca(settings)?;
        Ok(Self {
            cert: read(&settings.cert, "cert")?,
            key: read(&settings.key, "key")?,
            client_ca,
        })
    }

    fn read_client_ca(settings: &ListenTls) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &settings.client_ca else { return Ok(None) };
        read(path, "client-ca").map(Some)
    }

    fn client_verifier(
        &self,
        settings: &ListenTls,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let (Some(pem), Some(path)) = (&self.client_ca, &settings.client_ca) else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        let certificates =
            pem::certificates(pem).map_err(|error| unusable(path, "client-ca", error))?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(path, "client-ca", error))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), crypto_provider())
            // A client without a certificate may present a token.
            .allow_unauthenticated()
            .build()
            .map_err(|error| unusable(path, "client-ca", error))?;
        Ok(Some(clients))
    }

    fn server_config(
        &self,
        settings: &ListenTls,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<ServerConfig>, String> {
        let chain = pem::certificates(&self.cert)
            .map_err(|error| unusable(&settings.cert, "cert", error))?;
        let key = pem::private_key(&self.key);
        let key = key.map_err(|error| unusable(&settings.key, "key", error))?;
        let builder = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&settings.cert, "cert", error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
