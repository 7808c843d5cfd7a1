//! Plain and TLS connections, for `endpoint`.

use super::tls;
use crate::capability::HostPort;
use rustls::pki_types::ServerName;
use std::io;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

/// A connection, TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects: resolving, dialling the addresses one after the other, and TLS. The caller limits the
/// time for all of it.
///
/// # Errors
///
/// What the system or the other side says, with the address in front.
pub async fn dial(to: &HostPort, with_tls: bool) -> io::Result<Box<dyn Stream>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{to}: {error}"));
    let stream = connect(to).await.map_err(named)?;
    if !with_tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(to.host()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(tls::config()?);
    let failed = |error: io::Error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let hint = match cause {
            Some(rustls::Error::InvalidMessage(_)) => "; does the server speak TLS there?",
            _ => "",
        };
        io::Error::other(format!("{to}: TLS: {error}{hint}"))
    };
    Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
}

async fn connect(to: &HostPort) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host((to.host(), to.port())).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
}
