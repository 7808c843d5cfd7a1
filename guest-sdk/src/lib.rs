//! Write a source for the reloader host: a small WebAssembly component in a few lines of Rust.
//!
//! A *source* is anything that holds a value which changes: a file, a key, a URL. The host does the
//! rest: polling, backoff, reconnecting, comparing, delivering. A plugin says how to read its source
//! ([`Reload`]) and, if it can, how to be told of changes ([`RealtimeWatch`]).
//!
//! # The smallest plugin
//!
//! ```
//! use guest_sdk::{Failure, Host, Outcome, Reload, Snapshot};
//!
//! /// A greeting.
//! #[guest_sdk::settings]
//! struct Settings {
//!     /// Whom to greet.
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
//! Its `Cargo.toml`, in a folder of its own:
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
//! Build it, look at it, run it:
//!
//! ```sh
//! rustup target add wasm32-wasip2
//! cargo build --release --target wasm32-wasip2
//! host inspect target/wasm32-wasip2/release/greeting.wasm
//! host run --plugin target/wasm32-wasip2/release/greeting.wasm --set name=you --once
//! ```
//!
//! # Settings, and what they grant
//!
//! A plugin starts with nothing: no files, no network, no environment. What the operator writes into
//! a setting that is marked is granted, exactly that:
//!
//! | mark | the setting holds | and grants |
//! |---|---|---|
//! | `connect` | a URL, `http` or `https` | requests to that origin, for [`Host::send`] |
//! | `connect(redis = 6379, rediss = 6379)` | a URL of one of these schemes | that host and port, for [`Host::connect`]; the number is the port where the URL names none |
//! | `read` | a path | that file, for [`Host::read_file`] and [`Host::watch_file`] |
//! | `secret` | a password, a token | nothing; it is not shown anywhere |
//!
//! `default = …` makes a setting optional, and so does the type `Option`. A setting that the plugin
//! does not know is refused before the plugin runs. See [`settings`](macro@settings).
//!
//! # Being told of changes
//!
//! ```
//! use guest_sdk::{Event, Failure, FileError, FileWatch, Host, Outcome, RealtimeWatch, Reload, Snapshot};
//! use std::time::Duration;
//!
//! #[guest_sdk::settings]
//! struct Settings {
//!     /// The file.
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
//!             // For certain there is nothing, which is no failure.
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
//! // Its logic is tested without WebAssembly, against a host that is made up:
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
//! # Judging values
//!
//! A component may also say whether the values of other plugins' sources are let through: see
//! [`Validator`].
//!
//! # Failing
//!
//! `?` turns the errors of files, connections and requests into a [`Failure`]. Its kind is what
//! counts: `config` ends a start with a clear message, `denied` says what was refused, `transient`
//! is tried again with growing pauses, `permanent` rarely. No failure ever removes a value; only
//! [`Outcome::Absent`] and [`Event::Removed`] do, so they are for a source that says *for certain*
//! that there is nothing.
//!
//! Everything outside is reached through [`Host`]. What `std` offers for it (`std::fs`, `std::net`,
//! `std::env`) compiles, but finds nothing there, and `println!` is not heard.
//!
//! Events of the `tracing` crate ([`tracing`]) reach the host's log with their fields, and so do the message and the
//! place of a panic. After a panic the instance is gone and a new one takes over.

mod endpoint;
mod export;
mod failure;
#[cfg(not(target_family = "wasm"))]
mod fake;
mod file;
mod host;
mod http;
mod source;
mod validator;

#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod guest;
#[doc(hidden)]
pub mod schema;

pub use endpoint::{Connection, EndpointError};
pub use failure::{Failure, FailureKind};
#[cfg(not(target_family = "wasm"))]
pub use fake::{FakeHost, FakeResponse, Script};
pub use file::{FileError, FileWatch};
pub use host::{Host, Target};
pub use http::{Chunk, HttpError, Request, Response};
pub use source::{Event, Outcome, RealtimeWatch, Reload, Snapshot};
pub use validator::{Validator, Verdict};

/// Makes a struct, or an enum of plain names, usable in a plugin's settings.
///
/// It can be parsed (with `serde`, and strictly: a name that is not known is an error), and its JSON
/// Schema is embedded in the component. Doc comments become descriptions, so write them for the
/// operator. Fields may be strings, numbers, booleans, paths, `Option`, `Vec`, maps from strings, and
/// other types marked like this. The names of an enum are written in kebab-case.
///
/// ```
/// /// Settings of a queue.
/// #[guest_sdk::settings]
/// struct Settings {
///     /// Where it is, e.g. `queue://host`.
///     #[setting(connect(queue = 4000))]
///     url: String,
///     /// What to say there.
///     #[setting(secret)]
///     password: Option<String>,
///     /// How many at once.
///     #[setting(default = 16)]
///     batch: u32,
///     /// Where to start.
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

// The macros name this crate by its own name, also inside it.
#[allow(unused_extern_crates, reason = "used by what the macros write")]
extern crate self as guest_sdk;

/// The version of this SDK; embedded in every component.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
