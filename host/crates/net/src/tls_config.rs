//! Whom TLS trusts, and as whom it speaks: made of the files as they are, and again when they change.

use crate::tls_settings::{TlsError, TlsSettings};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::ServerName,
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What it takes to speak TLS, made of the files as they were. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) config: Arc<ClientConfig>,
    /// The same, for HTTP.
    pub(crate) http: Arc<ClientConfig>,
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) ca: Option<Arc<Path>>,
    pub(crate) identity: Arc<Identity>,
}

impl Client {
    /// Whether both have been made of the same files.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

/// As whom to speak, where a server asks.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) file: Option<PathBuf>,
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Identity {
    /// Whether a server has asked.
    pub(crate) fn was_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // Also without one: what matters is that it is asked.
        true
    }
}

/// The authorities that this machine trusts: read when they are first needed, and again after an hour.
#[derive(Debug, Default)]
pub(crate) struct SystemRoots(Mutex<Option<Loaded>>);

#[derive(Debug)]
struct Loaded {
    at: Instant,
    roots: Arc<RootCertStore>,
}

const ROOTS_FOR: Duration = Duration::from_secs(60 * 60);

impl SystemRoots {
    /// What has been read lately. It never blocks.
    fn fresh(&self) -> Option<Arc<RootCertStore>> {
        let loaded = self.0.try_lock().ok()?;
        let fresh = loaded.as_ref().filter(|loaded| loaded.at.elapsed() < ROOTS_FOR);
        fresh.map(|loaded| Arc::clone(&loaded.roots))
    }

    /// Reads them unless that was done lately. It blocks.
    fn get(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *loaded {
            Some(loaded) if loaded.at.elapsed() < ROOTS_FOR => {
                return Ok(Arc::clone(&loaded.roots));
            }
            _ => {}
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        let at = Instant::now();
        match &mut *loaded {
            // Then the connections that stand stay in use; and what worked is not given up for nothing.
            Some(loaded) if roots.is_empty() || roots.roots == loaded.roots.roots => {
                loaded.at = at;
                Ok(Arc::clone(&loaded.roots))
            }
            _ if roots.is_empty() => {
                let why =
                    found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
                Err(TlsError(format!(
                    "this machine has no certificate authorities to verify a server with{why}; \
                     `--tls-ca FILE` names one"
                )))
            }
            loaded => {
                let roots = Arc::new(roots);
                *loaded = Some(Loaded { at, roots: Arc::clone(&roots) });
                Ok(roots)
            }
        }
    }
}

/// TLS for one source.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    system: Arc<SystemRoots>,
    made: Mutex<Option<Box<Made>>>,
    /// Reading happens once at a time: a file system may hang, and threads are few.
    reading: Arc<Semaphore>,
}

#[derive(Debug)]
struct Made {
    /// Of what it was made.
    digest: [u8; 32],
    roots: Option<Arc<RootCertStore>>,
    client: Client,
    /// What was wrong with the files when they were last read.
    complaint: Option<TlsError>,
}

impl Tls {
    pub(crate) fn new(settings: TlsSettings, system: Arc<SystemRoots>) -> Self {
        let reading = Arc::new(Semaphore::new(1));
        Self { settings, system, made: Mutex::default(), reading }
    }

    /// What the files say now.
    pub(crate) async fn client(self: &Arc<Self>) -> Result<Client, TlsError> {
        if let Some(client) = self.without_reading() {
            return Ok(client);
        }
        let ended = |error: &dyn std::fmt::Display| TlsError(error.to_string());
        let turn = Arc::clone(&self.reading).acquire_owned().await.map_err(|e| ended(&e))?;
        let tls = Arc::clone(self);
        let reading = spawn_blocking(move || {
            let _turn = turn;
            tls.read()
        });
        reading.await.map_err(|error| ended(&error))?
    }

    /// Where no files are named, nothing can have changed for a while.
    fn without_reading(&self) -> Option<Client> {
        let roots = (!self.settings.has_files()).then(|| self.system.fresh()).flatten()?;
        let made = self.made.try_lock().ok()?;
        let made = made.as_deref()?;
        let same = made.roots.as_ref().is_some_and(|known| Arc::ptr_eq(known, &roots));
        same.then(|| made.client.clone())
    }

    fn read(&self) -> Result<Client, TlsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.renewed(made.as_deref()), &mut *made) {
            (Ok(None), Some(made)) => {
                made.complaint = None;
                Ok(made.client.clone())
            }
            (Ok(Some(new)), made) => Ok(made.insert(Box::new(new)).client.clone()),
            // Certificate and key are replaced one after the other: what worked stays meanwhile.
            (Err(error), Some(made)) => {
                if made.complaint.as_ref() != Some(&error) {
                    tracing::warn!("{error}; what was read before stays in use");
                    made.complaint = Some(error);
                }
                Ok(made.client.clone())
            }
            (Err(error), None) => Err(error),
            (Ok(None), None) => Err(TlsError("nothing has been read yet".into())),
        }
    }

    /// A new client, if what it is made of is not the same as before.
    fn renewed(&self, before: Option<&Made>) -> Result<Option<Made>, TlsError> {
        let settings = &self.settings;
        let files = settings.read()?;
        let digest = files.digest();
        let system = settings.ca.is_none().then(|| self.system.get()).transpose()?;
        let same = before.is_some_and(|before| {
            before.digest == digest
                && before.roots.as_ref().map(Arc::as_ptr) == system.as_ref().map(Arc::as_ptr)
        });
        if same {
            return Ok(None);
        }
        let roots = match &system {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(settings.roots(&files)?),
        };
        let provider = provider();
        let identity = Arc::new(Identity {
            file: settings.certificate.clone(),
            key: settings.identity(&files, &provider)?.map(Arc::new),
            asked: AtomicBool::new(false),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&identity) as _);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let mut http = config.clone();
        http.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let client = Client {
            config: Arc::new(config),
            http: Arc::new(http),
            server_name: settings.server_name()?,
            ca: settings.ca.as_deref().map(Into::into),
            identity,
        };
        Ok(Some(Made { digest, roots: system, client, complaint: None }))
    }
}

/// Sessions that are kept to be resumed; a source speaks to one server, or two.
const SESSIONS: usize = 8;
