//! Cache of compiled components, which makes the second start fast.
//!
//! The entries are machine code. So the directory must be accessible to its owner only, and each entry starts with
//! a digest of its name and content.

use sha2::{Digest as _, Sha256};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
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

/// Cache of compiled components, in a directory.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    directory: Option<PathBuf>,
}

impl Cache {
    /// Returns a cache that stores nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns a cache in the user's cache directory (`$XDG_CACHE_HOME`, or `~/.cache`). If that is not safe to
    /// use, it logs a warning and returns a cache that stores nothing.
    #[must_use]
    pub fn user() -> Self {
        use etcetera::BaseStrategy;
        match etcetera::choose_base_strategy() {
            Ok(base) => Self::at(base.cache_dir().join("reloader-host")),
            Err(_) => Self::none(),
        }
    }

    /// Returns a cache in this directory. If that is not safe to use, it logs a warning and returns a cache that
    /// stores nothing.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        match prepare_directory(&directory) {
            Ok(()) => Self { directory: Some(directory) },
            Err(error) => {
                let directory = directory.display();
                warn!(%directory, %error, "plugin cache disabled");
                Self::none()
            }
        }
    }

    /// Returns a component from the cache, if its entry is present and intact.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.entry_path(engine, digest)?;
        match read_entry(engine, &path) {
            Ok(component) => Some(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let entry = path.display();
                warn!(%entry, %error, "invalid plugin cache entry, recompiling");
                None
            }
        }
    }

    /// Stores a compiled component, and returns it.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        digest: &str,
        compiled: &[u8],
    ) -> wasmtime::Result<Component> {
        if let (Some(directory), Some(path)) = (&self.directory, self.entry_path(engine, digest))
            && let Err(error) = write_entry(directory, &path, compiled)
        {
            debug!(entry = %path.display(), %error, "plugin cache write failed");
        }
        #[allow(unsafe_code, reason = "the bytes come from this program's compiler")]
        unsafe {
            Component::deserialize(engine, compiled)
        }
    }

    /// Returns the path of a component's entry.
    fn entry_path(&self, engine: &Engine, digest: &str) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        FORMAT_VERSION.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{digest}-{:016x}.cwasm", hasher.finish());
        self.directory.as_ref().map(|directory| directory.join(name))
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

/// Returns the digest of an entry. It covers the name, so that an entry cannot be used for another component.
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
