//! Cache of compiled components on disk, so that later starts need no compilation.
//!
//! The entries are machine code that the host executes. So the directory must be accessible to its owner only, and
//! each entry starts with a digest of its name and content.

use crate::load_threads::access_files;
use reloader_util::sync::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
    time::SystemTime,
};
use tracing::{debug, warn};
use wasmtime::{Engine, component::Component};

/// Maximum number of entries. The oldest are evicted first.
const MAX_ENTRIES: usize = 128;
/// Length of the digest of an entry, in bytes.
const DIGEST_BYTES: usize = 32;
/// Version of the format of entries. It is part of an entry's name.
const FORMAT_VERSION: u32 = 2;

/// Cache of compiled components in a directory, so that a component is compiled only once.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    directory: Option<Arc<Directory>>,
}

/// Directory of a cache. It is created, or checked, at the first access.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    is_safe: OnceLock<bool>,
    /// Accesses that have exceeded the time limit. While one of them is still running, no further access starts.
    hung: Mutex<Vec<Weak<()>>>,
}

impl Cache {
    /// Returns a cache that stores nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns a cache in the user's cache directory (`$XDG_CACHE_HOME`, or `~/.cache`). If other users can access the
    /// cache's directory, the cache logs a warning at the first access and stores nothing. If the file system does not
    /// respond, the cache logs a warning and stores nothing until the file system responds.
    #[must_use]
    pub fn user() -> Self {
        use etcetera::BaseStrategy;
        match etcetera::choose_base_strategy() {
            Ok(base) => Self::at(base.cache_dir().join("reloader-host")),
            Err(_) => Self::none(),
        }
    }

    /// Returns a cache in this directory. If other users can access the directory, the cache logs a warning at the
    /// first access and stores nothing. If the file system does not respond, the cache logs a warning and stores
    /// nothing until the file system responds.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        let (is_safe, hung) = (OnceLock::new(), Mutex::default());
        Self { directory: Some(Arc::new(Directory { path: directory, is_safe, hung })) }
    }

    /// Returns a component from the cache, if its entry is present and intact.
    pub(crate) async fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let (engine, name) = (engine.clone(), entry_name(engine, digest));
        let load = move |directory: &Path| {
            let path = directory.join(&name);
            match read_entry(&engine, &path) {
                Ok(component) => Some(component),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let entry = path.display();
                    warn!(%entry, %error, "invalid plugin cache entry, recompiling");
                    None
                }
            }
        };
        self.access(load).await.flatten()
    }

    /// Stores a compiled component in the cache directory. A failure is only logged.
    pub(crate) async fn store(&self, engine: &Engine, digest: &str, compiled: &Arc<[u8]>) {
        let (name, compiled) = (entry_name(engine, digest), Arc::clone(compiled));
        let store = move |directory: &Path| {
            let path = directory.join(&name);
            if let Err(error) = write_entry(directory, &path, &compiled) {
                debug!(entry = %path.display(), %error, "plugin cache write failed");
            }
        };
        self.access(store).await;
    }

    /// Runs an access to the directory. Returns `None` if the cache has no directory, or if the directory cannot be
    /// used.
    async fn access<T: Send + 'static>(
        &self,
        access: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let directory = Arc::clone(self.directory.as_ref()?);
        if directory.is_hung() {
            return None;
        }
        // The access owns the only strong reference, so the weak one expires when the access has returned.
        let running = Arc::new(());
        let hung = Arc::downgrade(&running);
        let accessed = Arc::clone(&directory);
        let access = move || {
            let _running = running;
            accessed.is_safe().then(|| access(&accessed.path))
        };
        access_files(access).await.unwrap_or_else(|error| {
            if !directory.is_hung() {
                directory.log_disabled(&error);
            }
            directory.hung.lock().push(hung);
            None
        })
    }
}

impl Directory {
    /// Creates or checks the directory at the first call. Returns whether only this user can access it.
    fn is_safe(&self) -> bool {
        *self.is_safe.get_or_init(|| {
            let prepared = prepare_directory(&self.path);
            prepared.inspect_err(|error| self.log_disabled(error)).is_ok()
        })
    }

    /// Returns whether an access that has exceeded the time limit is still running.
    fn is_hung(&self) -> bool {
        let mut hung = self.hung.lock();
        hung.retain(|access| access.strong_count() > 0);
        !hung.is_empty()
    }

    fn log_disabled(&self, error: &io::Error) {
        warn!(directory = %self.path.display(), %error, "plugin cache disabled");
    }
}

/// Returns the file name of a component's entry.
fn entry_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    FORMAT_VERSION.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.cwasm", hasher.finish())
}

/// Returns a component from the machine code that this program's compiler has produced.
pub(crate) fn deserialize_compiled(
    engine: &Engine,
    compiled: &[u8],
) -> wasmtime::Result<Component> {
    #[allow(unsafe_code, reason = "the bytes come from this program's compiler")]
    unsafe {
        Component::deserialize(engine, compiled)
    }
}

/// Creates the directory, or checks that only this user can access it.
fn prepare_directory(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let metadata = fs::symlink_metadata(directory)?;
        if !metadata.is_dir() {
            return Err(io::Error::other("not a directory"));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("owned by another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other("accessible to other users; hint: set its mode to 0700"));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    fs::create_dir_all(directory)
}

fn read_entry(engine: &Engine, path: &Path) -> io::Result<Component> {
    let mut file = reloader_fs_watch::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut entry = Vec::new();
    file.read_to_end(&mut entry)?;
    let Some((digest, compiled)) = entry.split_at_checked(DIGEST_BYTES) else {
        return Err(io::Error::other("truncated"));
    };
    if entry_digest(path, compiled) != digest {
        return Err(io::Error::other("digest mismatch"));
    }
    #[allow(
        unsafe_code,
        reason = "only this user can write to the directory, and the digest matches"
    )]
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(io::Error::other)
}

/// Returns the digest of an entry. The digest covers the file name, so that an entry cannot be used for another
/// component.
fn entry_digest(path: &Path, compiled: &[u8]) -> [u8; DIGEST_BYTES] {
    let name = path.file_name().unwrap_or_default();
    let mut digest = Sha256::new_with_prefix(name.as_encoded_bytes());
    digest.update(compiled);
    digest.finalize().into()
}

/// Writes an entry, and evicts the oldest ones.
fn write_entry(directory: &Path, path: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&entry_digest(path, compiled))?;
    file.write_all(compiled)?;
    file.persist(path).map_err(|error| error.error)?;
    let mut entries: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    entries.sort();
    for (_, oldest) in entries.iter().take(entries.len().saturating_sub(MAX_ENTRIES)) {
        fs::remove_file(oldest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};
    use tokio::{sync::oneshot, time::timeout};

    #[tokio::test]
    async fn directory_is_used_again_after_hung_access() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(directory.path().join("cache"));
        let (started, has_started) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let (this, hang) = (cache.clone(), move |_: &Path| {
            let _ = started.send(());
            let _ = released.recv();
        });
        let hung = tokio::spawn(async move { this.access(hang).await });
        has_started.await.expect("the access has started");
        tokio::time::pause();
        assert_eq!(hung.await.expect("no panic"), None);
        tokio::time::resume();
        assert_eq!(cache.access(|_| 7).await, None, "the access has not returned");
        drop(release);
        let again = async {
            while cache.access(|_| 7).await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), again).await.expect("the directory is used again");
    }
}
