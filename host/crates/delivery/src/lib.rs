//! Delivery of values to sinks, validation of values, and child processes.
//!
//! A [`Worker`] subscribes to one or several sources and delivers their values to a [`Sink`]. It
//! retries a failed delivery with exponential backoff until the delivery succeeds, a newer value
//! replaces the failed one, or the retries are exhausted. Workers coalesce: a busy sink skips
//! intermediate values. Each worker is a task, so that a slow sink does not delay other sinks.
//!
//! [`source_value_validation`] checks the new values of a source before they are published.
//! [`process`] runs commands and supervises the program that uses the values.
//!
//! The crate receives values through [`Subscription`](reloader_source::latest_value::Subscription), and
//! does not depend on the plugin runtime. A program with native sources only can therefore use it without
//! plugins.
//!
//! [`SinkSettings`] describe a sink in a configuration file. A program that embeds the library
//! implements [`Sink`] or constructs one of the sinks of this crate:
//!
//! ```
//! use reloader_delivery as delivery;
//! use reloader_engine::types::{Snapshot, SourceName};
//! use reloader_source::latest_value::store;
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
//!     Box::new(delivery::NoDeliveryRecords),
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

mod delivery_log;
mod delivery_record_store;
mod delivery_values;
mod document_node_count_and_emptiness;
mod notifier_waits_for_file_sinks;
mod preflight_warning;
mod serial_blocking_jobs;
mod sink;
mod sink_preflight;
mod sink_settings;
mod sink_settings_serde;
mod sink_status;
mod sinks;
mod source_subscriptions;
mod worker;
mod worker_settings;

pub mod process;
pub mod source_value_validation;

pub use delivery_record_store::{DeliveryRecordStore, NoDeliveryRecords};
pub use delivery_values::{Part, Update};
pub use notifier_waits_for_file_sinks::Predecessor;
pub use preflight_warning::PreflightWarning;
pub use reloader_util::digest::Digest;
pub use serial_blocking_jobs::BlockingOperation;
pub use sink::{Delivered, ExternalChange, FileContent, Retry, Sink, SinkError};
pub use sink_settings::{CommonSettings, SinkKind, SinkSettings};
pub use sink_status::{SinkState, SinkStatus};
pub use sinks::{
    exec::{Exec, ExecInput, ExecSettings},
    file::{Encoding, File, FileSettings},
    file_settings::{Backup, Mode, RepairInterval, TargetSettings},
    signal::{SignalSettings, SignalSink},
    stdout::{Format, Stdout, StdoutSettings, StdoutSink},
    template::{Template, TemplateSettings},
    template_variables::Parse,
    webhook::{Webhook, WebhookFormat, WebhookSettings},
};
pub use worker::{Stopper, Worker};
pub use worker_settings::{OnRemoved, WaitSettings, WorkerSettings};
