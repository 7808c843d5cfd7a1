//! Network connections: the host dials and speaks TLS, the plugin sees plain bytes.

use crate::host::ConnectionBackend;
use std::{
    fmt,
    io::{self, Read, Write},
    time::Duration,
};

/// A connection. Reads and writes as any stream does, within a time limit.
pub struct Connection {
    backend: Box<dyn ConnectionBackend>,
    timeout: Duration,
}

impl Connection {
    /// How long a read or write may take until [`set_timeout`](Self::set_timeout) says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn new(backend: Box<dyn ConnectionBackend>) -> Self {
        Self { backend, timeout: Self::DEFAULT_TIMEOUT }
    }

    /// Limits each following read and write.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits until there is something to read, at most `timeout`: `None` when there was nothing.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, EndpointError> {
        match self.backend.read(READ_SIZE, timeout) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(EndpointError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How much one read asks for: a host-call's data is bounded, and a buffer of this size is cheap.
const READ_SIZE: usize = 64 * 1024;

impl Read for Connection {
    /// 0 when the other side closed the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.backend.read(buffer.len(), self.timeout) {
            Ok(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(EndpointError::Closed) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.backend.write(bytes, self.timeout)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why a connection could not be made or used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointError {
    /// The address is not granted; the message says what would allow it.
    Denied(String),
    /// Nothing was read in the time allowed. The connection can still be used.
    TimedOut,
    /// The other side closed the connection.
    Closed,
    /// Anything else.
    Failed(String),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(message) | Self::Failed(message) => f.write_str(message),
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("the other side closed the connection"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl From<EndpointError> for io::Error {
    fn from(error: EndpointError) -> Self {
        let kind = match &error {
            EndpointError::Denied(_) => io::ErrorKind::PermissionDenied,
            EndpointError::TimedOut => io::ErrorKind::TimedOut,
            EndpointError::Closed => io::ErrorKind::ConnectionAborted,
            EndpointError::Failed(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
