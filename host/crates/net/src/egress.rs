//! A source's way out.

use crate::{
    deadline::{Deadline, Phase, Progress, WAIT, WAIT_MAX},
    dial::{DialError, Dialler, Places},
    executor::Tasks,
    http_client::Clients,
    resolve::{self, LookUps, Resolve},
    stream::Stream,
    tls_config::{SystemRoots, Tls},
    tls_settings::TlsSettings,
    tls_stream::Protocols,
};
use reloader_policy::{AddressPolicy, HostPort};
use reloader_util::thread_pool::{ThreadPool, ThreadPriority};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// What all sources share: who resolves names, and whom this machine trusts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    resolver: Arc<dyn Resolve>,
    look_ups: Arc<Semaphore>,
    roots: Arc<SystemRoots>,
    /// Where connections of HTTP are looked after: what servers send is not to hold up the program.
    connections: Arc<ThreadPool>,
}

impl Default for Network {
    fn default() -> Self {
        Self::resolving(Arc::new(resolve::System))
    }
}

/// What a source may reach beyond public addresses, and how its connections are secured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Reach {
    /// The addresses that its names may stand for.
    pub addresses: AddressPolicy,
    /// TLS.
    pub tls: TlsSettings,
}

/// How much a source may use of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that are open, and requests that are under way.
    pub connections: usize,
    /// Time for a connection: resolving, dialling and TLS.
    pub connect: Duration,
    /// Time from one piece of a response's body to the next.
    pub idle: Duration,
    /// Time for a request in all, until its body has been read.
    pub total: Duration,
    /// A response's body, decompressed, in bytes.
    pub body: usize,
    /// The head of a response, in bytes. It has 100 fields at most, as `hyper` has it.
    pub head: usize,
}

impl Network {
    /// With a resolver of one's own.
    #[must_use]
    pub fn resolving(resolver: Arc<dyn Resolve>) -> Self {
        let look_ups = Arc::new(Semaphore::new(resolve::ALL));
        let connections = Arc::new(ThreadPool::new("connections", 1, ThreadPriority::Normal));
        Self { resolver, look_ups, roots: Arc::default(), connections }
    }

    /// A source's way out. Nothing is connected yet.
    #[must_use]
    pub fn line(&self, reach: Reach, bounds: Bounds) -> Line {
        let Reach { addresses, tls } = reach;
        let tasks = Tasks::on(&self.connections);
        let look_ups = LookUps::new(Arc::clone(&self.resolver), Arc::clone(&self.look_ups));
        Line {
            dialler: Dialler {
                look_ups,
                addresses: Arc::new(addresses),
                tasks,
                kept: Places::new(bounds.connections),
            },
            tls: Arc::new(Tls::new(tls, Arc::clone(&self.roots))),
            clients: Clients::new(bounds.head),
            open: Places::new(bounds.connections),
            bounds,
        }
    }
}

/// A source's way out. Its connections are its own: they are used again, for HTTP, but never by another
/// source, which might be somebody else to the server, or would have to wait behind this one's requests.
#[derive(Debug)]
pub struct Line {
    pub(crate) dialler: Dialler,
    pub(crate) tls: Arc<Tls>,
    pub(crate) clients: Clients,
    pub(crate) bounds: Bounds,
    /// For connections that a guest holds, and requests that are under way.
    pub(crate) open: Places,
}

/// A connection, which counts until it is dropped.
pub struct Connection {
    /// What is read from and written to.
    pub stream: Box<dyn Stream>,
    _held: OwnedSemaphorePermit,
}

impl Line {
    /// Connects, within `limit` at most.
    ///
    /// # Errors
    ///
    /// [`DialError`].
    pub async fn dial(
        &self,
        to: &HostPort,
        with_tls: bool,
        limit: Duration,
    ) -> Result<Connection, DialError> {
        let held = self.open.hold(to)?;
        let now = Instant::now();
        let asked = Deadline::asked(now, Some(limit), WAIT, WAIT_MAX);
        let deadline = asked.or(self.connect_limit(now));
        let progress = Progress::default();
        let client = if with_tls {
            progress.enter(Phase::Certificates);
            let over = |_| DialError::failed(to, deadline.over(Phase::Certificates));
            let client = timeout_at(deadline.at, self.tls.client()).await.map_err(over)?;
            Some(client.map_err(|error| DialError::failed(to, error))?)
        } else {
            None
        };
        let tls = client.as_ref().map(|client| (client, Protocols::Any));
        let stream = self.dialler.dial(to, tls, deadline, &progress).await?;
        Ok(Connection { stream, _held: held })
    }

    pub(crate) fn connect_limit(&self, from: Instant) -> Deadline {
        Deadline::limit(from, self.bounds.connect, "connect-timeout")
    }
}
