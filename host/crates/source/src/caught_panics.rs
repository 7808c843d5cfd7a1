//! Panics in code of the embedding program (providers, validators, reloaders), as failures of the call.

use reloader_engine::types::{Failure, FailureKind};
use reloader_util::panics;
use std::{
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    pin::Pin,
    task::Poll,
};

/// Returns the failure of a call that panicked with this message.
pub(crate) fn panic_failure(message: &str) -> Failure {
    Failure::new(FailureKind::Crashed, format!("panicked: {message}"))
}

/// Makes a call and waits for its result. A panic, also one of a destructor, becomes a failure of the kind
/// [`FailureKind::Crashed`], so that it does not end the source.
pub(crate) async fn catch_panic<T, F>(call: impl FnOnce() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>> + Unpin,
{
    let mut call = CatchDrop::new(panics::catch(call).map_err(|message| panic_failure(&message))?);
    let result = poll_fn(|context| match panics::catch(|| Pin::new(&mut *call).poll(context)) {
        Ok(poll) => poll,
        Err(message) => Poll::Ready(Err(panic_failure(&message))),
    });
    result.await
}

/// Value whose destructor may panic. The panic is logged, and does not reach the code that drops the value.
pub(crate) struct CatchDrop<T> {
    /// `None` only during the drop.
    value: Option<T>,
}

impl<T> CatchDrop<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value) }
    }
}

impl<T> Deref for CatchDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("the value is present until the drop"))
    }
}

impl<T> DerefMut for CatchDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap_or_else(|| unreachable!("the value is present until the drop"))
    }
}

impl<T> Drop for CatchDrop<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if let Err(error) = panics::catch(|| drop(value)) {
            let kind = std::any::type_name::<T>();
            tracing::warn!(error, dropped = kind, "destructor panicked");
        }
    }
}
