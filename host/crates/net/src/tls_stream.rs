//! TLS on top of a connection, and what its failures mean.

use crate::{stream::Stream, tls_config::Client};
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

/// What is offered to speak on top of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// Nothing is said of it.
    Any,
    /// HTTP/2, or else HTTP/1.1.
    Http,
}

/// Speaks TLS on a connection.
pub(crate) async fn connect(
    stream: TcpStream,
    to: &HostPort,
    client: &Client,
    protocols: Protocols,
) -> Result<Box<dyn Stream>, String> {
    let name = match &client.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(to.host()).map_err(|error| error.to_string())?,
    };
    let config = match protocols {
        Protocols::Any => &client.config,
        Protocols::Http => &client.http,
    };
    let connecting = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let stream = connecting.await.map_err(|error| explain(&error, client))?;
    Ok(Box::new(Secure { stream, client: client.clone(), heard: false }))
}

/// A connection by TLS. Until the server has said something, its end may mean that it has refused the
/// client: in TLS 1.3 that happens after the client has begun to speak.
struct Secure {
    stream: TlsStream<TcpStream>,
    client: Client,
    heard: bool,
}

impl Secure {
    /// An error in words, if it is one of TLS.
    fn told(&self, error: io::Error) -> io::Error {
        let of_tls = error.get_ref().is_some_and(|cause| cause.is::<Error>());
        if of_tls {
            return io::Error::other(format!("TLS: {}", explain(&error, &self.client)));
        }
        self.unheard().unwrap_or(error)
    }

    /// What an end without a word means.
    fn unheard(&self) -> Option<io::Error> {
        if self.heard || !self.client.identity.was_asked_for() {
            return None;
        }
        let why = match &self.client.identity.file {
            None => format!("TLS: the server closed the connection; {WANTS}"),
            Some(file) => format!(
                "TLS: the server closed the connection after it had been shown the certificate in \
                 `{}` (`--tls-cert`)",
                file.display()
            ),
        };
        Some(io::Error::other(why))
    }
}

const WANTS: &str =
    "it wants a client certificate, which `--tls-cert FILE` and `--tls-key FILE` name";

impl Stream for Secure {
    fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(match read {
            Ok(()) if buffer.filled().len() > before => {
                self.heard = true;
                Ok(())
            }
            Ok(()) => self.unheard().map_or(Ok(()), Err),
            Err(error) => Err(self.told(error)),
        })
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.told(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.told(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why there is no TLS, and what would help.
fn explain(error: &io::Error, client: &Client) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(wrong)) => certificate(wrong, client),
        Some(Error::AlertReceived(alert)) => refused(*alert, client),
        Some(Error::InvalidMessage(_)) => format!("{error}; does the server speak TLS there?"),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection; does it speak TLS there?".into()
        }
        None => error.to_string(),
    }
}

/// What is wrong with the server's certificate.
fn certificate(wrong: &CertificateError, client: &Client) -> String {
    match wrong {
        CertificateError::UnknownIssuer => match &client.ca {
            None => "nobody whom this machine trusts has issued the server's certificate; \
                     `--tls-ca FILE` names the authority that has"
                .into(),
            Some(file) => format!(
                "none of the authorities in `{}` (`--tls-ca`) has issued the server's certificate",
                file.display()
            ),
        },
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the server's certificate has expired: it was valid until {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the server's certificate is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the server's certificate is {}, not for `{}`; `--tls-server-name NAME` says which name \
             to expect",
            names(presented),
            expected.to_str()
        ),
        other => {
            let text = format!("the server's certificate cannot be used: {other}");
            // What `openssl req -x509` makes unless it is told otherwise.
            if text.contains("CaUsedAsEndEntity") {
                text + " (it is an authority's; a server needs one with `basicConstraints=CA:FALSE`)"
            } else {
                text
            }
        }
    }
}

fn date(time: rustls::pki_types::UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// The names in a certificate, which arrive as `DnsName("a.example")` and `IpAddress(10.0.0.7)`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        format!("`{}`", inside.unwrap_or(name).trim_matches('"'))
    };
    match presented {
        [] => "for no name at all".into(),
        some => format!("for {}", some.iter().map(plain).collect::<Vec<_>>().join(", ")),
    }
}

/// What the server has said against the client.
fn refused(alert: AlertDescription, client: &Client) -> String {
    use AlertDescription as Alert;
    let of_identity = matches!(
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
        _ if !of_identity || !client.identity.was_asked_for() => {
            format!("the server ended it: {alert:?}")
        }
        None => format!("the server ended it: {alert:?}; {WANTS}"),
        Some(file) => format!(
            "the server does not accept the certificate in `{}` (`--tls-cert`): {alert:?}",
            file.display()
        ),
    }
}
