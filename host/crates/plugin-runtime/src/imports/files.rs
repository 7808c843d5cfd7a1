//! Import `files`: reads and watches granted files.

use super::host_state::HostState;
use crate::{bindings::reloader::plugin as wit, guest_resource_types::WatchedFile};
use reloader_fs_watch::ReadError;
use reloader_policy::Access;
use std::{
    fmt::Display,
    io,
    path::{Path, absolute},
    time::Duration,
};
use tokio::time::timeout;
use wasmtime::component::Resource;
use wit::files::FileError;

impl HostState {
    fn check_read(&self, path: &str) -> Result<(), FileError> {
        self.check_access(&Access::Read(path.into())).map_err(FileError::Denied)
    }

    /// Returns the error of a file that exceeds the limit `value`. The error names the limit for the operator, who sees
    /// the error in the failure of the call.
    fn too_large(&self) -> FileError {
        let message = format!("the file is too large: {}", self.context.limits.cite("value"));
        FileError::TooLarge(message)
    }

    /// Returns the error of an access to a file. The error names the limit `file-access` if the access timed out.
    fn failed(&self, error: &impl Display, kind: io::ErrorKind) -> FileError {
        FileError::Failed(match kind {
            io::ErrorKind::TimedOut => {
                format!("{error}: {}", self.context.limits.cite("file-access"))
            }
            _ => error.to_string(),
        })
    }
}

impl wit::files::Host for HostState {
    async fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, FileError>> {
        if let Err(denied) = self.check_read(&path) {
            return Ok(Err(denied));
        }
        let unknown_writer = Default::default();
        let writer = self.writers.get(&path).unwrap_or(&unknown_writer);
        let limit = self.context.limits.value as u64;
        let result = self.context.files.read(Path::new(&path), limit, writer).await;
        Ok(result.map_err(|error| match error {
            ReadError::NotFound => FileError::NotFound,
            ReadError::TooLarge { .. } => self.too_large(),
            ReadError::Failed { error: ref cause, .. } => self.failed(&error, cause.kind()),
        }))
    }

    async fn watch(
        &mut self,
        path: String,
    ) -> wasmtime::Result<Result<Resource<WatchedFile>, FileError>> {
        if let Err(denied) = self.check_read(&path) {
            return Ok(Err(denied));
        }
        let watch = match absolute(&path) {
            Ok(absolute) => self.context.files.watch(&absolute).await,
            Err(error) => Err(error),
        };
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => return Ok(Err(self.failed(&error, error.kind()))),
        };
        self.writers.insert(path, watch.last_writer());
        Ok(Ok(self.table.push(WatchedFile(watch))?))
    }
}

impl wit::files::HostFileWatch for HostState {
    async fn wait(
        &mut self,
        watch: Resource<WatchedFile>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<bool, FileError>> {
        let watch = self.table.get_mut(&watch)?;
        let limit = Duration::from_millis(timeout_ms.into());
        Ok(match timeout(limit, watch.0.changed()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(self.failed(&error, error.kind())),
            Err(_) => Ok(false),
        })
    }

    async fn drop(&mut self, watch: Resource<WatchedFile>) -> wasmtime::Result<()> {
        self.table.delete(watch)?;
        Ok(())
    }
}
