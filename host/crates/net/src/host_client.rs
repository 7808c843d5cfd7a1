//! Requests of the host's own, to whoever its operator names: a webhook, a running host.

use http::{HeaderValue, Request, header};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    error::Error,
    fmt, fs, io,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Who asks.
const USER_AGENT: &str = concat!("reloader-host/", env!("CARGO_PKG_VERSION"));

/// A URL that requests can be sent to: `http` or `https`, and without a user.
pub fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
        return Err("expected a URL like https://example.com/path".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without a user; use `headers` for that".into());
    }
    Ok(url)
}

/// How TLS is spoken: with these authorities, or those of this machine; and with a certificate of one's
/// own, and its key. The files are read each time, and it blocks for as long as that takes.
pub fn tls(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        None => of_this_machine(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "ca")? {
                roots.add(certificate).map_err(|error| wrong(path, "ca", &error))?;
            }
            Arc::new(roots)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let pem = fs::read(key).map_err(|error| wrong(key, "key", &error))?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(key, "key", &error))?;
    let config = config.with_client_auth_cert(certificates(cert, "cert")?, private);
    config.map(Arc::new).map_err(|error| wrong(cert, "cert", &error))
}

/// The authorities of this machine take their time to be read, and are read again after an hour.
fn of_this_machine() -> Arc<RootCertStore> {
    static KEPT: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    const KEPT_FOR: Duration = Duration::from_secs(3600);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, roots)) = kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT_FOR) {
        return Arc::clone(roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let roots = Arc::new(roots);
    *kept = Some((Instant::now(), Arc::clone(&roots)));
    roots
}

fn wrong(path: &Path, of: &str, why: &dyn fmt::Display) -> String {
    format!("`{}` (`{of}`): {why}", path.display())
}

fn certificates(path: &Path, of: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| wrong(path, of, &error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| wrong(path, of, &error))?;
    if all.is_empty() {
        return Err(wrong(path, of, &"there is no certificate in it"));
    }
    Ok(all)
}

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to where a URL leads, by TLS if that is told how to.
pub async fn connect(url: &Url, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // An address of IPv6 is in brackets in a URL, and nowhere else.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port))
        .await
        .map_err(|error| format!("`{host}:{port}` cannot be reached: {error}"))?;
    // A small request is to go out at once.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = match url.host() {
        Some(Host::Ipv4(address)) => ServerName::from(IpAddr::from(address)),
        Some(Host::Ipv6(address)) => ServerName::from(IpAddr::from(address)),
        _ => ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?,
    };
    let secured = TlsConnector::from(tls).connect(name, stream).await;
    Ok(Box::new(secured.map_err(|error| format!("`{host}:{port}`: TLS: {}", why(&error)))?))
}

/// What is wrong with TLS, and what to do about it where that is known.
fn why(error: &io::Error) -> String {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = known else { return error.to_string() };
    match wrong {
        CertificateError::UnknownIssuer => {
            "the certificate is of an authority that is not trusted (trust it with `ca`)".into()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate is an authority's own; a server needs one that is none (in openssl: \
             `-addext basicConstraints=critical,CA:FALSE`)"
                .into()
        }
        other => format!("the certificate cannot be trusted: {other}"),
    }
}

/// What a request says of where it is sent.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Sends a request, and reads of its answer what the caller makes of it.
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
        true => format!("what answers does not speak HTTP ({error}); is it `https://`?"),
        false => format!("no answer: {error}"),
    };
    let (mut sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        read(answer).await
    });
    tokio::select! {
        answer = &mut answer => answer,
        // It ends first when there is no answer, and then the request says why.
        _ = &mut connection => answer.await,
    }
}
