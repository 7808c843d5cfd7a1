//! Free TCP ports for servers that cannot choose a port themselves.

use std::net::TcpListener;

/// Returns a port that is currently free.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
