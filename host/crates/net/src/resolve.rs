//! From names to addresses.

use reloader_policy::HostPort;
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Finds the addresses of a name. It may block.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of a name, the best ones first.
    ///
    /// # Errors
    ///
    /// What the name servers, or the way to them, say.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// As every program of this machine resolves names.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// Look-ups that can be in progress for all sources together. A look-up takes a thread until it ends,
/// whether anybody still waits for it or not, and files are read by threads of the same pool.
pub(crate) const ALL: usize = 64;
/// The same for one source, so that a name whose servers do not answer holds up nobody else.
const OWN: usize = 2;

/// A source's look-ups.
#[derive(Debug, Clone)]
pub(crate) struct LookUps {
    resolver: Arc<dyn Resolve>,
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl LookUps {
    pub(crate) fn new(resolver: Arc<dyn Resolve>, all: Arc<Semaphore>) -> Self {
        Self { resolver, all, own: Arc::new(Semaphore::new(OWN)) }
    }

    /// The addresses of a host, at least one. Asks once.
    pub(crate) async fn addresses(&self, of: &HostPort) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = of.address() {
            return Ok(vec![SocketAddr::new(address, of.port())]);
        }
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(io::Error::other)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
        let (resolver, host, port) = (Arc::clone(&self.resolver), of.host(), of.port());
        let answer = spawn_blocking(move || {
            // Given back when the look-up ends, not when nobody waits for it any more.
            let _held = (own, all);
            resolver.resolve(&host, port)
        });
        let mut addresses = answer.await.map_err(io::Error::other)??;
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(addresses)
    }
}
