//! Low-level HTTP client that never retries a request. It can keep a connection until the host closes it.

use e2e::{Authority, Identity, WAIT_TIMEOUT};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bidirectional stream.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

enum Target {
    Tcp(u16),
    Tls(u16, Arc<ClientConfig>),
    Unix(PathBuf),
}

/// HTTP client that connects to one socket of the host.
pub(crate) struct Client {
    target: Target,
    kept: Option<BufReader<Box<dyn Stream>>>,
}

impl Client {
    fn new(target: Target) -> Self {
        Self { target, kept: None }
    }

    pub(crate) fn tcp(port: u16) -> Self {
        Self::new(Target::Tcp(port))
    }

    pub(crate) fn unix(path: &Path) -> Self {
        Self::new(Target::Unix(path.into()))
    }

    /// Creates a client over TLS, which presents the certificate of `identity` if one is given.
    pub(crate) fn tls(port: u16, authority: &Authority, identity: Option<&Identity>) -> Self {
        let certificates = |pem: &str| -> Vec<_> {
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&authority.pem()) {
            roots.add(root).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config.with_client_auth_cert(certificates(&identity.certificate), key).unwrap()
            }
        };
        Self::new(Target::Tls(port, Arc::new(config)))
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> io::Result<BufReader<Box<dyn Stream>>> {
        let tcp = |port: u16| {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        let stream: Box<dyn Stream> = match &self.target {
            Target::Tcp(port) => Box::new(tcp(*port)?),
            Target::Unix(path) => Box::new(UnixStream::connect(path)?),
            Target::Tls(port, config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let client = ClientConnection::new(Arc::clone(config), name).unwrap();
                Box::new(StreamOwned::new(client, tcp(*port)?))
            }
        };
        Ok(BufReader::new(stream))
    }

    /// Sends a request on a new connection, and returns the status.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Result<u16, String> {
        let status = self.connect().and_then(|mut stream| request.exchange(&mut stream));
        status.map_err(|error| error.to_string())
    }

    /// Closes the kept connection.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }

    /// Sends a request on the kept connection, and returns the status. Returns an error if the host has
    /// closed this connection; the next request then opens a new one.
    pub(crate) fn ask_on_kept_connection(&mut self, request: &Request<'_>) -> Result<u16, String> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => self.connect().map_err(|error| error.to_string())?,
        };
        let status = request.exchange(&mut stream);
        if status.is_ok() {
            self.kept = Some(stream);
        }
        status.map_err(|error| error.to_string())
    }
}

/// Request without a body.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) authorization: Option<&'a str>,
    pub(crate) if_none_match: Option<&'a str>,
}

/// Head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: usize,
    pub(crate) etag: Option<String>,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str, authorization: Option<&'a str>) -> Self {
        Self { method: "GET", path, host: "localhost", authorization, if_none_match: None }
    }

    /// Sends the request and reads the head of the response.
    pub(crate) fn begin(&self, stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<Head> {
        let Self { method, path, host, .. } = self;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in
            [("authorization", self.authorization), ("if-none-match", self.if_none_match)]
        {
            if let Some(value) = value {
                request += &format!("{name}: {value}\r\n");
            }
        }
        stream.get_mut().write_all((request + "\r\n").as_bytes())?;
        stream.get_mut().flush()?;
        let mut line = || {
            let mut line = String::new();
            match stream.read_line(&mut line)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok(line.trim_end().to_owned()),
            }
        };
        let status = line()?.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let mut head = Head { status, length: 0, etag: None };
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(": ") else { return Ok(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().unwrap(),
                "etag" => head.etag = Some(value.into()),
                _ => {}
            }
        }
    }

    fn exchange(&self, stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<u16> {
        let Head { status, length, .. } = self.begin(stream)?;
        stream.read_exact(&mut vec![0; length])?;
        Ok(status)
    }
}
