//! Network connections. The host dials and terminates TLS; the plugin reads and writes plain bytes.

use std::{
    fmt,
    io::{self, Read, Write},
    time::Duration,
};

/// A connection to a granted host and port. Each read and write has a timeout.
pub struct Connection {
    backend: Box<dyn ConnectionBackend>,
    timeout: Duration,
}

impl Connection {
    /// Timeout of a read or write, unless changed with [`set_timeout`](Self::set_timeout).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn new(backend: Box<dyn ConnectionBackend>) -> Self {
        Self { backend, timeout: Self::DEFAULT_TIMEOUT }
    }

    /// Sets the timeout of each subsequent read and write.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits at most `timeout` for data and returns it. Returns `None` if no data arrived.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is lost.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, EndpointError> {
        match self.backend.read(POLL_READ_BYTES, timeout) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(EndpointError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Maximum size of one read by [`Connection::poll`], in bytes. The host bounds the data of one host call.
const POLL_READ_BYTES: usize = 64 * 1024;

impl Read for Connection {
    /// Returns 0 if the server closed the connection.
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

/// Implementation behind a [`Connection`]: a socket of the host, or a scripted connection in tests.
pub(crate) trait ConnectionBackend {
    fn read(&mut self, max: usize, timeout: Duration) -> Result<Vec<u8>, EndpointError>;
    fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), EndpointError>;
}

/// Server to connect to: its address, and whether the connection uses TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or IP address, exactly as in the settings.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Set if the host encrypts the connection with TLS.
    pub tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Error of a connection attempt, a read or a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointError {
    /// The address is not granted. The message names the missing grant.
    Denied(String),
    /// No data arrived before the timeout of a read. The connection remains usable. A timeout of a connection attempt
    /// or of a write is [`Failed`](Self::Failed).
    TimedOut,
    /// The server closed the connection.
    Closed,
    /// Any other error.
    Failed(String),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(message) | Self::Failed(message) => f.write_str(message),
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("connection closed by the server"),
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
