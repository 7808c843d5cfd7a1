//! Hostile servers. Each connection is served by a function in its own thread.

mod http;
mod http2;
mod resp;
mod tcp;
mod tls;

pub use http::{gzip_bomb, http, respond};
pub use http2::Http2;
pub use resp::resp;
pub use tcp::{Server, drip, flood, hold, tcp};
pub use tls::Tls;
