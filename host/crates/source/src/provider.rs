//! The edge between the engine's driver and whatever a source is made of: a plugin, or Rust code.

use async_trait::async_trait;
use reloader_engine::types::{Cursor, Event, Failure, Outcome};

/// Where a source's values come from. One origin serves one source.
///
/// Every call is expected to end: an implementation limits its own time.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Something that reads the source. Reading may keep a connection or an instance for the next
    /// time; the driver drops the reader when the source rests.
    fn reader(&self) -> Box<dyn Reader>;

    /// Something that watches the source, armed: every change from now on gives an event.
    ///
    /// # Errors
    ///
    /// When the source cannot be watched, now or ever.
    async fn arm(&self, known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure>;

    /// What it may reach, and what it takes, if it is not to be trusted with everything.
    fn confinement(&self) -> Option<Confinement> {
        None
    }
}

/// How a stranger's code is held at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// What it may reach, in words for the operator.
    pub granted: Vec<String>,
    /// What it was refused, why, and how often.
    pub refused: Vec<(String, u64)>,
    /// The memory that it has taken, in bytes.
    pub memory: usize,
}

/// Reads a source.
#[async_trait]
pub trait Reader: Send {
    /// The present value. `known` is the cursor of the value that the caller already has.
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from answering for certain.
    async fn read(&mut self, known: Option<Cursor>) -> Result<Outcome, Failure>;
}

/// Watches a source.
#[async_trait]
pub trait Watcher: Send {
    /// The next event.
    ///
    /// # Errors
    ///
    /// When the watch is lost; it is not used again.
    async fn next(&mut self) -> Result<Event, Failure>;
}
