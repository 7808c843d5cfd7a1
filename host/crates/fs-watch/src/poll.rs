//! Looking at a file from time to time, where the system does not tell of changes.

use crate::symlink_chain::{Identity, identity};
use std::{
    fs::{self, Metadata},
    future::pending,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Two writes within the precision of a file system's clock (2 s on FAT, 1 s on many a server) look
/// like one. A file that has changed is reported once more after so long.
const PRECISION: Duration = Duration::from_secs(2);

/// What shows that a file has changed. `None`: it cannot be looked at.
pub(crate) type Signature = Option<(Identity, u64, Times, u32)>;

/// When it was written to, and when it was changed in any way.
type Times = [(i64, i64); 2];

/// What the path leads to now.
pub(crate) fn signature(path: &Path) -> Signature {
    let found = fs::metadata(path).ok()?;
    // A network file system only asks its server when a file is opened.
    let found = if found.is_file() { opened(path).unwrap_or(found) } else { found };
    Some((identity(&found), found.len(), times(&found), mode(&found)))
}

fn opened(path: &Path) -> io::Result<Metadata> {
    crate::read::open(path)?.metadata()
}

#[cfg(unix)]
fn times(metadata: &Metadata) -> Times {
    use std::os::unix::fs::MetadataExt;
    [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())]
}

#[cfg(not(unix))]
fn times(metadata: &Metadata) -> Times {
    let modified = metadata.modified().ok();
    let age = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    [age.map_or((0, 0), |age| (age.as_secs() as i64, age.subsec_nanos().into())), (0, 0)]
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().readonly().into()
}

/// What is looked at, and when.
#[derive(Debug)]
pub(crate) struct Probing {
    path: PathBuf,
    every: Duration,
    /// Nothing but the content shows a change, so that each look may have found one.
    blindly: bool,
    known: Signature,
    /// Until when two changes may have looked like one.
    doubtful_until: Option<Instant>,
    next: Instant,
    looking: Option<JoinHandle<Signature>>,
}

impl Probing {
    /// `known`: what was there when somebody last had reason to read the file.
    pub(crate) fn new(path: &Path, every: Duration, blindly: bool, known: Signature) -> Self {
        let now = Instant::now();
        // Spread, so that many files are not looked at in the same moment.
        let part = RandomState::new().hash_one(path) % 1000;
        let first = every.mul_f64(0.5 + part as f64 / 2000.0);
        Self {
            path: path.into(),
            every,
            blindly,
            known,
            doubtful_until: Some(now + PRECISION),
            next: now + first,
            looking: None,
        }
    }

    pub(crate) fn set_blindly(&mut self, blindly: bool) {
        self.blindly = blindly;
    }

    /// Waits until a look shows that the file may have changed. Nothing is lost when the future is
    /// dropped.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.looking.is_none() {
                sleep_until(self.next).await;
            }
            let path = &self.path;
            let looking = self.looking.get_or_insert_with(|| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || signature(&path))
            });
            let found = looking.await;
            self.looking = None;
            let now = Instant::now();
            self.next = now + self.every;
            // A look that ended in a panic has shown nothing.
            let Ok(found) = found else { continue };
            let differs = std::mem::replace(&mut self.known, found) != found;
            if differs {
                self.doubtful_until = Some(now + PRECISION);
                return;
            }
            let certain = self.doubtful_until.take_if(|until| *until <= now).is_some();
            if certain || self.blindly {
                return;
            }
        }
    }
}

/// Waits for the probing, or for ever if there is none.
pub(crate) async fn probed(probing: &mut Option<Probing>) {
    match probing {
        Some(probing) => probing.changed().await,
        None => pending().await,
    }
}
