//! Storage of an instance's source or validator, and dispatch of the component's exports to the SDK traits that
//! the source or validator implements.

use super::{
    bindings::{
        source::reloader::plugin::types as wit,
        validating::exports::reloader::plugin::validate as validating,
    },
    imports::Imports,
    log,
};
use crate::{
    Event, Failure, FailureKind, Host, Outcome, RealtimeWatch, Reload, Snapshot, Validation,
    Validator,
};
use std::cell::RefCell;

/// Holder of the source or validator between calls of the component's exports. A `RefCell` suffices, since a component
/// has one thread.
pub struct Slot<T>(RefCell<Option<T>>);

impl<T> Slot<T> {
    /// Creates an empty slot. The export `open` fills it.
    #[must_use]
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> Result<R, Failure>) -> Result<R, wit::Failure> {
        match self.0.borrow_mut().as_mut() {
            Some(source) => f(source).map_err(Into::into),
            None => Err(Failure::permanent("the host called the plugin before `open`").into()),
        }
    }
}

impl<T: Reload> Slot<T> {
    /// Implements the WIT export `open` of a source plugin: creates the source from its settings.
    pub fn open(&self, settings: &str) -> Result<(), wit::Failure> {
        log::install();
        let source = T::new(parse_settings(settings)?, &Host::new(Imports))?;
        self.0.replace(Some(source));
        Ok(())
    }

    /// Implements the WIT export `reload`: reads the value. `known` is the cursor of the host's latest value.
    pub fn reload(&self, known: Option<String>) -> Result<wit::Outcome, wit::Failure> {
        self.with(|source| source.reload(known.as_deref())).map(Into::into)
    }
}

impl<T: Validator> Slot<T> {
    /// Implements the WIT export `open` of a validator plugin: creates the validator from its settings.
    pub fn open_validator(&self, settings: &str) -> Result<(), wit::Failure> {
        log::install();
        self.0.replace(Some(T::new(parse_settings(settings)?)?));
        Ok(())
    }

    /// Implements the WIT export `validate`: accepts or rejects a new value.
    pub fn validate(
        &self,
        value: wit::Snapshot,
        previous: Option<wit::Snapshot>,
    ) -> Result<validating::Validation, wit::Failure> {
        let (value, previous) = (Snapshot::from(value), previous.map(Snapshot::from));
        let validation = self.with(|validator| validator.validate(&value, previous.as_ref()))?;
        Ok(match validation {
            Validation::Accepted => validating::Validation::Accepted,
            Validation::Rejected(reason) => validating::Validation::Rejected(reason),
        })
    }
}

fn parse_settings<C: serde::de::DeserializeOwned>(settings: &str) -> Result<C, Failure> {
    serde_json::from_str(settings)
        .map_err(|error| Failure::config(format!("invalid settings: {error}")))
}

impl<T: RealtimeWatch> Slot<T> {
    /// Implements the WIT export `arm`: starts the watch. `known` is the cursor of the host's latest value.
    pub fn arm(&self, known: Option<String>) -> Result<(), wit::Failure> {
        self.with(|source| source.watch(known.as_deref()))
    }

    /// Implements the WIT export `next`: waits for the next event of the watch.
    pub fn next(&self) -> Result<wit::Event, wit::Failure> {
        self.with(RealtimeWatch::next).map(Into::into)
    }
}

impl From<wit::Snapshot> for Snapshot {
    fn from(snapshot: wit::Snapshot) -> Self {
        let wit::Snapshot { content, media_type, cursor } = snapshot;
        Self { content, media_type, cursor }
    }
}

impl From<Snapshot> for wit::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { content, media_type, cursor } = snapshot;
        Self { content, media_type, cursor }
    }
}

impl From<Outcome> for wit::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Absent => Self::Absent,
            Outcome::Changed(snapshot) => Self::Changed(snapshot.into()),
        }
    }
}

impl From<Event> for wit::Event {
    fn from(event: Event) -> Self {
        match event {
            Event::Changed(snapshot) => Self::Changed(snapshot.into()),
            Event::Dirty => Self::Dirty,
            Event::Removed => Self::Removed,
            Event::Alive => Self::Alive,
        }
    }
}

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        let Failure { kind, message } = failure;
        match kind {
            FailureKind::Config => Self::Config(message),
            FailureKind::Denied => Self::Denied(message),
            FailureKind::Permanent => Self::Permanent(message),
            FailureKind::Transient { retry_after } => Self::Transient(wit::Retryable {
                message,
                retry_after_ms: retry_after.map(|d| d.as_millis().try_into().unwrap_or(u64::MAX)),
            }),
        }
    }
}
