//! SDK for plugins of the reloader host. A plugin is a small WebAssembly component.
//!
//! A *source* holds a value that changes: a file, a key, a URL. A source plugin implements the read
//! ([`Reload`]) and optionally a watch for changes ([`RealtimeWatch`]). The host provides polling, backoff,
//! reconnects, change detection and delivery.
//!
//! # Minimal plugin
//!
//! ```
//! use guest_sdk::{Failure, Host, Outcome, Reload, Snapshot};
//!
//! /// A greeting.
//! #[guest_sdk::settings]
//! struct Settings {
//!     /// Name of the person to greet.
//!     #[setting(default = "world")]
//!     name: String,
//! }
//!
//! struct Greeting(Settings);
//!
//! impl Reload for Greeting {
//!     type Config = Settings;
//!
//!     fn new(config: Settings, _host: &Host) -> Result<Self, Failure> {
//!         Ok(Self(config))
//!     }
//!
//!     fn reload(&mut self, _known: Option<&str>) -> Result<Outcome, Failure> {
//!         Ok(Snapshot::new(format!("Hello, {}!", self.0.name)).into())
//!     }
//! }
//!
//! guest_sdk::export!(Greeting: Reload);
//! # fn main() {}
//! ```
//!
//! `Cargo.toml` of the plugin, in a folder of its own:
//!
//! ```toml
//! [package]
//! name = "greeting"
//! version = "0.1.0"
//! edition = "2024"
//! description = "Greets"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! guest_sdk = { package = "reloader-guest-sdk", path = "…/guest-sdk" }   # or git = "…"
//!
//! [profile.release]        # small components start faster
//! opt-level = "s"
//! lto = true
//! codegen-units = 1
//! strip = true
//! panic = "abort"
//! ```
//!
//! Build, inspect and run the plugin:
//!
//! ```sh
//! rustup target add wasm32-wasip2
//! cargo build --release --target wasm32-wasip2
//! host inspect target/wasm32-wasip2/release/greeting.wasm
//! host run --plugin target/wasm32-wasip2/release/greeting.wasm --set name=you --once
//! ```
//!
//! # Settings and grants
//!
//! A plugin has no access to files, the network or the environment by default. An annotation on a setting
//! grants access to the value that the operator sets, and to nothing else:
//!
//! | annotation | value of the setting | grant |
//! |---|---|---|
//! | `connect` | URL with the scheme `http` or `https` | requests to the URL's origin with [`Host::send`] |
//! | `connect(redis = 6379, rediss = 6379)` | URL with one of the schemes; the number is the default port | the URL's host and port with [`Host::connect`] |
//! | `read` | path | the file with [`Host::read_file`] and [`Host::watch_file`] |
//! | `secret` | password or token | none; the value is redacted in logs and output |
//!
//! A setting with `default = …` or the type `Option` is optional. The host rejects unknown settings before
//! it starts the plugin. See [`settings`](macro@settings).
//!
//! # Watching for changes
//!
//! ```
//! use guest_sdk::{Event, Failure, FileError, FileWatch, Host, Outcome, RealtimeWatch, Reload, Snapshot};
//! use std::time::Duration;
//!
//! #[guest_sdk::settings]
//! struct Settings {
//!     /// Path of the file.
//!     #[setting(read)]
//!     path: String,
//! }
//!
//! struct OneFile {
//!     path: String,
//!     host: Host,
//!     watch: Option<FileWatch>,
//! }
//!
//! impl Reload for OneFile {
//!     type Config = Settings;
//!
//!     fn new(config: Settings, host: &Host) -> Result<Self, Failure> {
//!         Ok(Self { path: config.path, host: host.clone(), watch: None })
//!     }
//!
//!     fn reload(&mut self, _known: Option<&str>) -> Result<Outcome, Failure> {
//!         match self.host.read_file(&self.path) {
//!             Ok(content) => Ok(Snapshot::new(content).into()),
//!             // A missing file is a definite answer, not a failure.
//!             Err(FileError::NotFound) => Ok(Outcome::Absent),
//!             Err(error) => Err(error.into()),
//!         }
//!     }
//! }
//!
//! impl RealtimeWatch for OneFile {
//!     fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
//!         self.watch = Some(self.host.watch_file(&self.path)?);
//!         Ok(())
//!     }
//!
//!     fn next(&mut self) -> Result<Event, Failure> {
//!         let watch = self.watch.as_mut().ok_or_else(|| Failure::permanent("not watching"))?;
//!         match watch.wait(Duration::from_secs(30))? {
//!             true => Ok(Event::Dirty),
//!             false => Ok(Event::Alive),
//!         }
//!     }
//! }
//!
//! guest_sdk::export!(OneFile: Reload + RealtimeWatch);
//!
//! // Unit tests run natively, without WebAssembly, against a fake host:
//! # fn main() {
//! let fake = guest_sdk::FakeHost::new();
//! fake.put_file("app.toml", "a = 1");
//! let settings = Settings { path: "app.toml".into() };
//! let mut source = OneFile::new(settings, &fake.host()).unwrap();
//! assert_eq!(source.reload(None), Ok(Snapshot::new("a = 1").into()));
//!
//! source.watch(None).unwrap();
//! assert_eq!(source.next(), Ok(Event::Alive));
//! fake.put_file("app.toml", "a = 2");
//! assert_eq!(source.next(), Ok(Event::Dirty));
//! # }
//! ```
//!
//! # Validators
//!
//! A component can also validate the values of other plugins' sources before the host publishes them: see
//! [`Validator`].
//!
//! # Failures
//!
//! The operator `?` converts errors of files, connections and requests to a [`Failure`]. The kind of a
//! failure determines the host's reaction:
//!
//! | kind | reaction of the host |
//! |---|---|
//! | `config` | A source that has had no value yet ends. Otherwise the host retries at a low rate. |
//! | `denied` | The host retries at a low rate. |
//! | `transient` | The host retries with exponential backoff. |
//! | `permanent` | The host retries at a low rate. |
//!
//! A failure never removes a value. Only [`Outcome::Absent`] and [`Event::Removed`] remove a value, so a
//! plugin returns them only for a definite answer that the value does not exist.
//!
//! # Host functions and logging
//!
//! A plugin accesses files and the network through [`Host`] only. `std::fs` and `std::net` compile, but
//! provide no access. `std::env` contains only the environment variables that the operator grants. The output
//! of `println!` is discarded.
//!
//! The host's log shows events of the `tracing` crate ([`tracing`]) with their fields, and the message and
//! location of a panic. After a panic the host discards the instance and creates a new one.

