//! Delivery of values to sinks, validation of values, and child processes.
//!
//! A [`Worker`] subscribes to one or several sources and delivers their values to a [`Sink`]. It
//! retries a failed delivery with exponential backoff until the delivery succeeds or a newer value
//! replaces the failed one. Workers coalesce: a busy sink skips intermediate values. Each worker is
//! a task, so that a slow sink does not delay other sinks.
//!
//! [`validate`] checks a value before it is published. [`process`] runs commands and supervises the
//! program that uses the values.
//!
//! The crate depends on the subscriptions of sources only. Native sources are therefore delivered
//! without a plugin runtime.
//!
//! [`SinkSettings`] describe a sink in a configuration file. A program that embeds the library
//! implements [`Sink`] or constructs one of the sinks of this crate:
//!
//! ```
//! use reloader_delivery as delivery;
//! use reloader_engine::types::{Snapshot, SourceName};
//! use reloader_source::store::store;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("app.toml");
//! let (writer, reader) = store(); // or a running source's `subscribe()`
//! let sink = delivery::File::new(delivery::FileSettings::new(&path));
//! let worker = delivery::Worker::new(
//!     "app/file",
//!     vec![(SourceName::new("app"), reader)],
//!     Box::new(sink),
//!     delivery::WorkerSettings::default(),
//!     Box::new(delivery::NoDeliveryLog),
//! );
//! let mut status = worker.status();
//! tokio::spawn(worker.run());
//!
//! writer.publish(1.into(), Some(Snapshot::new("port = 80")));
//! status.wait_for(|status| status.delivered == Some(1.into())).await?;
//! assert_eq!(std::fs::read_to_string(&path)?, "port = 80");
//! # Ok(())
//! # }
//! ```

mod atomic_write;
mod exec;
mod file;
mod file_settings;
mod inputs;
mod outline;
mod payload;
mod preflight;
mod settings;
mod signal;
mod sink;
mod status;
mod stdout;
mod template;
mod template_engine;
mod update;
mod webhook;
mod worker;

pub mod process;
pub mod validate;

pub use exec::{Exec, ExecInput, ExecSettings};
pub use file::{File, FileSettings};
pub use file_settings::{Backup, Mode, TargetSettings};
pub use preflight::PreflightWarning;
pub use reloader_util::digest::Digest;
pub use settings::{Common, Kind, SinkSettings, StdoutSettings};
pub use signal::{SignalSettings, SignalTo};
pub use sink::{Delivered, Retry, Sink, SinkError};
pub use status::{SinkState, SinkStatus};
pub use stdout::{Format, Stdout, StdoutSink};
pub use template::{Parse, Template, TemplateSettings};
pub use update::{Part, Update};
pub use webhook::{Webhook, WebhookFormat, WebhookSettings};
pub use worker::{
    DeliveryLog, NoDeliveryLog, OnRemoved, Stopper, WaitSettings, Worker, WorkerSettings,
};
