//! How a connection is made: one name, looked up once; every address checked, and only those dialled.

use crate::{
    deadline::{Deadline, Phase, Progress},
    executor::Tasks,
    resolve::LookUps,
    stream::Stream,
    tls_config::Client,
    tls_stream,
};
use reloader_policy::{AddressPolicy, HostPort, RefusedAddress};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout_at},
};

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The name stands for an address that it may not stand for.
    #[error("{0}")]
    Refused(RefusedAddress),
    /// Anything else, with what was to be connected to in front.
    #[error("{0}")]
    Failed(String),
}

impl DialError {
    pub(crate) fn failed(to: &HostPort, why: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{to}: {why}"))
    }
}

/// How long an address has before the next one is tried as well (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
/// How many addresses of a name are dialled.
const ADDRESSES: usize = 16;

/// How many may be open at once. A place is not waited for: what holds the others may be the same guest.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    left: Arc<Semaphore>,
    limit: usize,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self { left: Arc::new(Semaphore::new(limit)), limit }
    }

    /// One of them, until it is dropped.
    pub(crate) fn hold(&self, to: &HostPort) -> Result<OwnedSemaphorePermit, DialError> {
        Arc::clone(&self.left).try_acquire_owned().map_err(|_| {
            let limit = self.limit;
            DialError::failed(
                to,
                format_args!(
                    "too many connections and requests at once (limit `connections` is {limit})"
                ),
            )
        })
    }
}

/// Makes connections for one source.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    pub(crate) look_ups: LookUps,
    pub(crate) addresses: Arc<AddressPolicy>,
    pub(crate) tasks: Tasks,
    /// For connections of HTTP: each counts until it is closed, also while nobody uses it.
    pub(crate) kept: Places,
}

impl Dialler {
    /// Connects, by TLS if there is a client for it. `protocols` says which ones are offered there.
    pub(crate) async fn dial(
        &self,
        to: &HostPort,
        tls: Option<(&Client, tls_stream::Protocols)>,
        deadline: Deadline,
        progress: &Progress,
    ) -> Result<Box<dyn Stream>, DialError> {
        let connection = async {
            progress.enter(Phase::Resolving);
            let found = self.look_ups.addresses(to).await;
            let found = found.map_err(|error| DialError::failed(to, error))?;
            // One bad answer among good ones is what an attack on names looks like.
            for address in &found {
                self.addresses.check(to, address.ip()).map_err(DialError::Refused)?;
            }
            progress.enter(Phase::Connecting);
            let stream = connect(&found, &self.tasks.there())
                .await
                .map_err(|error| DialError::failed(to, error))?;
            stream.set_nodelay(true).map_err(|error| DialError::failed(to, error))?;
            let Some((client, protocols)) = tls else { return Ok(Box::new(stream) as _) };
            progress.enter(Phase::Tls);
            let secure = tls_stream::connect(stream, to, client, protocols).await;
            secure.map_err(|why| DialError::failed(to, format_args!("TLS: {why}")))
        };
        let over = |_| DialError::failed(to, deadline.over(progress.phase()));
        let connection = timeout_at(deadline.at, connection).await.map_err(over)??;
        progress.enter(Phase::Waiting);
        Ok(connection)
    }
}

/// The first of these that answers, connected `there`. The next one is tried when the one before has
/// failed, or has not answered for a moment.
async fn connect(addresses: &[SocketAddr], there: &Handle) -> Result<TcpStream, String> {
    let mut attempts = JoinSet::new();
    let mut left = addresses.iter().copied().take(ADDRESSES);
    let mut failures = Vec::new();
    loop {
        let next = left.next();
        if let Some(address) = next {
            let attempt = async move { (address, TcpStream::connect(address).await) };
            attempts.spawn_on(attempt, there);
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(HEAD_START), if left.len() > 0 => continue,
        };
        match ended {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((address, Err(error)))) => failures.push((address, error)),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err(explain(&failures)),
        }
    }
}

fn explain(failures: &[(SocketAddr, io::Error)]) -> String {
    match failures {
        [] => "the name has no address".into(),
        [(_, error)] => error.to_string(),
        all => {
            let each: Vec<_> =
                all.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
            format!("none of its addresses answers: {}", each.join(", "))
        }
    }
}
