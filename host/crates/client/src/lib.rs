//! Client of a running host: status of its sources, their values, and change notifications.
//!
//! The crate depends on neither wasmtime nor the server, so that a program that only reads values stays small.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use reloader_client::{Client, Change};
//!
//! let host = Client::new("http://127.0.0.1:7878")?;
//! let mut values = host.watch("app");
//! loop {
//!     match values.next().await? {
//!         Change::Value(value) => println!("{}: {:?}", value.revision, value.content),
//!         Change::Removed { .. } => println!("removed"),
//!     }
//! }
//! # }
//! ```
//!
//! Transports: HTTP, HTTPS and Unix sockets. Each request opens its own connection, and has a timeout and a size
//! limit.

mod buffered_response;
mod client;
mod client_error;
mod long_poll_watch;
mod value_response;

pub use client::Client;
pub use client_error::ClientError;
pub use long_poll_watch::{Change, Watch};
pub use value_response::Value;
