//! The way to the outside: what a plugin asks of its host.

use crate::{Connection, EndpointError, FileError, FileWatch, HttpError, Request, Response};
use std::{fmt, time::Duration};

// Chosen while compiling, not behind `dyn`, so that a component imports only what its plugin calls.
#[cfg(not(target_family = "wasm"))]
use crate::fake::FakeHost as Outside;
#[cfg(target_family = "wasm")]
use crate::guest::Imports as Outside;

/// The way to the outside. Everything a plugin reaches, it reaches through this, and only as far as
/// its settings name it.
///
/// Cheap to clone. In tests it comes from a [`FakeHost`](crate::FakeHost).
#[derive(Clone)]
pub struct Host {
    backend: Outside,
}

impl Host {
    pub(crate) fn new(backend: Outside) -> Self {
        Self { backend }
    }

    /// Reads a whole file, whose path must stand in the settings (marked `read`).
    ///
    /// # Errors
    ///
    /// [`FileError::Denied`] when the path is not granted; otherwise what the file system says.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.backend.read_file(path)
    }

    /// Watches a file: also one that does not exist yet, and through symbolic links.
    ///
    /// # Errors
    ///
    /// [`FileError::Denied`] when the path is not granted, [`FileError::Failed`] when it cannot be
    /// watched.
    pub fn watch_file(&self, path: &str) -> Result<FileWatch, FileError> {
        self.backend.watch_file(path).map(FileWatch)
    }

    /// Connects to a host and port that stand in the settings (marked `connect`). With `tls` the
    /// host verifies the other side's certificate; the plugin reads and writes plain bytes.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Denied`] when it is not granted; otherwise what the network says.
    pub fn connect(&self, to: &Target, timeout: Duration) -> Result<Connection, EndpointError> {
        self.backend.connect(to, timeout).map(Connection::new)
    }

    /// Sends an HTTP request to an origin that stands in the settings (marked `connect`), and waits
    /// for the response's headers. Redirects are the plugin's business.
    ///
    /// # Errors
    ///
    /// [`HttpError::Denied`] when the origin is not granted; otherwise what the network says.
    pub fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.backend.send(request)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// What stands behind a [`Host`]: the component's imports, or a fake.
pub(crate) trait Backend: Clone {
    fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError>;
    fn watch_file(&self, path: &str) -> Result<Box<dyn FileWatchBackend>, FileError>;
    fn connect(
        &self,
        to: &Target,
        timeout: Duration,
    ) -> Result<Box<dyn ConnectionBackend>, EndpointError>;
    fn send(&self, request: Request) -> Result<Response, HttpError>;
}

pub(crate) trait FileWatchBackend {
    fn wait(&mut self, timeout: Duration) -> Result<bool, FileError>;
}

pub(crate) trait ConnectionBackend {
    fn read(&mut self, max: usize, timeout: Duration) -> Result<Vec<u8>, EndpointError>;
    fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), EndpointError>;
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, as it stands in the settings.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether to speak TLS.
    pub tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
