//! Host functions of a plugin: files, connections and HTTP requests.

use crate::{
    Connection, EndpointError, FileError, FileWatch, HttpError, Request, Response, Target,
    backend::Backend,
};
use std::{fmt, time::Duration};

// Static dispatch instead of `dyn`: a component then imports only the interfaces that its plugin calls.
#[cfg(not(target_family = "wasm"))]
use crate::fake::FakeHost as HostBackend;
#[cfg(target_family = "wasm")]
use crate::guest::Imports as HostBackend;

/// Handle to the host functions: files, connections and HTTP requests. A plugin has no other access to
/// files and the network. The host grants the paths and addresses in the settings, and those that the
/// operator grants in addition.
///
/// Cheap to clone. In unit tests, [`FakeHost::host`](crate::FakeHost::host) returns one.
#[derive(Clone)]
pub struct Host {
    backend: HostBackend,
}

impl Host {
    pub(crate) fn new(backend: HostBackend) -> Self {
        Self { backend }
    }

    /// Reads a whole file. The path must be granted, e.g. as the value of a setting marked `read`.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Denied`] if the path is not granted, and other variants for file system errors.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.backend.read_file(path)
    }

    /// Watches a file. The file need not exist yet; symbolic links are followed.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Denied`] if the path is not granted, and [`FileError::Failed`] if the watch
    /// cannot be set up.
    pub fn watch_file(&self, path: &str) -> Result<FileWatch, FileError> {
        self.backend.watch_file(path).map(FileWatch)
    }

    /// Connects to a host and port from a setting marked `connect`. `timeout` covers name resolution,
    /// connecting and the TLS handshake. With `tls`, the host verifies the server's certificate, and the
    /// plugin still reads and writes plain bytes.
    ///
    /// # Errors
    ///
    /// Returns [`EndpointError::Denied`] if the address is not granted, and other variants for network
    /// errors.
    pub fn connect(&self, to: &Target, timeout: Duration) -> Result<Connection, EndpointError> {
        self.backend.connect(to, timeout).map(Connection::new)
    }

    /// Sends an HTTP request to an origin from a setting marked `connect` and waits for the response
    /// headers. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::Denied`] if the origin is not granted, and other variants for network errors.
    pub fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.backend.send(request)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

#[cfg(not(target_family = "wasm"))]
impl crate::fake::FakeHost {
    /// Returns the handle to pass to the plugin.
    #[must_use]
    pub fn host(&self) -> Host {
        Host::new(self.clone())
    }
}
