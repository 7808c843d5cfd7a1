//! Trust roots of the system: one cache for the process, because reading them is slow.

use crate::file_reads::read_below;
use reloader_util::sync::Mutex;
use rustls::RootCertStore;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Age at which the trust roots are read again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Placeholder for the path of the trust roots, which differs between systems. It identifies the read of the trust
/// roots if the read hangs.
const SYSTEM_ROOTS: &str = "certificate authorities of the system";

static CACHE: Mutex<Option<CachedRoots>> = Mutex::new(None);

#[derive(Debug)]
struct CachedRoots {
    read_at: Instant,
    roots: Arc<RootCertStore>,
}

impl CachedRoots {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < REFRESH_INTERVAL
    }
}

/// Error: the system has no certificate authorities, or they cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authorities found on this system{reason}")]
pub(crate) struct NoSystemRoots {
    /// Colon and cause; empty if no cause is known.
    reason: String,
}

/// Returns the cached trust roots if they are younger than [`REFRESH_INTERVAL`]. Never blocks.
#[cfg(feature = "egress")]
pub(crate) fn get_fresh() -> Option<Arc<RootCertStore>> {
    let cached = CACHE.try_lock()?;
    cached.as_ref().filter(|cached| cached.is_fresh()).map(|cached| Arc::clone(&cached.roots))
}

/// Returns the trust roots. Reads them if the cached ones are older than [`REFRESH_INTERVAL`]. Blocks.
pub(crate) fn load() -> Result<Arc<RootCertStore>, NoSystemRoots> {
    let mut cached = CACHE.lock();
    if let Some(cached) = cached.as_ref().filter(|cached| cached.is_fresh()) {
        return Ok(Arc::clone(&cached.roots));
    }
    let mut roots = RootCertStore::empty();
    let error = match read_below(Path::new(SYSTEM_ROOTS), rustls_native_certs::load_native_certs) {
        Ok(found) => {
            roots.add_parsable_certificates(found.certs);
            found.errors.first().map(ToString::to_string)
        }
        Err(error) => Some(error.to_string()),
    };
    let read_at = Instant::now();
    match &mut *cached {
        // Keeps the cached store if the new one is equal or empty: with another store, the sources would build new HTTP
        // clients and not reuse their connections.
        Some(cached) if roots.is_empty() || roots.roots == cached.roots.roots => {
            cached.read_at = read_at;
            Ok(Arc::clone(&cached.roots))
        }
        _ if roots.is_empty() => {
            let reason = error.map_or_else(String::new, |error| format!(": {error}"));
            Err(NoSystemRoots { reason })
        }
        cached => {
            let roots = Arc::new(roots);
            *cached = Some(CachedRoots { read_at, roots: Arc::clone(&roots) });
            Ok(roots)
        }
    }
}
