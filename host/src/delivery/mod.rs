//! Where values go: a worker for each sink, which always takes the newest state.
//!
//! A [`Worker`] sees the values of one source, or of several, and hands them to a [`Sink`]: at once, and
//! again after a failure, until it is done or there is something newer. Each is a task of its own, so that
//! none holds up another. What kind of sink it is, is written in [`SinkSettings`]; a program that embeds
//! the library makes its own by the trait, or takes one of these as it is:
//!
//! ```
//! use reloader_host::{delivery, model::{Snapshot, SourceName}, store::store};
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
//!     Box::new(delivery::Forgetful),
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

mod doubts;
mod exec;
mod file;
mod inputs;
mod payload;
mod settings;
mod signal;
mod sink;
mod status;
mod stdout;
mod target;
mod template;
mod template_engine;
mod update;
mod webhook;
mod worker;
mod write;

pub use doubts::Doubt;
pub use exec::{Exec, ExecInput, ExecSettings};
pub use file::{File, FileSettings};
pub use reloader_util::digest::Digest;
pub use settings::{Common, Kind, SinkSettings, StdoutSettings};
pub use signal::{SignalSettings, SignalTo};
pub use sink::{Delivered, Retry, Sink, SinkError};
pub use status::{SinkState, SinkStatus};
pub use stdout::{Format, Stdout, StdoutSink};
pub use target::{Backup, Mode, TargetSettings};
pub use template::{Parse, Template, TemplateSettings};
pub use update::{Part, Update};
pub use webhook::{Webhook, WebhookFormat, WebhookSettings};
pub use worker::{Forgetful, Ledger, OnRemoved, Stopper, WaitSettings, Worker, WorkerSettings};
