//! Adapter between the driver and a provider: reads, arms watches and validates, with panics caught.

use crate::{
    caught_panics::{CatchDrop, catch_panic, panic_failure},
    driver::{Adapter, WatchResult},
    latest_value::Subscription,
    provider::{Provider, Reader, Watcher},
    spans::{mark_failed, span},
    validator::{Candidate, Validator, validate_within_time_limit},
};
use reloader_engine::types::{Cursor, Failure, FailureKind, Outcome, Snapshot, SourceName};
use reloader_util::panics;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tracing::Instrument;

/// Adapter that lets the driver read, watch and validate a source, by calls to its [`Provider`] and validator.
pub(crate) struct ProviderAdapter {
    name: SourceName,
    provider: Arc<dyn Provider>,
    validation: Option<Validation>,
}

/// Validator, and the subscription that has the last good value (`Candidate::before`).
struct Validation {
    validator: Arc<dyn Validator>,
    latest: Subscription,
}

impl ProviderAdapter {
    pub(crate) fn new(
        source: &SourceName,
        provider: Arc<dyn Provider>,
        validator: Option<Arc<dyn Validator>>,
        latest: &Subscription,
    ) -> Self {
        let validation =
            validator.map(|validator| Validation { validator, latest: latest.clone() });
        Self { name: source.clone(), provider, validation }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Adapter for ProviderAdapter {
    type Value = Snapshot;
    type Reader = CatchDrop<Box<dyn Reader>>;
    type ReadFuture = BoxFuture<(Option<Self::Reader>, Result<Outcome, Failure>)>;
    type Watch = CatchDrop<Box<dyn Watcher>>;
    type WatchFuture = BoxFuture<(Option<Self::Watch>, WatchResult<Snapshot>)>;
    type ValidateFuture = ValidateFuture;

    const READER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

    fn read(&mut self, reader: Option<Self::Reader>, known: Option<Cursor>) -> Self::ReadFuture {
        let provider = Arc::clone(&self.provider);
        let reading = async move {
            let opened = match reader {
                Some(reader) => Ok(reader),
                None => panics::catch(|| provider.reader()).map(CatchDrop::new),
            };
            let mut reader = match opened {
                Ok(reader) => reader,
                Err(message) => {
                    let failure = panic_failure(&message);
                    mark_failed(&failure);
                    return (None, Err(failure));
                }
            };
            let result = catch_panic(|| reader.read(known)).await;
            let Err(failure) = &result else { return (Some(reader), result) };
            mark_failed(failure);
            // A reader is not used again after a crash.
            let reader = (failure.kind != FailureKind::Crashed).then_some(reader);
            (reader, result)
        };
        Box::pin(reading.instrument(span!("read", source = %self.name)))
    }

    fn arm(&mut self, known: Option<Cursor>) -> Self::WatchFuture {
        let provider = Arc::clone(&self.provider);
        let arming = async move {
            match catch_panic(|| provider.arm(known)).await {
                Ok(watch) => (Some(CatchDrop::new(watch)), WatchResult::Armed),
                Err(failure) => {
                    mark_failed(&failure);
                    (None, WatchResult::Lost(failure))
                }
            }
        };
        Box::pin(arming.instrument(span!("arm", source = %self.name)))
    }

    fn next_event(&mut self, mut watch: Self::Watch) -> Self::WatchFuture {
        Box::pin(async move {
            match catch_panic(|| watch.next()).await {
                Ok(event) => (Some(watch), WatchResult::Event(event)),
                Err(failure) => (None, WatchResult::Lost(failure)),
            }
        })
    }

    fn validate(&mut self, value: &Snapshot) -> ValidateFuture {
        let Some(Validation { validator, latest }) = &mut self.validation else {
            return ValidateFuture(None);
        };
        let (validator, source) = (Arc::clone(validator), self.name.clone());
        let (new, before) = (value.clone(), latest.get());
        let span = span!("validate", source = %source);
        let validating = async move {
            let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
            let validation = || Box::pin(validate_within_time_limit(&*validator, &candidate));
            let result = catch_panic(validation).await;
            if let Err(failure) = &result {
                mark_failed(failure);
            }
            result
        };
        ValidateFuture(Some(Box::pin(validating.instrument(span))))
    }
}

/// Validation in progress. `None` without a validator: every value is accepted.
pub(crate) struct ValidateFuture(Option<BoxFuture<Result<(), Failure>>>);

impl Future for ValidateFuture {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut self.0 {
            Some(validating) => validating.as_mut().poll(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
