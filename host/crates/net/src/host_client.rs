//! HTTP requests of the host itself, to URLs that the operator configures: webhooks, a running host, a
//! telemetry collector.

use crate::{
    crypto_provider::crypto_provider,
    file_reads::read_file,
    name_lookup_pool, pem,
    response_head_limits::{InformationalLimit, head_too_large},
    system_roots,
    yielding_stream::YieldingStream,
};
use http::{HeaderValue, Request, header};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Maximum size of a response head, in bytes. `hyper` also limits the number of header fields.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Maximum size of a certificate or key file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Value of the `user-agent` header.
const USER_AGENT: &str = concat!("reloader-host/", env!("CARGO_PKG_VERSION"));

/// Parses a URL for requests: `http` or `https`, without a user name.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
        return Err("expected a URL like https://example.com/path".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "expected a URL without a user name; hint: use `headers` for credentials".into()
        );
    }
    Ok(url)
}

/// Returns a TLS configuration that trusts the authorities in `ca`, or those of the system. `identity` is a
/// client certificate file and its key file. Reads the files each time, and blocks.
pub fn client_config(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        // Without trust roots, each TLS handshake fails with the error `UnknownIssuer`.
        None => system_roots::load().unwrap_or_else(|_| Arc::new(RootCertStore::empty())),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "ca")? {
                roots.add(certificate).map_err(|error| invalid_file(path, "ca", &error))?;
            }
            Arc::new(roots)
        }
    };
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let text = read_file(key, MAX_FILE_BYTES).map_err(|error| invalid_file(key, "key", &error))?;
    let private = pem::private_key(&text).map_err(|error| invalid_file(key, "key", &error))?;
    let config = config.with_client_auth_cert(certificates(cert, "cert")?, private);
    config.map(Arc::new).map_err(|error| invalid_file(cert, "cert", &error))
}

fn invalid_file(path: &Path, setting: &str, reason: &dyn fmt::Display) -> String {
    format!("`{}` (`{setting}`): {reason}", path.display())
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text =
        read_file(path, MAX_FILE_BYTES).map_err(|error| invalid_file(path, setting, &error))?;
    pem::certificates(&text).map_err(|error| invalid_file(path, setting, &error))
}

/// Byte stream to a server, with or without TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects to the host of a URL, with TLS if a configuration is given.
pub async fn connect(
    url: &Url,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn ByteStream>, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // Brackets enclose an IPv6 address only in a URL.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let failed = |error| format!("cannot connect to `{host}:{port}`: {error}");
    let addresses = resolve(bare, port).await.map_err(failed)?;
    let stream = TcpStream::connect(&*addresses).await.map_err(failed)?;
    // Sends small requests without delay. A failure only affects latency.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = match url.host() {
        Some(Host::Ipv4(address)) => ServerName::from(IpAddr::from(address)),
        Some(Host::Ipv6(address)) => ServerName::from(IpAddr::from(address)),
        _ => ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?,
    };
    let secured = TlsConnector::from(tls).connect(name, stream).await;
    Ok(Box::new(
        secured.map_err(|error| format!("`{host}:{port}`: TLS: {}", describe_tls_error(&error)))?,
    ))
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    name_lookup_pool::run(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

/// Returns the reason of a failed TLS handshake, with a hint where one is known.
fn describe_tls_error(error: &io::Error) -> String {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = known else { return error.to_string() };
    match reason {
        CertificateError::UnknownIssuer => {
            "the server certificate was not issued by a trusted authority; hint: set `ca` to trust its authority"
                .into()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server certificate is that of a certificate authority; hint: create it with \
             `openssl … -addext basicConstraints=critical,CA:FALSE`"
                .into()
        }
        other => format!("invalid server certificate: {other}"),
    }
}

/// Returns the value of the `host` header for a URL.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Sends a request, and passes the response to `read`. Limits the size of the response head and the number of
/// informational responses. The caller limits the time and the body.
pub async fn exchange<S, B, T>(
    stream: S,
    authority: &str,
    mut request: Request<B>,
    read: impl AsyncFnOnce(http::Response<Incoming>) -> Result<T, String>,
) -> Result<T, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let authority = HeaderValue::try_from(authority).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, authority);
    let agent = HeaderValue::from_static(USER_AGENT);
    request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
    let failed = |error: hyper::Error| match error.is_parse() {
        _ if error.is_parse_too_large() => {
            head_too_large(&format_args!("at most {MAX_HEAD_BYTES} bytes"))
        }
        true => format!("invalid HTTP response ({error}); does the server require `https://`?"),
        false => format!("no response: {error}"),
    };
    let informational = InformationalLimit::attach(&mut request);
    let stream = TokioIo::new(YieldingStream::new(stream, ()));
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = client.handshake(stream).await.map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        read(response).await
    });
    tokio::select! {
        biased;
        exceeded = informational.exceeded() => Err(exceeded.to_string()),
        result = &mut exchange => result,
        // If the connection ends first, e.g. because the server closed it, the exchange still returns its
        // response or its error.
        _ = &mut connection => exchange.await,
    }
}
