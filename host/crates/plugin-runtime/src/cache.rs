//! Compiled components, kept so that the second start takes milliseconds.
//!
//! What is loaded from here is machine code, so the directory must be writable for its owner alone,
//! and each entry begins with a digest of the rest.

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

/// More entries than this are not kept; the oldest go first.
const ENTRIES: usize = 128;
const DIGEST: usize = 32;
/// Of an entry. One of another format is another entry.
const FORMAT: u32 = 2;

/// Where compiled components are kept, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    directory: Option<PathBuf>,
}

impl Cache {
    /// Keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// In the user's cache directory (`$XDG_CACHE_HOME`, or `~/.cache`). Where that cannot be used
    /// safely, it says so in the log, and keeps nothing.
    #[must_use]
    pub fn user() -> Self {
        use etcetera::BaseStrategy;
        match etcetera::choose_base_strategy() {
            Ok(base) => Self::at(base.cache_dir().join("reloader-host")),
            Err(_) => Self::none(),
        }
    }

    /// In this directory. Where it cannot be used safely, it says so in the log, and keeps nothing.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        match prepare(&directory) {
            Ok(()) => Self { directory: Some(directory) },
            Err(error) => {
                let directory = directory.display();
                warn!("compiled plugins are not kept: `{directory}`: {error}");
                Self::none()
            }
        }
    }

    /// The component, if it is here and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest)?;
        match load(engine, &path) {
            Ok(component) => Some(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!("the plugin is compiled anew: `{}`: {error}", path.display());
                None
            }
        }
    }

    /// The component, and it is kept for the next time.
    pub(crate) fn keep(
        &self,
        engine: &Engine,
        digest: &str,
        compiled: &[u8],
    ) -> wasmtime::Result<Component> {
        if let (Some(directory), Some(path)) = (&self.directory, self.path(engine, digest))
            && let Err(error) = keep(directory, &path, compiled)
        {
            debug!("the compiled plugin is not kept: `{}`: {error}", path.display());
        }
        #[allow(unsafe_code, reason = "it comes from the compiler of this very program")]
        unsafe {
            Component::deserialize(engine, compiled)
        }
    }

    /// Where it is kept, if anything is.
    fn path(&self, engine: &Engine, digest: &str) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        FORMAT.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{digest}-{:016x}.cwasm", hasher.finish());
        self.directory.as_ref().map(|directory| directory.join(name))
    }
}

/// The directory exists, is the user's own, and nobody else may write to it.
fn prepare(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let metadata = fs::symlink_metadata(directory)?;
        if !metadata.is_dir() {
            return Err(io::Error::other("it is not a directory"));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other("others can use it; set its mode to 0700"));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    fs::create_dir_all(directory)
}

fn load(engine: &Engine, path: &Path) -> io::Result<Component> {
    let mut file = reloader_fs_watch::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut entry = Vec::new();
    file.read_to_end(&mut entry)?;
    let Some((digest, compiled)) = entry.split_at_checked(DIGEST) else {
        return Err(io::Error::other("it is cut off"));
    };
    if seal(path, compiled) != digest {
        return Err(io::Error::other("it is damaged, or stands in another one's place"));
    }
    #[allow(
        unsafe_code,
        reason = "only this user can have written it, and it is as it was written"
    )]
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(io::Error::other)
}

/// What an entry begins with: of its name too, so that none stands for another component.
fn seal(path: &Path, compiled: &[u8]) -> [u8; DIGEST] {
    let name = path.file_name().unwrap_or_default();
    let mut digest = Sha256::new_with_prefix(name.as_encoded_bytes());
    digest.update(compiled);
    digest.finalize().into()
}

fn keep(directory: &Path, path: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&seal(path, compiled))?;
    file.write_all(compiled)?;
    file.persist(path).map_err(|error| error.error)?;
    let mut entries: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    entries.sort();
    for (_, oldest) in entries.iter().take(entries.len().saturating_sub(ENTRIES)) {
        fs::remove_file(oldest)?;
    }
    Ok(())
}
