//! File of a sink: written by one writer at a time, after the check of its new content, and examined for changes by
//! other programs.

use super::{
    atomic_write::{Preparation, Staged},
    file_settings::TargetSettings,
    new_content_check_command::ContentCheck,
    path_resolution::resolve_links,
    temporary_file::remove_stale_temporaries,
};
use crate::{
    serial_blocking_jobs::{BlockingJobs, BlockingOperation, POOL},
    sink::{Delivered, ExternalChange, FileContent, SinkError},
};
use reloader_fs_watch::FileFingerprint;
use reloader_util::{blocking_pool::BlockingError, digest::Digest, sync::Mutex};
use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// A file that is written repeatedly, by one writer at a time.
#[derive(Debug)]
pub(super) struct Target {
    settings: Arc<TargetSettings>,
    /// Blocking operations of the sink, run one at a time.
    jobs: BlockingJobs<TargetState>,
    /// Content after the last successful write or removal.
    content: Arc<Mutex<Option<FileContent>>>,
    check: Option<ContentCheck>,
}

/// State of a [`Target`] after its previous operations.
#[derive(Debug, Default)]
struct TargetState {
    /// `true` after the removal of temporary files that a crashed host has left.
    is_cleaned_up: bool,
    /// Fingerprint of the file after the last write; `None` before the first write, after a failed write, and
    /// after a removal.
    written: Option<FileFingerprint>,
}
impl Target {
    /// Returns a target. `label` and `timeout` are the name of the sink and the timeout of its check.
    pub(super) fn new(settings: TargetSettings, label: &str, timeout: Duration) -> Self {
        let check = settings.check.clone();
        let check = check.map(|command| ContentCheck::new(command, label.to_owned(), timeout));
        Self {
            settings: Arc::new(settings),
            jobs: BlockingJobs::default(),
            content: Arc::default(),
            check,
        }
    }

    /// Writes `content`, or removes the file if `content` is `None`.
    pub(super) async fn write(
        &self,
        content: Option<bytes::Bytes>,
    ) -> Result<Delivered, SinkError> {
        let mut staged = None;
        if let (Some(content), Some(check)) = (&content, &self.check) {
            staged = self.stage(content.clone()).await?;
            if let Some(StagedFile(Some((_, Staged { file: Some(file), .. })))) = &staged {
                check.run(file.path(), &self.settings.path).await?;
            }
        }
        let (settings, known) = (Arc::clone(&self.settings), Arc::clone(&self.content));
        let writing = self.jobs.run(self.operation("writing"), move |state| {
            let (delivered, is_changed, digest) = match content {
                None => {
                    let path = state.begin_write(&settings)?;
                    let delivered = settings.remove(&path)?;
                    (delivered, delivered == Delivered::Changed, None)
                }
                Some(content) => {
                    let written = match staged.and_then(StagedFile::take) {
                        Some((path, staged)) => settings.commit(&path, &content, staged)?,
                        None => {
                            let path = state.begin_write(&settings)?;
                            settings.write(&path, &content)?
                        }
                    };
                    state.written = Some(written.fingerprint);
                    let digest = Digest::of(&content);
                    (written.delivered, written.is_content_changed, Some(digest))
                }
            };
            let mut known = known.lock();
            let writes = known.map_or(0, |known| known.writes) + u64::from(is_changed);
            *known = Some(FileContent { digest, writes });
            Ok(delivered)
        });
        let written = writing.await.unwrap_or_else(|error| Err(error.into()));
        written.map_err(|error| self.explain(&error))
    }

    /// Writes new content beside the file. Returns `None` if the file already has the content.
    async fn stage(&self, content: bytes::Bytes) -> Result<Option<StagedFile>, SinkError> {
        let settings = Arc::clone(&self.settings);
        let preparing = self.jobs.run(self.operation("writing"), move |state| {
            let path = state.begin_write(&settings)?;
            Ok(match settings.prepare(&path, &content)? {
                Preparation::Unchanged(_) => None,
                Preparation::Staged(staged) => Some(StagedFile(Some((path, staged)))),
            })
        });
        let prepared = preparing.await.unwrap_or_else(|error| Err(error.into()));
        prepared.map_err(|error| self.explain(&error))
    }

    /// Runs another blocking operation of the same sink, e.g. reading a template, after the previous operation.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        operation: BlockingOperation,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, BlockingError> {
        self.jobs.run(operation, move |_| job()).await
    }

    /// See [`Sink::file_content`](crate::Sink::file_content).
    pub(super) fn content(&self) -> Option<FileContent> {
        *self.content.lock()
    }

    /// Returns the blocking operation that is accessing the file, if any.
    pub(super) fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.jobs.operation()
    }

    /// See [`Sink::repair_interval`](crate::Sink::repair_interval).
    pub(super) fn repair_interval(&self) -> Option<Duration> {
        self.settings.repair_interval.0
    }

    /// Compares the fingerprint of the file with its fingerprint after the last write. Returns `None` if both are
    /// equal, if no write has succeeded, or while another operation runs.
    pub(super) async fn external_change(&self) -> Option<ExternalChange> {
        // In most checks, the metadata in the kernel's cache is unchanged. Otherwise, a blocking thread reads the
        // metadata again, because the file system may not answer.
        let path = &self.settings.path;
        let may_differ = self.jobs.try_read(|state| {
            state.written.is_some_and(|it| FileFingerprint::read_cached(path) != Some(it))
        });
        if may_differ != Some(true) {
            return None;
        }
        let settings = Arc::clone(&self.settings);
        let compared = self.jobs.try_run(self.operation("checking"), move |state| {
            let written = state.written?;
            match fs::metadata(&settings.path) {
                Ok(found) if FileFingerprint::from_metadata(&found) == written => None,
                Ok(_) => Some("another program has changed the file".to_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Some("the file is missing".to_owned())
                }
                Err(error) => Some(format!("the file cannot be examined: {error}")),
            }
        });
        let reason = compared.await?.unwrap_or_else(|error| Some(error.to_string()))?;
        Some(ExternalChange { path: self.settings.path.clone(), reason })
    }

    fn operation(&self, verb: &str) -> BlockingOperation {
        BlockingOperation::on_file(verb, &self.settings.path)
    }

    /// Returns the error for the operator, with a hint.
    fn explain(&self, error: &io::Error) -> SinkError {
        let path = self.settings.path.display();
        let hint = match error.kind() {
            ErrorKind::ResourceBusy => {
                "; hint: set `in-place = true`, since the file is a mount point"
            }
            ErrorKind::NotFound if !self.settings.create_directories => {
                "; hint: create its directory or set `create-directories = true`"
            }
            _ => "",
        };
        SinkError::transient(format!("cannot write `{path}`: {error}{hint}"))
    }
}

impl TargetState {
    /// Forgets the last write, and removes the temporary files of a crashed host once. Returns the path of the file,
    /// with links resolved.
    fn begin_write(&mut self, settings: &TargetSettings) -> io::Result<PathBuf> {
        self.written = None;
        let path = resolve_links(&settings.path)?;
        if !std::mem::replace(&mut self.is_cleaned_up, true) {
            remove_stale_temporaries(&path);
        }
        Ok(path)
    }
}

/// Staged content with the path of its file. If it is dropped, a pool thread removes the temporary file, since the file
/// system may not answer.
#[derive(Debug)]
struct StagedFile(Option<(PathBuf, Staged)>);

impl StagedFile {
    fn take(mut self) -> Option<(PathBuf, Staged)> {
        self.0.take()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(staged) = self.0.take() {
            drop(POOL.spawn(move || drop(staged)));
        }
    }
}
