//! Name resolution with a bounded number of concurrent lookups.

use crate::name_lookup_pool;
use reloader_policy::HostPort;
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Resolver of host names. It may block.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Returns all addresses of a name, in order of preference.
    ///
    /// # Errors
    ///
    /// Returns an error if the lookup fails.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Resolver that calls `getaddrinfo` of the operating system.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// Maximum number of concurrent lookups of one source. The limit isolates other sources from a name server that
/// does not answer.
const MAX_CONCURRENT_LOOKUPS_PER_SOURCE: usize = 2;

/// Resolver for the names that one source connects to. Bounds its concurrent lookups.
#[derive(Debug, Clone)]
pub(crate) struct SourceResolver {
    resolver: Arc<dyn Resolve>,
    permits: Arc<Semaphore>,
}

impl SourceResolver {
    pub(crate) fn new(resolver: Arc<dyn Resolve>) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_LOOKUPS_PER_SOURCE));
        Self { resolver, permits }
    }

    /// Returns the distinct addresses of a host, at least one. Looks the name up once.
    pub(crate) async fn resolve(&self, to: &HostPort) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = to.address() {
            return Ok(vec![SocketAddr::new(address, to.port())]);
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let (resolver, host, port) = (Arc::clone(&self.resolver), to.host(), to.port());
        let lookup = name_lookup_pool::run(move || {
            // Held until the lookup ends, even if the caller gives up earlier.
            let _permit = permit;
            resolver.resolve(&host, port)
        });
        let mut addresses = lookup.await?;
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no addresses"));
        }
        Ok(addresses)
    }
}
