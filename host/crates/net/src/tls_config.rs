//! TLS client configuration of a source: built from its settings and files, and rebuilt when a file changes.

use crate::{
    crypto_provider::crypto_provider,
    system_roots,
    tls_settings::{TlsError, TlsSettings},
};
use reloader_util::{blocking_pool::BlockingPool, sync::Mutex};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Thread pool that reads certificate files and builds TLS configurations.
static POOL: BlockingPool = BlockingPool::new("reloader-tls", 8);

/// TLS client configuration of one source. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TlsClient {
    /// Configuration for raw connections, without ALPN.
    pub(crate) config: Arc<ClientConfig>,
    /// Configuration that offers HTTP/2 and HTTP/1.1 through ALPN.
    pub(crate) http_config: Arc<ClientConfig>,
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) ca: Option<Arc<Path>>,
    pub(crate) identity: Arc<ClientIdentity>,
}

impl TlsClient {
    /// Returns whether both handles share one built configuration. A configuration that was built again is a different
    /// one, even from the same paths.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

/// Client certificate and key, if the settings name them. Records whether a server requests a certificate.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    /// Path of the client certificate, if one is configured.
    pub(crate) file: Option<PathBuf>,
    key: Option<Arc<CertifiedKey>>,
    requested: AtomicBool,
}

impl ClientIdentity {
    /// Returns whether a server has requested a client certificate.
    pub(crate) fn was_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.requested.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // True even without a certificate: rustls then calls `resolve`, which records the request.
        true
    }
}

/// Cache of the TLS client configuration of one source.
#[derive(Debug)]
pub(crate) struct TlsClientCache {
    settings: TlsSettings,
    cached: Mutex<Option<Box<CachedClient>>>,
    /// Single permit for reading the files, so that a source blocks at most one thread if a file system hangs.
    read_permit: Arc<Semaphore>,
}

#[derive(Debug)]
struct CachedClient {
    /// Digest of the certificate and key files from which `client` was built.
    digest: [u8; 32],
    /// Trust roots of the system, if the settings name no certificate authorities.
    system_roots: Option<Arc<RootCertStore>>,
    client: TlsClient,
    /// Error of the last read of the files, if it failed.
    last_error: Option<TlsError>,
}

impl TlsClientCache {
    pub(crate) fn new(settings: TlsSettings) -> Self {
        let read_permit = Arc::new(Semaphore::new(1));
        Self { settings, cached: Mutex::default(), read_permit }
    }

    /// Returns the configuration for the current files. If they are invalid, returns the last good configuration, if
    /// there is one.
    pub(crate) async fn client(self: &Arc<Self>) -> Result<TlsClient, TlsError> {
        if let Some(client) = self.cached_without_files() {
            return Ok(client);
        }
        let failed = |error: &dyn std::fmt::Display| TlsError(error.to_string());
        let permit = Arc::clone(&self.read_permit).acquire_owned().await.map_err(|e| failed(&e))?;
        let cache = Arc::clone(self);
        let read = POOL.spawn(move || {
            let _permit = permit;
            cache.refresh()
        });
        read.await.map_err(|error| failed(&error))?
    }

    /// Returns the cached configuration if the settings name no files and the trust roots of the system are fresh and
    /// unchanged. Never blocks.
    fn cached_without_files(&self) -> Option<TlsClient> {
        if self.settings.has_files() {
            return None;
        }
        let roots = system_roots::get_fresh()?;
        let cached = self.cached.try_lock()?;
        let cached = cached.as_deref()?;
        let is_current =
            cached.system_roots.as_ref().is_some_and(|known| Arc::ptr_eq(known, &roots));
        is_current.then(|| cached.client.clone())
    }

    /// Reads the files, and rebuilds the configuration if they have changed.
    fn refresh(&self) -> Result<TlsClient, TlsError> {
        let mut cached = self.cached.lock();
        match (self.rebuild(cached.as_deref()), &mut *cached) {
            (Ok(None), Some(cached)) => {
                cached.last_error = None;
                Ok(cached.client.clone())
            }
            (Ok(Some(new)), cached) => Ok(cached.insert(Box::new(new)).client.clone()),
            // Certificate and key are often replaced one after the other, and do not match in between. The last good
            // pair stays in use.
            (Err(error), Some(cached)) => {
                if cached.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "reload of the TLS files of a source failed, keeping the last good ones");
                    cached.last_error = Some(error);
                }
                Ok(cached.client.clone())
            }
            (Err(error), None) => Err(error),
            (Ok(None), None) => Err(TlsError("TLS files not read".into())),
        }
    }

    /// Returns a new configuration, or `None` if the files and the trust roots are those of `cached`.
    fn rebuild(&self, cached: Option<&CachedClient>) -> Result<Option<CachedClient>, TlsError> {
        let settings = &self.settings;
        let files = settings.read()?;
        let digest = files.digest();
        let system_roots = if settings.ca.is_none() { Some(load_system_roots()?) } else { None };
        let is_same = cached.is_some_and(|cached| {
            let roots = cached.system_roots.as_ref().map(Arc::as_ptr);
            cached.digest == digest && roots == system_roots.as_ref().map(Arc::as_ptr)
        });
        if is_same {
            return Ok(None);
        }
        let roots = match &system_roots {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(settings.roots(&files)?),
        };
        let provider = crypto_provider();
        let identity = Arc::new(ClientIdentity {
            file: settings.certificate.clone(),
            key: settings.identity(&files, &provider)?.map(Arc::new),
            requested: AtomicBool::new(false),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&identity) as _);
        config.resumption = Resumption::in_memory_sessions(MAX_SAVED_SESSIONS);
        let mut http_config = config.clone();
        http_config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let client = TlsClient {
            config: Arc::new(config),
            http_config: Arc::new(http_config),
            server_name: settings.server_name()?,
            ca: settings.ca.as_deref().map(Into::into),
            identity,
        };
        Ok(Some(CachedClient { digest, system_roots, client, last_error: None }))
    }
}

fn load_system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    system_roots::load().map_err(|error| TlsError(format!("{error}; hint: set `--tls-ca FILE`")))
}

/// Maximum number of TLS sessions kept for resumption. A source usually has one or two servers.
const MAX_SAVED_SESSIONS: usize = 8;