mod backend;
mod connection;
mod export;
mod failure;
#[cfg(not(target_family = "wasm"))]
mod fake;
mod file_watch;
mod host_handle;
mod http;
mod source;
mod validator;

#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod guest;
#[doc(hidden)]
pub mod schema;

pub use connection::{Connection, EndpointError, Target};
pub use failure::{Failure, FailureKind};
#[cfg(not(target_family = "wasm"))]
pub use fake::{FakeHost, FakeResponse, Script};
pub use file_watch::{FileError, FileWatch};
pub use host_handle::Host;
pub use http::{Chunk, HttpError, Request, Response};
pub use source::{Event, Outcome, RealtimeWatch, Reload, Snapshot};
pub use validator::{Validation, Validator};

/// Derives deserialization and a JSON Schema for a struct or an enum of a plugin's settings.
///
/// Deserialization uses `serde` and rejects unknown names. The schema is embedded in the component. Doc
/// comments become descriptions, so write them for the operator. The type of a field is a string, a number,
/// a boolean, a path, `Option`, `Vec`, a map with string keys, or another type with this attribute. An enum
/// has unit variants only; their names are in kebab-case.
///
/// ```
/// /// Settings of a queue.
/// #[guest_sdk::settings]
/// struct Settings {
///     /// URL of the server, e.g. `queue://host`.
///     #[setting(connect(queue = 4000))]
///     url: String,
///     /// Password of the server.
///     #[setting(secret)]
///     password: Option<String>,
///     /// Number of messages in one batch.
///     #[setting(default = 16)]
///     batch: u32,
///     /// Position of the first message to read.
///     #[setting(default = "newest")]
///     start: Start,
/// }
///
/// #[guest_sdk::settings]
/// enum Start { Newest, Oldest }
/// ```
pub use reloader_guest_sdk_macros::settings;

#[doc(hidden)]
pub use serde;
pub use tracing;

// Generated code refers to this crate as `guest_sdk`, also within this crate.
#[allow(unused_extern_crates, reason = "used by generated code")]
extern crate self as guest_sdk;

/// Version of this SDK. It is embedded in every component.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
