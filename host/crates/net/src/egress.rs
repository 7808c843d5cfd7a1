//! Egress of a source: its outbound connections and HTTP clients, under its address policy and limits.

use crate::{
    bounded_name_lookups::{Resolve, SourceResolver, SystemResolver},
    connection_limit::ConnectionLimit,
    connection_thread_executor::ConnectionExecutor,
    deadline::{DEFAULT_TIMEOUT, Deadline, MAX_TIMEOUT, Phase, Progress},
    dial::{DialError, Dialler},
    source_http_clients::HttpClients,
    stream::Stream,
    tls_config::TlsClientCache,
    tls_settings::TlsSettings,
    tls_stream::Protocols,
};
use reloader_policy::{AddressPolicy, HostPort};
use reloader_util::thread_priority_pool::{ThreadPool, ThreadPriority};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

/// Network resources shared by all sources: the resolver and the connection threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    resolver: Arc<dyn Resolve>,
    /// Threads for the HTTP connections, so that the traffic of servers does not delay the threads of the program.
    connections: Arc<ThreadPool>,
}

impl Default for Network {
    fn default() -> Self {
        Self::resolving(Arc::new(SystemResolver))
    }
}

/// Address policy and TLS settings of a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EgressSettings {
    /// Addresses that names may resolve to, in addition to public ones.
    pub addresses: AddressPolicy,
    /// TLS settings of the connections.
    pub tls: TlsSettings,
}

/// Network limits of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// Maximum number of connections held by the plugin and of running requests, together. The same maximum applies
    /// separately to the HTTP connections of the source, including idle ones.
    pub connections: usize,
    /// Timeout for a connection: name resolution, dialling and TLS handshake.
    pub connect: Duration,
    /// Timeout from one part of a response body to the next.
    pub idle: Duration,
    /// Timeout for a whole request, including reading the body.
    pub total: Duration,
    /// Maximum size of a response body after decompression, in bytes.
    pub body: usize,
    /// Maximum size of a response head, in bytes. `hyper` also limits it to 100 header fields.
    pub head: usize,
}

impl Network {
    /// Creates a network that looks up names with `resolver` instead of the operating system.
    #[must_use]
    pub fn resolving(resolver: Arc<dyn Resolve>) -> Self {
        let connections = Arc::new(ThreadPool::new("reloader-http", 1, ThreadPriority::Normal));
        Self { resolver, connections }
    }

    /// Creates the egress of a source. Connects to nothing yet.
    #[must_use]
    pub fn egress(&self, reach: EgressSettings, bounds: EgressLimits) -> Egress {
        let EgressSettings { addresses, tls } = reach;
        let executor = ConnectionExecutor::new(&self.connections);
        let resolver = SourceResolver::new(Arc::clone(&self.resolver));
        Egress {
            dialler: Dialler {
                resolver,
                address_policy: Arc::new(addresses),
                executor,
                http_connections: ConnectionLimit::new(bounds.connections),
            },
            tls: Arc::new(TlsClientCache::new(tls)),
            clients: HttpClients::new(bounds.head),
            in_use: ConnectionLimit::new(bounds.connections),
            bounds,
        }
    }
}

/// Egress of a source.
///
/// HTTP connections are reused within a source but never shared between sources: another source may
/// authenticate as a different client, and would queue behind the requests of this one.
#[derive(Debug)]
pub struct Egress {
    pub(crate) dialler: Dialler,
    pub(crate) tls: Arc<TlsClientCache>,
    pub(crate) clients: HttpClients,
    pub(crate) bounds: EgressLimits,
    /// Limit of connections held by the plugin and of running requests, together.
    pub(crate) in_use: ConnectionLimit,
}

/// Connection. It counts towards [`EgressLimits::connections`] until it is dropped.
pub struct Connection {
    /// Byte stream to the server, over TCP or TLS.
    pub stream: Box<dyn Stream>,
    _permit: OwnedSemaphorePermit,
}

impl Egress {
    /// Connects to `to`, with TLS if `with_tls`. `timeout` is limited to [`EgressLimits::connect`] and 10 minutes.
    ///
    /// # Errors
    ///
    /// [`DialError`].
    pub async fn dial(
        &self,
        to: &HostPort,
        with_tls: bool,
        timeout: Duration,
    ) -> Result<Connection, DialError> {
        let permit = self.in_use.acquire(to)?;
        let now = Instant::now();
        let requested = Deadline::requested(now, Some(timeout), DEFAULT_TIMEOUT, MAX_TIMEOUT);
        let deadline = requested.earlier(self.connect_deadline(now));
        let progress = Progress::default();
        let client = if with_tls {
            let phase = Phase::ReadingCertificates;
            progress.enter(phase);
            let timed_out = |_| DialError::failed(to, deadline.timeout_message(phase));
            let client = timeout_at(deadline.at, self.tls.client()).await.map_err(timed_out)?;
            Some(client.map_err(|error| DialError::failed(to, error))?)
        } else {
            None
        };
        let tls = client.as_ref().map(|client| (client, Protocols::Any));
        let stream = self.dialler.dial(to, tls, deadline, &progress).await?;
        Ok(Connection { stream, _permit: permit })
    }

    pub(crate) fn connect_deadline(&self, from: Instant) -> Deadline {
        Deadline::limit(from, self.bounds.connect, "connect-timeout")
    }
}
