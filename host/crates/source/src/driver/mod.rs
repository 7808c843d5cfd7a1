//! Driver: owns the engine of one source and executes its effects.
//!
//! The driver calls the source through an [`Adapter`] and publishes to a [`Publish`]. It is a single future and
//! spawns no tasks.

mod adapter_traits;
mod clock_and_seed;
mod event_loop;
mod metrics_recorder;
mod source_log;

pub(crate) use adapter_traits::{Adapter, Publish, WatchResult};
pub(crate) use clock_and_seed::{now, seed};
pub(crate) use event_loop::{Command, Driver, Ended};
