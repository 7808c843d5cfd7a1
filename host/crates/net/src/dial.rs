//! Dialling: resolves a name once, checks every address against the address policy, and connects only to
//! checked addresses (Happy Eyeballs, RFC 8305).

use crate::{
    bounded_name_lookups::SourceResolver,
    connection_limit::{ConnectionLimit, LimitReached},
    connection_thread_executor::ConnectionExecutor,
    deadline::{Deadline, Phase, Progress},
    stream::Stream,
    tls_config::TlsClient,
    tls_stream,
};
use reloader_policy::{AddressPolicy, DeniedAddress, HostPort};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    task::JoinSet,
    time::{sleep, timeout_at},
};

/// Reason why a connection could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The name resolves to an address that the address policy denies.
    #[error("{0}")]
    Denied(DeniedAddress),
    /// Any other failure. The message starts with the host and port.
    #[error("{0}")]
    Failed(String),
}

impl DialError {
    pub(crate) fn failed(to: &HostPort, reason: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{to}: {reason}"))
    }
}

impl From<LimitReached> for DialError {
    fn from(error: LimitReached) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Connection Attempt Delay of RFC 8305: time until the next address is tried in parallel.
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of addresses that are tried for one name.
const MAX_ADDRESSES: usize = 16;

/// Dialler of one source: resolves the name, checks the addresses, connects and performs the TLS handshake.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    pub(crate) resolver: SourceResolver,
    pub(crate) address_policy: Arc<AddressPolicy>,
    pub(crate) executor: ConnectionExecutor,
    /// Limit on the number of HTTP connections of the source, including idle ones.
    pub(crate) http_connections: ConnectionLimit,
}

impl Dialler {
    /// Connects, and performs the TLS handshake if `tls` is given. `tls` includes the protocols to offer.
    pub(crate) async fn dial(
        &self,
        to: &HostPort,
        tls: Option<(&TlsClient, tls_stream::Protocols)>,
        deadline: Deadline,
        progress: &Progress,
    ) -> Result<Box<dyn Stream>, DialError> {
        let connection = async {
            progress.enter(Phase::Resolving);
            let addresses = self.resolver.resolve(to).await;
            let addresses = addresses.map_err(|error| DialError::failed(to, error))?;
            // A single denied address fails the whole name: a mix of public and private addresses is
            // typical of a DNS rebinding attack.
            for address in &addresses {
                self.address_policy.check(to, address.ip()).map_err(DialError::Denied)?;
            }
            progress.enter(Phase::Connecting);
            let stream = connect(&addresses, &self.executor.handle())
                .await
                .map_err(|error| DialError::failed(to, error))?;
            stream.set_nodelay(true).map_err(|error| DialError::failed(to, error))?;
            let Some((client, protocols)) = tls else { return Ok(Box::new(stream) as _) };
            progress.enter(Phase::TlsHandshake);
            let secure = tls_stream::connect(stream, to, client, protocols).await;
            secure.map_err(|reason| DialError::failed(to, format_args!("TLS: {reason}")))
        };
        let timed_out = |_| DialError::failed(to, deadline.timeout_message(progress.phase()));
        let connection = timeout_at(deadline.at, connection).await.map_err(timed_out)??;
        progress.enter(Phase::AwaitingResponse);
        Ok(connection)
    }
}

/// Returns the first connection that succeeds, registered with `runtime`. Tries the next address after a
/// failure, or after [`CONNECTION_ATTEMPT_DELAY`].
async fn connect(addresses: &[SocketAddr], runtime: &Handle) -> Result<TcpStream, String> {
    let mut attempts = JoinSet::new();
    let mut remaining = addresses.iter().copied().take(MAX_ADDRESSES);
    let mut failures = Vec::new();
    loop {
        let next = remaining.next();
        if let Some(address) = next {
            let attempt = async move { (address, TcpStream::connect(address).await) };
            attempts.spawn_on(attempt, runtime);
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(CONNECTION_ATTEMPT_DELAY), if remaining.len() > 0 => continue,
        };
        match ended {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((address, Err(error)))) => failures.push((address, error)),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err(describe_failures(&failures)),
        }
    }
}

fn describe_failures(failures: &[(SocketAddr, io::Error)]) -> String {
    match failures {
        [] => "the name has no addresses".into(),
        [(_, error)] => error.to_string(),
        all => {
            let each: Vec<_> =
                all.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
            format!("cannot connect to any address: {}", each.join(", "))
        }
    }
}
