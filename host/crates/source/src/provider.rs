//! Provider traits: the interface between the driver and the code of a source, a plugin or native Rust code.

use async_trait::async_trait;
use reloader_engine::types::{Cursor, Event, Failure, Outcome};

/// Provider of the values of one source.
///
/// Each call must end: the implementation applies its own time limits.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Creates a reader. A reader may keep a connection or a plugin instance between two reads; the driver
    /// drops an idle reader.
    fn reader(&self) -> Box<dyn Reader>;

    /// Arms a watch. Every change of the value after the return of this function produces an event. `known` is the
    /// cursor of the value that the caller already has.
    ///
    /// # Errors
    ///
    /// Fails if the source cannot be watched, at present or at all.
    async fn arm(&self, known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure>;

    /// Returns the grants, denials and memory usage of a sandboxed provider. `None` for native code, which has
    /// no restrictions.
    fn confinement(&self) -> Option<Confinement> {
        None
    }
}

/// Sandbox status of a provider: its grants, denied accesses and memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Grants, as text for the operator.
    pub granted: Vec<String>,
    /// Denied accesses: access with the reason of the denial, and the number of attempts.
    pub denied: Vec<(String, u64)>,
    /// Memory in use, in bytes.
    pub memory: usize,
}

/// Reader of the current value of a source.
#[async_trait]
pub trait Reader: Send {
    /// Reads the current value. `known` is the cursor of the value that the caller already has.
    ///
    /// # Errors
    ///
    /// Fails if the source cannot determine its value. A source without a value is not a failure: it returns
    /// [`Outcome::Absent`].
    async fn read(&mut self, known: Option<Cursor>) -> Result<Outcome, Failure>;
}

/// Armed watch of a source.
#[async_trait]
pub trait Watcher: Send {
    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// Fails if the watch is lost. The driver then drops it and arms a new one.
    async fn next(&mut self) -> Result<Event, Failure>;
}
