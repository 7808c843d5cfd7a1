//! TLS client connections, and error messages for failed handshakes.

use crate::{deadline::NOT_TLS, stream::Stream, tls_config::TlsClient};
use reloader_policy::HostPort;
use rustls::{AlertDescription, CertificateError, Error, pki_types::ServerName};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Application protocols to offer through ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// No ALPN: the plugin chooses the application protocol.
    Any,
    /// Offers HTTP/2 and HTTP/1.1.
    Http,
}

/// Performs the TLS handshake on a connection.
pub(crate) async fn connect(
    stream: TcpStream,
    to: &HostPort,
    client: &TlsClient,
    protocols: Protocols,
) -> Result<Box<dyn Stream>, String> {
    let name = match &client.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(to.host()).map_err(|error| error.to_string())?,
    };
    let config = match protocols {
        Protocols::Any => &client.config,
        Protocols::Http => &client.http_config,
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let stream = handshake.await.map_err(|error| describe(&error, client))?;
    Ok(Box::new(SecureStream { stream, client: client.clone(), has_received: false }))
}

/// TLS connection.
///
/// In TLS 1.3, a server verifies the client certificate after the client considers the handshake complete.
/// If the server closes the connection before it sends data, it may have rejected the client certificate.
struct SecureStream {
    stream: TlsStream<TcpStream>,
    client: TlsClient,
    /// Set once the server has sent data.
    has_received: bool,
}

impl SecureStream {
    /// Replaces a TLS error, or an error after an early close, by one that states the reason.
    fn explain_error(&self, error: io::Error) -> io::Error {
        let is_tls = error.get_ref().is_some_and(|cause| cause.is::<Error>());
        if is_tls {
            return io::Error::other(format!("TLS: {}", describe(&error, &self.client)));
        }
        self.early_close_error().unwrap_or(error)
    }

    /// Returns an error for a connection that the server closed without data after it had requested a client
    /// certificate.
    fn early_close_error(&self) -> Option<io::Error> {
        if self.has_received || !self.client.identity.was_requested() {
            return None;
        }
        let message = match &self.client.identity.file {
            None => format!("TLS: connection closed by the server; {CERTIFICATE_REQUIRED}"),
            Some(file) => format!(
                "TLS: connection closed by the server; it may have rejected the client certificate in \
                 `{}` (`--tls-cert`)",
                file.display()
            ),
        };
        Some(io::Error::other(message))
    }
}

const CERTIFICATE_REQUIRED: &str =
    "the server requires a client certificate; hint: set `--tls-cert FILE` and `--tls-key FILE`";

impl Stream for SecureStream {
    fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(match read {
            Ok(()) if buffer.filled().len() > before => {
                self.has_received = true;
                Ok(())
            }
            Ok(()) => self.early_close_error().map_or(Ok(()), Err),
            Err(error) => Err(self.explain_error(error)),
        })
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.explain_error(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.explain_error(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Returns the reason of a failed handshake, with a hint where one is known.
fn describe(error: &io::Error, client: &TlsClient) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(error)) => describe_certificate_error(error, client),
        Some(Error::AlertReceived(alert)) => describe_alert(*alert, client),
        Some(Error::InvalidMessage(_)) => format!("{error}; {NOT_TLS}"),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("connection closed by the server; {NOT_TLS}")
        }
        None => error.to_string(),
    }
}

/// Describes an invalid server certificate.
fn describe_certificate_error(error: &CertificateError, client: &TlsClient) -> String {
    match error {
        CertificateError::UnknownIssuer => match &client.ca {
            None => {
                "the server certificate was not issued by a trusted authority; hint: set `--tls-ca FILE` \
                     to trust its authority"
                    .into()
            }
            Some(file) => format!(
                "the server certificate was not issued by an authority in `{}` (`--tls-ca`)",
                file.display()
            ),
        },
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the server certificate expired on {}", to_date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the server certificate is not valid before {}", to_date(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the server certificate is {}, not for `{}`; hint: set `--tls-server-name NAME` to expect a \
             different name",
            list_names(presented),
            expected.to_str()
        ),
        other => {
            let text = format!("invalid server certificate: {other}");
            // By default, `openssl req -x509` creates a certificate of an authority.
            if text.contains("CaUsedAsEndEntity") {
                text + " (issued for a certificate authority; a server certificate needs `basicConstraints=CA:FALSE`)"
            } else {
                text
            }
        }
    }
}

fn to_date(time: rustls::pki_types::UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// Lists the names in a certificate. rustls formats them as `DnsName("a.example")` and
/// `IpAddress(10.0.0.7)`.
fn list_names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        format!("`{}`", inside.unwrap_or(name).trim_matches('"'))
    };
    match presented {
        [] => "for no name".into(),
        names => format!("for {}", names.iter().map(plain).collect::<Vec<_>>().join(", ")),
    }
}

/// Describes an alert by which the server ended the handshake.
fn describe_alert(alert: AlertDescription, client: &TlsClient) -> String {
    use AlertDescription as Alert;
    let concerns_identity = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    );
    match &client.identity.file {
        _ if !concerns_identity || !client.identity.was_requested() => {
            format!("rejected by the server: {alert:?}")
        }
        None => format!("rejected by the server: {alert:?}; {CERTIFICATE_REQUIRED}"),
        Some(file) => format!(
            "the server rejected the client certificate in `{}` (`--tls-cert`): {alert:?}",
            file.display()
        ),
    }
}
